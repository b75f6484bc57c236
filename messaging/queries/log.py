"""The conversation's log: messages and the other durable events, in seq order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection

from tenants.pipeline import Read


class EventRow(NamedTuple):
    """A log entry that is not a message."""

    conversation_id: UUID
    conversation_external_id: str | None
    seq: int
    type: str
    actor_id: UUID | None
    subject_id: UUID | None
    data: dict[str, Any]
    recorded_at: datetime
    author_id: UUID | None
    """Who wrote the message that it is about; None where it is about no message, or that one's author is gone."""


@dataclass(frozen=True, slots=True)
class LogSpan:
    """A stretch of one conversation's log, both ends included."""

    conversation_id: UUID
    first_seq: int
    last_seq: int


SPANS = "unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS span(conversation_id, first_seq, last_seq)"
"""As a row source, for `span_arrays`."""

_EVENTS = f"""
SELECT e.conversation_id, c.external_id, e.seq, e.type, e.actor_id, e.subject_id, e.data::text, e.recorded_at,
       m.sender_id
FROM {SPANS}
JOIN messaging_conversation c ON c.id = span.conversation_id
CROSS JOIN LATERAL (
  SELECT * FROM messaging_conversationevent entry WHERE entry.conversation_id = span.conversation_id
    AND entry.seq BETWEEN span.first_seq AND span.last_seq AND entry.seq > c.purged_seq OFFSET 0) e
LEFT JOIN messaging_message m ON m.id = e.subject_id"""  # noqa: S608 - a constant of this module

_RECORD = """
INSERT INTO messaging_conversationevent (conversation_id, seq, type, actor_id, subject_id, data, recorded_at)
SELECT n.conversation_id, n.seq, n.type, n.actor_id, n.subject_id, n.data::jsonb, n.recorded_at
FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[])
  AS n(conversation_id, seq, type, actor_id, subject_id, data, recorded_at)"""

_MEMBERSHIP_MARKS = """
SELECT user_id, count(*), COALESCE(sum(('x' || right(conversation_id::text, 8))::bit(32)::bigint), 0)
FROM messaging_participant WHERE user_id = ANY(%s) GROUP BY user_id"""

_STARTS = "SELECT id, purged_seq + 1 FROM messaging_conversation WHERE id = ANY(%s)"

_LAST_SEQS = "SELECT id, last_seq FROM messaging_conversation WHERE id = ANY(%s)"

_OF_USER = """
SELECT p.conversation_id, c.external_id, c.last_seq, GREATEST(p.visible_from_seq, c.purged_seq + 1), c.purged_seq
FROM messaging_participant p JOIN messaging_conversation c ON c.id = p.conversation_id WHERE p.user_id = %s"""


def span_arrays(spans: Sequence[LogSpan]) -> list[list[Any]]:
    """The parameters of SPANS."""
    return [
        [span.conversation_id for span in spans],
        [span.first_seq for span in spans],
        [span.last_seq for span in spans],
    ]


def events_in(spans: Sequence[LogSpan]) -> Read[EventRow]:
    """Events other than messages in these spans, in any order. An index scan a span."""
    return Read(_EVENTS, span_arrays(spans), _event_row)


def _event_row(row: tuple[Any, ...]) -> EventRow:
    """From a row of _EVENTS."""
    return EventRow._make((*row[:6], orjson.loads(row[6]), *row[7:]))


def record_events(rows: Sequence[EventRow]) -> None:
    """Appends events; the caller holds their conversations' locks and has advanced `last_seq`. One statement.

    ORM: `ConversationEvent.objects.bulk_create(ConversationEvent(…) for row in rows)`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _RECORD,
            [
                [row.conversation_id for row in rows],
                [row.seq for row in rows],
                [row.type for row in rows],
                [row.actor_id for row in rows],
                [row.subject_id for row in rows],
                [orjson.dumps(row.data).decode() for row in rows],
                [row.recorded_at for row in rows],
            ],
        )


def starts(conversation_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The first seq that retention left of each conversation's log; those that are gone are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_STARTS, [list(conversation_ids)])
        return dict(cursor.fetchall())


def last_seqs(conversation_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Where each conversation's log ends; those that are gone are left out. One index scan."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST_SEQS, [list(conversation_ids)])
        return dict(cursor.fetchall())


class LogPosition(NamedTuple):
    conversation_id: UUID
    conversation_external_id: str | None
    last_seq: int
    visible_from_seq: int
    purged_seq: int = 0
    """Up to where retention took the log away; `visible_from_seq` lies behind it."""


def positions_of_user(user_id: UUID) -> Read[LogPosition]:
    """Every conversation that the user is in, with where its log ends and where their view of it begins. An index scan
    of their memberships.

    ORM: `Participant.objects.filter(user_id=…).select_related("conversation")`, of these columns."""
    return Read(_OF_USER, [user_id], LogPosition._make)


@dataclass(frozen=True, slots=True)
class MembershipMark:
    """A short mark of a user's set of conversations: how many, and the sum of their ids' last four bytes."""

    count: int
    total: int


def membership_mark(conversation_ids: Iterable[UUID]) -> MembershipMark:
    """The mark of a set that a process holds, to be compared with the database's."""
    numbers = [conversation_id.int & 0xFFFFFFFF for conversation_id in conversation_ids]
    return MembershipMark(len(numbers), sum(numbers))


def membership_marks(user_ids: Sequence[UUID]) -> dict[UUID, MembershipMark]:
    """Each user's mark: one index-only look at their memberships. Users who are nowhere are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_MEMBERSHIP_MARKS, [list(user_ids)])
        return {row[0]: MembershipMark(row[1], int(row[2])) for row in cursor.fetchall()}
