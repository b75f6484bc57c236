"""Writing and draining the outbox: the one module that knows its table, beside `tenants/feed.py`, which numbers its
rows."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from django.db import connection, transaction

_INSERT = """
INSERT INTO public.tenants_outboxevent (tenant_id, type, conversation_id, seq, subject_id, recorded_at)
SELECT %s, * FROM unnest(%s::text[], %s::uuid[], %s::bigint[], %s::uuid[], %s::timestamptz[])"""

_CLAIM = """
SELECT id, tenant_id, type, conversation_id, seq, subject_id, recorded_at FROM public.tenants_outboxevent
WHERE {mark} IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"""

_MARK = "UPDATE public.tenants_outboxevent SET {mark} = %s WHERE id = ANY(%s)"

_BACKLOG = "SELECT count(*) FROM (SELECT 1 FROM public.tenants_outboxevent WHERE {mark} IS NULL LIMIT 100000) waiting"


class Mark(StrEnum):
    """Who has seen to a row: the table's column. Each sweep drains by its own, whatever becomes of the others."""

    HANDLED = "handled_at"
    INDEXED = "indexed_at"


@dataclass(frozen=True, slots=True)
class Promise:
    """What an event's transaction promises; `subject_id` is the message or the user that it is about."""

    type: str
    conversation_id: UUID | None
    seq: int | None
    subject_id: UUID | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxRow:
    id: int
    tenant_id: UUID
    type: str
    conversation_id: UUID | None
    seq: int | None
    subject_id: UUID | None
    recorded_at: datetime


def write(tenant_id: UUID, promises: Sequence[Promise]) -> None:
    """Inserts in the caller's transaction. One statement, whatever the number.

    ORM: `OutboxEvent.objects.bulk_create(OutboxEvent(tenant_id=…, …) for promise in promises)`.
    """
    if not promises:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            [
                tenant_id,
                [promise.type for promise in promises],
                [promise.conversation_id for promise in promises],
                [promise.seq for promise in promises],
                [promise.subject_id for promise in promises],
                [promise.recorded_at for promise in promises],
            ],
        )


def drain(
    handle: Callable[[Sequence[OutboxRow]], Collection[int] | None],
    *,
    limit: int,
    now: datetime,
    mark: Mark = Mark.HANDLED,
) -> int:
    """Hands up to `limit` rows without the mark to `handle` in one transaction and marks them if it returns, except for
    those whose ids it returns: they come again.

    Several sweepers may drain at once: a claimed row is locked and skipped by the others. If `handle` raises, or the
    process dies, everything it wrote is rolled back with the claim and the rows come again. Returns how many it marked.
    """
    done: list[int] = []
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_CLAIM.format(mark=mark), [limit])
            rows = [OutboxRow(*row) for row in cursor.fetchall()]
        if rows:
            again = frozenset(handle(rows) or ())
            done = [row.id for row in rows if row.id not in again]
            with connection.cursor() as cursor:
                cursor.execute(_MARK.format(mark=mark), [now, done])
    return len(done)


def backlog(mark: Mark = Mark.HANDLED) -> int:
    """How many rows wait for the mark, counted up to 100,000."""
    with connection.cursor() as cursor:
        cursor.execute(_BACKLOG.format(mark=mark))
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


_IS_WAITING = """
SELECT EXISTS (SELECT 1 FROM public.tenants_outboxevent
  WHERE handled_at IS NULL AND tenant_id = %s AND type = %s AND subject_id = %s)"""


def is_waiting(tenant_id: UUID, type_: str, subject_id: UUID) -> bool:
    """Whether an event about this subject is still to be handled. The cost is the backlog."""
    with connection.cursor() as cursor:
        cursor.execute(_IS_WAITING, [tenant_id, type_, subject_id])
        row = cursor.fetchone()
        assert row is not None
        return bool(row[0])
