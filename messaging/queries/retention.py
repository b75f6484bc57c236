"""The statements of retention: finding what is too old, moving a log's start, and taking away what lies before it.

A conversation's `oldest_at` is a lower bound of what it still has: of its log's own times, and of the times of messages
that have content, which imports may have brought from long before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

WAIT_AT_MOST_MS = 500
"""Retention gives way: it waits for a lock no longer than this, which is before PostgreSQL looks for deadlocks."""

_CANDIDATES = """
SELECT id, oldest_at FROM messaging_conversation
WHERE oldest_at < %(cutoff)s AND (%(after_id)s::uuid IS NULL OR (oldest_at, id) > (%(after_at)s, %(after_id)s))
ORDER BY oldest_at, id LIMIT %(limit)s"""

# Times never decrease in seq, so the end of what is too old is found by halving. A seq that is nobody's would do no
# harm: the first entry at or behind it is looked at.
_PREFIX = """
WITH RECURSIVE halving(low, high) AS (
  SELECT purged_seq, last_seq FROM messaging_conversation WHERE id = %(id)s
  UNION ALL
  SELECT CASE WHEN found.is_old THEN middle.seq ELSE low END, CASE WHEN found.is_old THEN high ELSE middle.seq - 1 END
  FROM halving
  CROSS JOIN LATERAL (SELECT (low + high + 1) / 2 AS seq) middle
  CROSS JOIN LATERAL (SELECT COALESCE(LEAST(
    (SELECT recorded_at FROM messaging_message
     WHERE conversation_id = %(id)s AND seq >= middle.seq ORDER BY seq LIMIT 1),
    (SELECT recorded_at FROM messaging_conversationevent
     WHERE conversation_id = %(id)s AND seq >= middle.seq ORDER BY seq LIMIT 1)) < %(cutoff)s, TRUE) AS is_old) found
  WHERE low < high
)
SELECT h.low, COALESCE((SELECT message_index FROM messaging_message
    WHERE conversation_id = c.id AND seq <= h.low AND seq > c.purged_seq ORDER BY seq DESC LIMIT 1), c.purged_count)
FROM halving h, messaging_conversation c WHERE h.low >= h.high AND c.id = %(id)s"""

_LOCK = "SELECT 1 FROM messaging_conversation WHERE id = %s FOR NO KEY UPDATE"

_MOVE_START = """
UPDATE messaging_conversation c SET purged_seq = %(seq)s, purged_count = %(count)s, last_message_id = COALESCE(
  (SELECT id FROM messaging_message WHERE id = c.last_message_id AND seq > %(seq)s),
  (SELECT id FROM messaging_message WHERE conversation_id = c.id AND seq > %(seq)s ORDER BY seq DESC LIMIT 1))
WHERE c.id = %(id)s AND c.purged_seq < %(seq)s"""

_MOVE_READERS = """
UPDATE messaging_participant p SET last_read_seq = %(seq)s, read_index = %(index)s,
  own_since_read = CASE WHEN p.own_since_read = 0 THEN 0 ELSE (
    SELECT count(*) FROM messaging_message m WHERE m.conversation_id = p.conversation_id AND m.sender_id = p.user_id
      AND m.seq > %(seq)s AND NOT m.silent AND m.type <> 'system') END
WHERE p.id IN (
  SELECT id FROM messaging_participant WHERE conversation_id = %(id)s AND last_read_seq < %(seq)s
  ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE)"""

_PURGED_MESSAGES = """
SELECT id FROM messaging_message WHERE conversation_id = %s AND seq <= %s ORDER BY seq LIMIT %s FOR UPDATE"""

_DELETE_EVENTS = """
DELETE FROM messaging_conversationevent WHERE id IN (
  SELECT id FROM messaging_conversationevent WHERE conversation_id = %s AND seq <= %s ORDER BY seq LIMIT %s
  FOR UPDATE)"""

_DELETE_DEPENDANTS = """
WITH gone AS (SELECT unnest(%(ids)s::uuid[]) AS id),
  reactions AS (DELETE FROM messaging_reaction USING gone WHERE message_id = gone.id),
  revisions AS (DELETE FROM messaging_messagerevision USING gone WHERE message_id = gone.id),
  pins AS (DELETE FROM messaging_pinnedmessage USING gone WHERE message_id = gone.id),
  notifications AS (DELETE FROM messaging_notification USING gone WHERE message_id = gone.id),
  reports AS (DELETE FROM messaging_messagereport USING gone WHERE message_id = gone.id)
