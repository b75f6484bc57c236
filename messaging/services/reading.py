"""What realtime reads of a tenant: one function for each question, each entering the tenant's scope itself, so that
they can run on any database thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from messagecore.kernel import wire
from messaging import rendering
from messaging.access import find_acting_user
from messaging.models import Participant, User
from messaging.queries import log, rendered
from messaging.queries import messages as message_queries
from messaging.queries.log import LogPosition, MembershipMark
from messaging.services.blocks import blocked_by
from tenants.cards import Caller, TenantCard
from tenants.scope import tenant_scope


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A durable event as it is shown: its type and data."""

    seq: int
    type: str
    data: Mapping[str, Any]
    author_id: UUID | None


def read_log(tenant: TenantCard, conversation_id: UUID, first_seq: int, last_seq: int) -> list[LogEntry]:
    """The log's entries with first_seq ≤ seq ≤ last_seq, in order, rendered from the rows as they are now."""
    with tenant_scope(tenant):
        messages = message_queries.between(conversation_id, first_seq, last_seq)
        events = log.events_between(conversation_id, first_seq, last_seq)
        shown = rendered.render_events(events)
    entries = [
        LogEntry(
            view.seq,
            "new_message",
            rendering.render_new_message(view, wire.timestamp(view.recorded_at)),
            None if view.sender is None else view.sender.id,
        )
        for view in messages
    ]
    entries += [
        LogEntry(event.seq, event.type, data, event.author_id) for event, data in zip(events, shown, strict=True)
    ]
    return sorted(entries, key=lambda entry: entry.seq)


def identify(caller: Caller) -> User:
    """The user of a caller whose token was verified. Raises UserNotFound, UserInactive, UserBanned, InvalidToken."""
    with tenant_scope(caller.tenant):
        user = find_acting_user(caller)
    assert user is not None, "a socket's caller has a token"
    return user


@dataclass(frozen=True, slots=True)
class Standing:
    """The user's conversations with where each log ends now, and whom they block."""

    positions: Sequence[LogPosition]
    blocked: frozenset[UUID]


def standing(tenant: TenantCard, user_id: UUID) -> Standing:
    """Two statements."""
    with tenant_scope(tenant):
        return Standing(log.positions_of_user(user_id), blocked_by([user_id]).get(user_id, frozenset()))


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


def participants_of(tenant: TenantCard, conversation_id: UUID, *, limit: int) -> list[tuple[UUID, str]]:
    """The first participants, by id and external id."""
    with tenant_scope(tenant):
        rows = Participant.objects.filter(conversation_id=conversation_id).order_by("joined_at", "id")
        return list(rows.values_list("user_id", "user__external_user_id")[:limit])


@dataclass(frozen=True, slots=True)
class PresenceAudience:
    """Whom a user's presence concerns: the conversations that they are in."""

    external_user_id: str
    conversation_ids: tuple[UUID, ...]


def presence_audience(tenant: TenantCard, user_id: UUID) -> PresenceAudience | None:
    """None for a user who is gone."""
    with tenant_scope(tenant):
        external_id = User.objects.filter(pk=user_id).values_list("external_user_id", flat=True).first()
        if external_id is None:
            return None
        ids = Participant.objects.filter(user_id=user_id).values_list("conversation_id", flat=True)
        return PresenceAudience(external_id, tuple(ids))
