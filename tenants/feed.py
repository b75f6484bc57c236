"""Numbering, reading and purging the tenants' feeds: what `tenants/outbox.py` is to writing and draining.

A feed is the tenant's outbox rows that have a place in a conversation's log, in an order of their own. The sequencer
gives it to rows that are committed, never in the transaction that writes them: numbers taken there would be committed
out of order, and a reader who had seen 7 would miss 6. One sequencer at a time works on a tenant (an advisory lock of
its transaction), and its statement sees everything that was committed before it got the lock.

Rows are numbered by id. In a conversation that is the order of `seq`: ids are taken under the conversation's lock, so
whoever has the next seq takes a later id; and whoever sees a row committed sees those before it, since the lock is let
go after the commit. Numbers are committed in their order, too: whoever sees one sees all that are smaller.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

NUMBERED_AT_ONCE = 1000
"""More than a reader may ask for at once: one batch fills any page."""

# The first number keeps these locks apart from other uses of advisory locks.
_LOCK = "SELECT pg_advisory_xact_lock(1178944836, hashtext(%s))"
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(1178944836, hashtext(%s))"

_WAITS = """
SELECT EXISTS (SELECT 1 FROM public.tenants_outboxevent
  WHERE tenant_id = %s AND feed_seq IS NULL AND seq IS NOT NULL)"""

_NUMBER = """
WITH waiting AS (
  SELECT id, row_number() OVER (ORDER BY id) AS place FROM (
    SELECT id FROM public.tenants_outboxevent WHERE tenant_id = %(tenant)s AND feed_seq IS NULL AND seq IS NOT NULL
    ORDER BY id LIMIT %(limit)s) first
), counted AS (
  INSERT INTO public.tenants_feed AS feed (tenant_id, last_seq, purged_seq)
  SELECT %(tenant)s, count(*), 0 FROM waiting HAVING count(*) > 0
  ON CONFLICT (tenant_id) DO UPDATE SET last_seq = feed.last_seq + EXCLUDED.last_seq
  RETURNING last_seq
)
UPDATE public.tenants_outboxevent event
SET feed_seq = counted.last_seq - (SELECT count(*) FROM waiting) + waiting.place
FROM waiting, counted WHERE event.id = waiting.id"""

# From tenant to tenant, one index look each.
_TENANTS_WAITING = """
WITH RECURSIVE found(tenant_id) AS (
  (SELECT tenant_id FROM public.tenants_outboxevent WHERE feed_seq IS NULL AND seq IS NOT NULL
   ORDER BY tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT event.tenant_id FROM public.tenants_outboxevent event
    WHERE event.feed_seq IS NULL AND event.seq IS NOT NULL AND event.tenant_id > found.tenant_id
    ORDER BY event.tenant_id LIMIT 1)
  FROM found WHERE found.tenant_id IS NOT NULL
)
SELECT tenant_id FROM found WHERE tenant_id IS NOT NULL"""

_BACKLOG = """
SELECT count(*) FROM (SELECT 1 FROM public.tenants_outboxevent WHERE feed_seq IS NULL AND seq IS NOT NULL
  LIMIT 100000) waiting"""

_EDGES = "SELECT purged_seq, last_seq FROM public.tenants_feed WHERE tenant_id = %s"

_ROWS = """
SELECT feed_seq, type, conversation_id, seq, recorded_at FROM public.tenants_outboxevent
WHERE tenant_id = %s AND feed_seq > %s ORDER BY feed_seq LIMIT %s"""

_AHEAD = """
SELECT place.tenant_id, place.seq FROM unnest(%s::uuid[], %s::bigint[]) AS place(tenant_id, seq)
WHERE EXISTS (SELECT 1 FROM public.tenants_outboxevent event
    WHERE event.tenant_id = place.tenant_id AND event.feed_seq IS NULL AND event.seq IS NOT NULL)
  OR EXISTS (SELECT 1 FROM public.tenants_feed feed
    WHERE feed.tenant_id = place.tenant_id AND feed.last_seq > place.seq)"""

# Only from the beginning, so that what is left has no hole: what lies behind a row that has to stay stays, too.
_PURGE = """
WITH first AS (
  SELECT id, feed_seq, recorded_at < %(cutoff)s AND handled_at IS NOT NULL AND indexed_at IS NOT NULL AS may_go
  FROM public.tenants_outboxevent WHERE tenant_id = %(tenant)s AND feed_seq IS NOT NULL
  ORDER BY feed_seq LIMIT %(limit)s
), gone AS (
  DELETE FROM public.tenants_outboxevent event USING first
  WHERE event.id = first.id AND first.may_go
    AND NOT EXISTS (SELECT 1 FROM first kept WHERE NOT kept.may_go AND kept.feed_seq < first.feed_seq)
  RETURNING event.feed_seq
), moved AS (
  UPDATE public.tenants_feed SET purged_seq = GREATEST(purged_seq, (SELECT max(feed_seq) FROM gone))
  WHERE tenant_id = %(tenant)s AND EXISTS (SELECT 1 FROM gone)
)
SELECT count(*) FROM gone"""

_PURGE_UNLOGGED = """
DELETE FROM public.tenants_outboxevent WHERE id IN (
  SELECT id FROM public.tenants_outboxevent WHERE tenant_id = %s AND seq IS NULL AND recorded_at < %s
    AND handled_at IS NOT NULL AND indexed_at IS NOT NULL ORDER BY id LIMIT %s)"""


@dataclass(frozen=True, slots=True)
class FeedRow:
    """An event's place in the feed, and in its conversation's log."""

    feed_seq: int
    type: str
    conversation_id: UUID
    seq: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class FeedEdges:
    """Rows behind `purged_seq`, up to and with `last_seq`, can be had."""

    purged_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """A reader who has everything up to and with `seq`."""

    tenant_id: UUID
    seq: int


def number(tenant_id: UUID, *, limit: int = NUMBERED_AT_ONCE) -> int:
    """Numbers the first `limit` committed rows that have no number, once whoever is at it now is done. Returns how
    many. To be called outside of transactions: what it sees has to be newer than the lock.

    One index look where nothing waits; otherwise one short transaction. It waits for a sweep that has one of the rows.
    """
    with connection.cursor() as cursor:
        cursor.execute(_WAITS, [tenant_id])
        if cursor.fetchone() == (False,):
            return 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK, [str(tenant_id)])
        return _number(cursor, tenant_id, limit)


def number_waiting(*, budget_s: float) -> int:
    """Numbers what is committed in every tenant until nothing waits, for `budget_s` at most; returns how many. To be
    called outside of transactions.

    Any number may run at once, beside readers: a tenant that another one is at is left to it. If the process dies,
    what it had not committed is numbered by the next. One index look, and one for each tenant that has something.
    """
    until = time.monotonic() + budget_s
    with connection.cursor() as cursor:
        cursor.execute(_TENANTS_WAITING)
        tenants = [row[0] for row in cursor.fetchall()]
    done = 0
    for tenant_id in tenants:
        numbered = NUMBERED_AT_ONCE
        while numbered == NUMBERED_AT_ONCE:
            if time.monotonic() >= until:
                return done
            numbered = _try_to_number(tenant_id)
            done += numbered
    return done


def _try_to_number(tenant_id: UUID) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_TRY_LOCK, [str(tenant_id)])
        return 0 if cursor.fetchone() == (False,) else _number(cursor, tenant_id, NUMBERED_AT_ONCE)


def _number(cursor: CursorWrapper, tenant_id: UUID, limit: int) -> int:
    cursor.execute(_NUMBER, {"tenant": tenant_id, "limit": limit})
    return int(cursor.rowcount)


def backlog() -> int:
    """How many rows wait for a number, counted up to 100,000."""
    with connection.cursor() as cursor:
        cursor.execute(_BACKLOG)
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


def edges(tenant_id: UUID) -> FeedEdges:
    """Where the tenant's feed begins and ends."""
    with connection.cursor() as cursor:
        cursor.execute(_EDGES, [tenant_id])
        row = cursor.fetchone()
        return FeedEdges(0, 0) if row is None else FeedEdges(*row)