DELETE FROM messaging_searchentry USING gone WHERE message_id = gone.id"""

_DELETE_MESSAGES = "DELETE FROM messaging_message WHERE id = ANY(%s)"

# Tombstones of the same time lie in the same index: `oldest_at` says where the first content can be.
_OLD_CONTENT = """
FROM messaging_message m JOIN messaging_conversation c ON c.id = m.conversation_id
WHERE m.conversation_id = %(id)s AND m.created_at >= c.oldest_at AND m.created_at < %(cutoff)s AND m.deleted_at IS NULL
  AND m.seq > GREATEST(c.purged_seq, %(seq)s)"""

_LOCK_OLD_CONTENT = f"""
SELECT m.id {_OLD_CONTENT} ORDER BY m.created_at, m.seq LIMIT %(limit)s FOR UPDATE OF m"""

_EMPTY = """
WITH emptied AS (
  UPDATE messaging_message SET content = '{}', mentions = '[]', metadata = '{}', reaction_count = 0,
    deleted_at = %(now)s, updated_at = %(now)s
  WHERE id = ANY(%(ids)s) RETURNING thread_id
)
SELECT thread_id, count(*) FROM emptied WHERE thread_id IS NOT NULL GROUP BY thread_id"""

_UNCOUNT_ANSWERS = """
UPDATE messaging_message m SET reply_count = m.reply_count - t.replies
FROM unnest(%s::uuid[], %s::int[]) AS t(id, replies) WHERE m.id = t.id"""

_SETTLE = """
UPDATE messaging_conversation c SET oldest_at = COALESCE(LEAST(
  (SELECT recorded_at FROM messaging_message WHERE conversation_id = c.id ORDER BY seq LIMIT 1),
  (SELECT recorded_at FROM messaging_conversationevent WHERE conversation_id = c.id ORDER BY seq LIMIT 1),
  (SELECT created_at FROM messaging_message WHERE conversation_id = c.id AND created_at >= c.oldest_at
     AND deleted_at IS NULL ORDER BY created_at LIMIT 1)), %(now)s)
WHERE c.id = %(id)s"""

_COUNT = f"""
SELECT (SELECT count(*) FROM messaging_message WHERE conversation_id = %(id)s AND seq <= %(seq)s),
  (SELECT count(*) FROM messaging_conversationevent WHERE conversation_id = %(id)s AND seq <= %(seq)s),
  (SELECT count(*) {_OLD_CONTENT})"""  # noqa: S608 - a constant of this module

_SWEEP_SEARCH = """
DELETE FROM messaging_searchentry WHERE message_id IN (
  SELECT message_id FROM messaging_searchentry WHERE created_at < %s ORDER BY created_at LIMIT %s)"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A conversation that may have something that is too old."""

    id: UUID
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class Prefix:
    """How far what is too old reaches, and how many messages the log ever had up to there."""

    last_seq: int
    message_count: int


def give_way() -> None:
    """In this transaction a statement that waits longer than WAIT_AT_MOST_MS for a lock fails."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {WAIT_AT_MOST_MS}")


def candidates(cutoff: datetime, *, after: Candidate | None, limit: int) -> list[Candidate]:
    """The oldest first, behind `after`. A range of one index; takes no lock."""
    parameters = {
        "cutoff": cutoff,
        "after_at": None if after is None else after.oldest_at,
        "after_id": None if after is None else after.id,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, parameters)
        return [Candidate(*row) for row in cursor.fetchall()]


def find_prefix(conversation_id: UUID, cutoff: datetime) -> Prefix | None:
    """What was recorded before the cutoff; None for a conversation that is gone. Takes no lock: what it says stays
    true. Cost: two index looks for each halving of the log."""
    with connection.cursor() as cursor:
        cursor.execute(_PREFIX, {"id": conversation_id, "cutoff": cutoff})
        row = cursor.fetchone()
    return None if row is None else Prefix(*row)


def lock(conversation_id: UUID) -> None:
    """As a send locks it, until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [conversation_id])


