"""What realtime reads of a tenant: one function for each question, each entering the tenant's scope itself, so that
they can run on any database thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django.utils import timezone

from messagecore.kernel import wire
from messaging import rendering
from messaging.access import ConversationNotFound, check_may_act, get_conversation, token_user
from messaging.models import Conversation, Participant, User
from messaging.queries import log, rendered, unread, users
from messaging.queries import messages as message_queries
from messaging.queries.conversations import view_conversations
from messaging.queries.log import LogPosition, LogSpan, MembershipMark
from messaging.queries.users import UserRow
from messaging.services.blocks import blocked_by
from tenants.cards import Caller, TenantCard
from tenants.pipeline import read_together
from tenants.scope import tenant_scope


class LogEntry(NamedTuple):
    """A durable event as it is shown: its type and data."""

    seq: int
    type: str
    data: Mapping[str, Any]
    author_id: UUID | None


def read_log(tenant: TenantCard, spans: Sequence[LogSpan]) -> dict[UUID, list[LogEntry]]:
    """The log's entries in each span, in order, rendered from the rows as they are now; one span a conversation. One
    round trip for messages alone, and a fixed number of statements more for what else there is, whatever the number of
    spans. What retention took away is left out: `log_starts`."""
    rows, events = read_together(tenant, message_queries.in_spans(spans), log.events_in(spans))
    with tenant_scope(tenant):
        messages = message_queries.views_of(rows)
        shown = rendered.render_events(events)
    found: dict[UUID, list[LogEntry]] = {span.conversation_id: [] for span in spans}
    for view in messages:
        data = rendering.render_new_message(view, wire.timestamp(view.recorded_at))
        author_id = None if view.sender is None else view.sender.id
        found[view.conversation_id].append(LogEntry(view.seq, "new_message", data, author_id))
    for event, event_data in zip(events, shown, strict=True):
        found[event.conversation_id].append(LogEntry(event.seq, event.type, event_data, event.author_id))
    for entries in found.values():
        entries.sort(key=_by_seq)
    return found


_by_seq = attrgetter("seq")


def log_starts(tenant: TenantCard, conversation_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The first seq that retention left of each log; conversations that are gone are left out."""
    with tenant_scope(tenant):
        return log.starts(conversation_ids)


def identify(caller: Caller) -> UserRow:
    """The user of a caller whose token was verified. Raises InvalidToken, UserInactive, UserBanned. One round trip."""
    assert caller.claims is not None, "a connection's caller has a token"
    (found,) = read_together(caller.tenant, users.by_external_id(caller.claims.external_user_id))
    user = token_user(found[0] if found else None, caller.claims)
    check_may_act(user, now=timezone.now())
    return user


@dataclass(frozen=True, slots=True)
class NamedConversation:
    """A conversation by its ids."""

    id: UUID
    external_id: str | None


def get_conversation_of(tenant: TenantCard, user_id: UUID, any_id: str) -> NamedConversation:
    """The conversation that a user names by either id. Raises ConversationNotFound where they are not in it."""
    with tenant_scope(tenant):
        conversation = get_conversation(any_id)
        if not Participant.objects.filter(conversation=conversation, user_id=user_id).exists():
            raise ConversationNotFound
    return NamedConversation(conversation.id, conversation.external_id)


@dataclass(frozen=True, slots=True)
class Standing:
    """The user's conversations with where each log ends now, and whom they block."""

    positions: Sequence[LogPosition]
    blocked: frozenset[UUID]


def standing(tenant: TenantCard, user_id: UUID) -> Standing:
    """One round trip."""
    positions, blocked = read_together(tenant, log.positions_of_user(user_id), users.blocked_by_user(user_id))
    return Standing(positions, frozenset(blocked))


def positions(tenant: TenantCard, user_id: UUID) -> list[LogPosition]:
    """Every conversation that the user is in, with where its log ends and where their view of it begins."""
    return read_together(tenant, log.positions_of_user(user_id))[0]


class MembershipState(NamedTuple):
    """A user's place in a conversation: the data of `unread_updated`, and the membership as conversations show it."""

    unread: Mapping[str, Any]
    membership: Mapping[str, Any]


def membership_states(
    tenant: TenantCard, user_id: UUID, conversation_ids: Sequence[UUID], *, now: datetime
) -> dict[UUID, MembershipState]:
    """Those of the conversations that the user is in. One round trip."""
    (places,) = read_together(tenant, unread.places_of(user_id, conversation_ids))
    return {
        place.conversation_id: MembershipState(rendering.render_unread(place, now), rendering.render_membership(place))
        for place in places
    }


def announcements(tenant: TenantCard, user_id: UUID, conversation_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, Any]]:
    """Those of the conversations that the user is in, as they are shown to them now, of one moment. A fixed number of
    statements."""
    with tenant_scope(tenant, at_one_moment=True):
        found = Conversation.objects.select_related("created_by").filter(
            pk__in=conversation_ids, participants__user_id=user_id
        )
        return {
            view.conversation.id: rendering.render_conversation(
                view.conversation,
                participants=view.participants,
                last_message=view.last_message,
                membership=view.membership,
            )
            for view in view_conversations(list(found), viewer_id=user_id)
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the database says of the conversations and users that a process serves."""

    last_seqs: Mapping[UUID, int]
    marks: Mapping[UUID, MembershipMark]
    refused: frozenset[UUID]
    blocked: Mapping[UUID, frozenset[UUID]]


def compare(tenant: TenantCard, conversation_ids: Sequence[UUID], user_ids: Sequence[UUID]) -> Comparison:
    """Four statements: where the logs end, the users' membership marks, who may not be connected any more, and whom
    each blocks."""
    with tenant_scope(tenant):
        let_in = User.objects.filter(id__in=user_ids, is_active=True).exclude(banned_until__gt=timezone.now())
        present = set(let_in.values_list("id", flat=True))
        return Comparison(
            last_seqs=log.last_seqs(conversation_ids),
            marks=log.membership_marks(user_ids),
            refused=frozenset(set(user_ids) - present),
            blocked=blocked_by(user_ids),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A participant, and up to where they have read."""

    user_id: UUID
    external_user_id: str
    last_read_seq: int


def participants_of(tenant: TenantCard, conversation_id: UUID, *, limit: int) -> list[Place]:
    """The first participants, in order of joining."""
    with tenant_scope(tenant):
        rows = Participant.objects.filter(conversation_id=conversation_id).order_by("joined_at", "id")
        fields = ("user_id", "user__external_user_id", "last_read_seq")
        return [Place(*row) for row in rows.values_list(*fields)[:limit]]


PRESENCE_CONVERSATIONS = 2000
"""Conversations of a user whose onlookers are told of their presence: those that they joined last."""


@dataclass(frozen=True, slots=True)
class PresenceAudience:
    """Whom a user's presence concerns: who looks at these conversations."""

    external_user_id: str | None
    conversation_ids: tuple[UUID, ...]


def presence_audiences(tenant: TenantCard, user_ids: Sequence[UUID]) -> dict[UUID, PresenceAudience]:
    """One statement; users who are gone are left out. For each user an index scan of their memberships."""
    theirs = Participant.objects.filter(user_id=OuterRef("pk")).order_by("-joined_at", "-id")
    latest = ArraySubquery(theirs.values("conversation_id")[:PRESENCE_CONVERSATIONS])
    with tenant_scope(tenant):
        rows = User.objects.filter(pk__in=user_ids).values_list("pk", "external_user_id", latest)
        return {user_id: PresenceAudience(external_id, tuple(ids)) for user_id, external_id, ids in rows}
