"""What a user's open connections have to be told of the conversations that they came into or went out of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from messaging import rendering
from messaging.models import Conversation
from messaging.queries import log
from messaging.queries.conversations import view_conversations
from tenants.cards import TenantCard
from tenants.scope import tenant_scope

_ARRIVALS = """
SELECT c.id, c.last_seq, GREATEST(COALESCE(max(e.seq) - 1, 0), c.purged_seq)
FROM messaging_participant p
JOIN messaging_conversation c ON c.id = p.conversation_id
LEFT JOIN messaging_conversationevent e
  ON e.conversation_id = c.id AND e.type = 'participant_added' AND e.subject_id = p.user_id
WHERE p.user_id = %s AND NOT p.conversation_id = ANY(%s) GROUP BY c.id, c.last_seq"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A conversation that the user is in now: `after_seq` is where its log ended before they came, `last_seq` where
    it ends, and `conversation` how it is shown to them."""

    conversation_id: UUID
    external_id: str | None
    after_seq: int
    last_seq: int
    conversation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MembershipChanges:
    """`arrived`: where the user is and was not known to be. `departed`: where they are no longer, with the end of the
    log; None for a conversation that is gone."""

    arrived: Sequence[Arrival]
    departed: Mapping[UUID, int | None]


def membership_changes(
    tenant: TenantCard, user_id: UUID, *, everywhere: Collection[UUID], somewhere: Collection[UUID]
) -> MembershipChanges:
    """What differs from what is known: the conversations that all of the user's connections listen to
    (`everywhere`), and those that any does (`somewhere`)."""
    with tenant_scope(tenant):
        now = {position.conversation_id for position in log.positions_of_user(user_id).fetch()}
        gone = set(somewhere) - now
        ends = log.last_seqs(list(gone)) if gone else {}
        arrived = _arrivals(user_id, known=everywhere) if now - set(everywhere) else []
    return MembershipChanges(arrived, {conversation_id: ends.get(conversation_id) for conversation_id in gone})


def _arrivals(user_id: UUID, *, known: Collection[UUID]) -> list[Arrival]:
    with connection.cursor() as cursor:
        cursor.execute(_ARRIVALS, [user_id, list(known)])
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    found = Conversation.objects.select_related("created_by").filter(pk__in=rows)
    arrivals = []
    for view in view_conversations(list(found), viewer_id=user_id):
        last_seq, after_seq = rows[view.conversation.id]
        shown = rendering.render_conversation(
            view.conversation, participants=view.participants, last_message=view.last_message
        )
        arrivals.append(Arrival(view.conversation.id, view.conversation.external_id, after_seq, last_seq, shown))
    return arrivals