def move_start(conversation_id: UUID, prefix: Prefix) -> None:
    """The log begins behind the prefix from now on, for whoever reads it. Under `lock`; never goes back."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVE_START, {"id": conversation_id, "seq": prefix.last_seq, "count": prefix.message_count})


def move_readers(conversation_id: UUID, seq: int, *, index: int, limit: int) -> int:
    """Moves up to `limit` read positions from before `seq` to it; `index` is the log's unread index there. Under
    `lock`. Returns how many. Counts stay what they are, less the messages up to `seq`."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVE_READERS, {"id": conversation_id, "seq": seq, "index": index, "limit": limit})
        return int(cursor.rowcount)


def lock_purged_messages(conversation_id: UUID, seq: int, *, limit: int) -> list[UUID]:
    """The first messages up to `seq`, locked. Sends lock the conversation, not these: they do not wait."""
    with connection.cursor() as cursor:
        cursor.execute(_PURGED_MESSAGES, [conversation_id, seq, limit])
        return [row[0] for row in cursor.fetchall()]


def lock_old_content(conversation_id: UUID, cutoff: datetime, *, limit: int) -> list[UUID]:
    """Messages behind the log's start whose content is older than the cutoff, the oldest first. Under `lock`."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_OLD_CONTENT, {"id": conversation_id, "cutoff": cutoff, "seq": 0, "limit": limit})
        return [row[0] for row in cursor.fetchall()]


def delete_dependants(message_ids: Sequence[UUID]) -> None:
    """Reactions, revisions, pins, notifications, reports and search entries of the messages. Files are let go of
    apart. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_DELETE_DEPENDANTS, {"ids": list(message_ids)})


def delete_messages(message_ids: Sequence[UUID]) -> None:
    """Messages without dependants."""
    with connection.cursor() as cursor:
        cursor.execute(_DELETE_MESSAGES, [list(message_ids)])


def delete_events(conversation_id: UUID, seq: int, *, limit: int) -> int:
    """The first events up to `seq`; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_DELETE_EVENTS, [conversation_id, seq, limit])
        return int(cursor.rowcount)


def empty_messages(message_ids: Sequence[UUID], *, now: datetime) -> None:
    """Makes tombstones of messages without dependants; threads count one reply less for each. Under `lock`."""
    with connection.cursor() as cursor:
        cursor.execute(_EMPTY, {"ids": list(message_ids), "now": now})
        threads = cursor.fetchall()
        if threads:
            cursor.execute(_UNCOUNT_ANSWERS, [[row[0] for row in threads], [row[1] for row in threads]])


def settle(conversation_id: UUID, *, now: datetime) -> None:
    """Says what the oldest is that is left; an empty log's next entry is not from before `now`. Under `lock`."""
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, {"id": conversation_id, "now": now})


def count(conversation_id: UUID, prefix: Prefix, cutoff: datetime) -> tuple[int, int, int]:
    """The messages and events of the prefix that are still there, and the old content behind it. Cost: their rows."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"id": conversation_id, "seq": prefix.last_seq, "cutoff": cutoff})
        messages, events, contents = cursor.fetchone() or (0, 0, 0)
        return messages, events, contents


def sweep_search(cutoff: datetime, *, limit: int) -> int:
    """Search entries of messages from before the cutoff, which have nothing left to be found by: whatever was indexed
    while retention took the message. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_SWEEP_SEARCH, [cutoff, limit])
        return int(cursor.rowcount)