def rows_after(tenant_id: UUID, seq: int, *, limit: int) -> list[FeedRow]:
    """The rows behind `seq`, in order: a range of one index.

    ORM: `OutboxEvent.objects.filter(tenant_id=…, feed_seq__gt=seq).order_by("feed_seq")[:limit]`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, [tenant_id, seq, limit])
        return [FeedRow(*row) for row in cursor.fetchall()]


def find_ahead(positions: Collection[FeedPosition]) -> set[FeedPosition]:
    """Those of the positions behind which something is committed, numbered or not. One statement, two index looks a
    position."""
    with connection.cursor() as cursor:
        cursor.execute(_AHEAD, [[place.tenant_id for place in positions], [place.seq for place in positions]])
        return {FeedPosition(*row) for row in cursor.fetchall()}


def purge(tenant_id: UUID, cutoff: datetime, *, limit: int) -> int:
    """Takes away up to `limit` rows from the feed's beginning that are older than the cutoff and that nobody waits for,
    and remembers how far, in the caller's transaction. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_PURGE, {"tenant": tenant_id, "cutoff": cutoff, "limit": limit})
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


def purge_unlogged(tenant_id: UUID, cutoff: datetime, *, limit: int) -> int:
    """The same for outbox rows that are in no log and so in no feed: conversations made and deleted. Cost: all such
    rows of the tenant, which are no older than its retention."""
    with connection.cursor() as cursor:
        cursor.execute(_PURGE_UNLOGGED, [tenant_id, cutoff, limit])
        return int(cursor.rowcount)
