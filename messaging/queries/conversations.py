"""Reading conversations with what a list shows of them, in a fixed number of statements whatever the page."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.db.models.expressions import RawSQL

from messagecore.kernel.api.paging import behind
from messaging.models import Conversation, Participant
from messaging.queries import messages as message_queries
from messaging.queries.messages import MessageView
from messaging.queries.unread import UNREAD_OF_PLACE, Place, places_of

SHOWN_PARTICIPANTS = 100


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation with its first participants, its last message, and the asking user's place."""

    conversation: Conversation
    participants: Sequence[Participant]
    last_message: MessageView | None
    membership: Place | None


def view_conversations(conversations: Sequence[Conversation], *, viewer_id: UUID | None) -> list[ConversationView]:
    """Everything that a list shows of these conversations: at most four statements, whatever their number; two more
    where the viewer blocks who spoke last."""
    ids = [conversation.id for conversation in conversations]
    participants = _first_participants(ids)
    last_messages = _last_messages(conversations, viewer_id)
    memberships: dict[UUID, Place] = {}
    if viewer_id is not None and ids:
        memberships = {place.conversation_id: place for place in places_of(viewer_id, ids).fetch()}
    return [
        ConversationView(
            conversation=conversation,
            participants=participants[conversation.id],
            last_message=_visible(last_messages.get(conversation.id), memberships.get(conversation.id)),
            membership=memberships.get(conversation.id),
        )
        for conversation in conversations
    ]


def _last_messages(conversations: Sequence[Conversation], viewer_id: UUID | None) -> dict[UUID, MessageView]:
    """The newest message of each conversation that the viewer does not hide from themselves."""
    last = {conversation.id: conversation.last_message_id for conversation in conversations}
    ids = [message_id for message_id in last.values() if message_id is not None]
    if not ids:
        return {}
    found = message_queries.get_messages(ids, viewer_id=viewer_id)
    hidden = [place for place, message_id in last.items() if message_id is not None and message_id not in found]
    if viewer_id is not None and hidden:
        earlier = message_queries.last_visible(viewer_id, hidden)
        found |= message_queries.get_messages(list(earlier.values()), viewer_id=viewer_id)
    return {view.conversation_id: view for view in found.values()}


def _visible(message: MessageView | None, membership: Place | None) -> MessageView | None:
    if message is None or (membership is not None and message.seq < membership.visible_from_seq):
        return None
    return message


_FIRST = """
SELECT p.id FROM unnest(%s::uuid[]) AS c(id)
CROSS JOIN LATERAL (SELECT q.id FROM messaging_participant q
  WHERE q.conversation_id = c.id ORDER BY q.joined_at, q.id LIMIT %s) p"""


def _first_participants(conversation_ids: Sequence[UUID]) -> dict[UUID, list[Participant]]:
    """The first SHOWN_PARTICIPANTS of each, in order of joining, with their users: one statement, whose cost does not
    grow with the conversations' size."""
    first: defaultdict[UUID, list[Participant]] = defaultdict(list)
    if conversation_ids:
        shown = Participant.objects.filter(
            id__in=RawSQL(_FIRST, [list(conversation_ids), SHOWN_PARTICIPANTS])  # noqa: S611 - a constant
        )
        for participant in shown.select_related("user").order_by("joined_at", "id"):
            first[participant.conversation_id].append(participant)
    return first


def list_participants(
    conversation_id: UUID, *, after: tuple[datetime, int] | None, role: str | None, search: str | None, limit: int
) -> list[Participant]:
    """In order of joining, behind the cursor (joined_at, id), with their users. An index scan; `role` and `search`
    (part of a display name or external id) look through the conversation's people."""
    found = Participant.objects.filter(conversation_id=conversation_id).select_related("user")
    if after is not None:
        found = found.filter(behind(("joined_at", "id"), after))
    if role is not None:
        found = found.filter(role=role)
    if search is not None:
        found = found.filter(Q(user__display_name__icontains=search) | Q(user__external_user_id__icontains=search))
    return list(found.order_by("joined_at", "id")[:limit])


@dataclass(frozen=True, slots=True)
class ConversationFilter:
    """Which conversations a list shows; None: whatever. `participant_id` is somebody who is in them, `metadata` JSON
    text that theirs contains. `unread_only`, `hidden`, `archived` and `pinned` are about the viewer's own place, and
    mean nothing without a viewer."""

    type: str | None = None
    participant_id: UUID | None = None
    external_id: str | None = None
    metadata: str | None = None
    updated_since: datetime | None = None
    unread_only: bool = False
    hidden: bool | None = None
    archived: bool | None = None
    pinned: bool | None = None


_CONDITIONS = {
    "type": "c.type = %(type)s",
    "participant_id": (
        "c.id IN (SELECT q.conversation_id FROM messaging_participant q WHERE q.user_id = %(participant_id)s)"
    ),
    "external_id": "c.external_id = %(external_id)s",
    "metadata": "c.metadata @> %(metadata)s::jsonb",
    "updated_since": "c.last_event_at >= %(updated_since)s",
}
_CONDITIONS_OF_PLACE = {
    "hidden": "COALESCE(p.hidden_at_index = c.message_count, FALSE) = %(hidden)s",
    "archived": "p.archived = %(archived)s",
    "pinned": "p.pinned = %(pinned)s",
}
_VIEWER = "JOIN messaging_participant p ON p.conversation_id = c.id AND p.user_id = %(user)s"
_BEFORE = "(COALESCE(c.last_message_at, c.created_at), c.id) < (%(at)s, %(id)s)"
_LATEST_FIRST = "ORDER BY COALESCE(c.last_message_at, c.created_at) DESC, c.id DESC LIMIT %(limit)s"


def list_conversations(
    *, user_id: UUID | None, before: tuple[datetime, UUID] | None, wanted: ConversationFilter, limit: int
) -> list[Conversation]:
    """By last activity, latest first, behind the cursor (activity, id). `user_id` None: the whole tenant's."""
    chosen = asdict(wanted)
    conditions = [condition for name, condition in _CONDITIONS.items() if chosen[name] is not None]
    parameters = chosen | {"user": user_id, "limit": limit}
    if before is not None:
        conditions.append(_BEFORE)
        parameters |= {"at": before[0], "id": before[1]}
    if user_id is not None:
        conditions += [condition for name, condition in _CONDITIONS_OF_PLACE.items() if chosen[name] is not None]
        if wanted.unread_only:
            conditions.append(f"{UNREAD_OF_PLACE} > 0")
    statement = " ".join(
        [
            "SELECT c.id FROM messaging_conversation c",
            _VIEWER if user_id is not None else "",
            f"WHERE {' AND '.join(conditions)}" if conditions else "",
            _LATEST_FIRST,
        ]
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, {name: value for name, value in parameters.items() if f"%({name})s" in statement})
        ids = [row[0] for row in cursor.fetchall()]
    found = Conversation.objects.select_related("created_by").in_bulk(ids)
    return [found[conversation_id] for conversation_id in ids if conversation_id in found]


def activity_at(conversation: Conversation) -> datetime:
    """When something last happened there, as lists order it."""
    return conversation.last_message_at or conversation.created_at
