"""What is unread for a member: the one place with the rule.

Unread are the messages after the member's read position (which is never before where their view begins) that are not

- their own: sending moves the read position to the message that was sent;
- the system's, or silent: these are never unread for anybody;
- deleted;
- written by somebody whom the member blocks.

Replies in threads count like any other message. Every message carries the log's unread index, how many messages that
can be unread there were up to and with it; so a count is the difference of two indexes, less the exceptions since the
read position: own messages (counted when the position was last moved back), deleted ones (a partial index), and those
of blocked people (the index by sender).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from tenants.pipeline import Read

UNREAD_OF_PLACE = """(c.unread_total - p.read_index - p.own_since_read -
  CASE c.unread_total - p.read_index - p.own_since_read WHEN 0 THEN 0 ELSE (
    SELECT count(*) FROM messaging_message m
    WHERE m.conversation_id = p.conversation_id AND m.seq > p.last_read_seq AND m.deleted_at IS NOT NULL
      AND m.sender_id IS DISTINCT FROM p.user_id AND NOT m.silent AND m.type <> 'system') + (
    SELECT count(*) FROM messaging_userblock b JOIN messaging_message m ON m.sender_id = b.blocked_id
    WHERE b.blocker_id = p.user_id AND m.conversation_id = p.conversation_id AND m.seq > p.last_read_seq
      AND m.deleted_at IS NULL AND NOT m.silent AND m.type <> 'system') END)"""
"""The rule as SQL, for a participant `p` of a conversation `c`. Exceptions are looked for only where something is left
to except from: most places are read to the end."""

_PLACES = f"""
SELECT p.conversation_id, c.external_id, c.last_seq, p.last_read_seq, {UNREAD_OF_PLACE}, p.role, p.muted_until,
       p.pinned, p.archived, COALESCE(p.hidden_at_index = c.message_count, FALSE),
       GREATEST(p.visible_from_seq, c.purged_seq + 1)
FROM messaging_participant p JOIN messaging_conversation c ON c.id = p.conversation_id
WHERE p.user_id = %s AND (%s::uuid[] IS NULL OR p.conversation_id = ANY(%s::uuid[]))"""  # noqa: S608 - a constant of this module

# OFFSET 0 keeps the planner from counting twice, once for each aggregate.
_TOTAL = f"""
SELECT COALESCE(sum(n), 0)::bigint, count(*) FILTER (WHERE n <> 0) FROM (
  SELECT {UNREAD_OF_PLACE} AS n
  FROM messaging_participant p JOIN messaging_conversation c ON c.id = p.conversation_id
  WHERE p.user_id = %s OFFSET 0) counts"""  # noqa: S608 - a constant of this module

_INDEX_AT = """
SELECT COALESCE(
  (SELECT unread_index FROM messaging_message WHERE conversation_id = c.id AND seq <= %s ORDER BY seq DESC LIMIT 1),
  (SELECT unread_index - (NOT silent AND type <> 'system')::int FROM messaging_message
   WHERE conversation_id = c.id ORDER BY seq LIMIT 1), c.unread_total)
FROM messaging_conversation c WHERE c.id = %s"""

_OWN_AFTER = """
SELECT count(*) FROM messaging_message
WHERE conversation_id = %s AND seq > %s AND sender_id = %s AND NOT silent AND type <> 'system'"""

_LAST_SEQ = "SELECT last_seq FROM messaging_conversation WHERE id = %s"

_RECOUNT = """
SELECT p.user_id, count(m.id) FROM messaging_participant p
LEFT JOIN messaging_message m ON m.conversation_id = p.conversation_id AND m.seq > p.last_read_seq
  AND m.sender_id IS DISTINCT FROM p.user_id AND m.deleted_at IS NULL AND NOT m.silent AND m.type <> 'system'
  AND NOT EXISTS (SELECT 1 FROM messaging_userblock b WHERE b.blocker_id = p.user_id AND b.blocked_id = m.sender_id)
WHERE p.conversation_id = %s GROUP BY p.user_id"""


class Place(NamedTuple):
    """A member's place in a conversation, with what is unread there; where the log ended, at the same moment."""

    conversation_id: UUID
    conversation_external_id: str | None
    last_seq: int
    last_read_seq: int
    unread_count: int
    role: str
    muted_until: datetime | None
    pinned: bool
    archived: bool
    hidden: bool
    visible_from_seq: int


def places_of(user_id: UUID, conversation_ids: Sequence[UUID] | None = None) -> Read[Place]:
    """The user's place in each of these conversations that they are in (None: in all of theirs). The cost does not grow
    with the number of unread messages, only with that of deleted and blocked ones among them."""
    ids = None if conversation_ids is None else list(conversation_ids)
    return Read(_PLACES, [user_id, ids, ids], Place._make)


def place_of(user_id: UUID, conversation_id: UUID) -> Place:
    """Of somebody who is in it."""
    (place,) = places_of(user_id, [conversation_id]).fetch()
    return place


def unread_counts(user_id: UUID, conversation_ids: Sequence[UUID] | None = None) -> dict[UUID, int]:
    """How many messages are unread for the user, by conversation."""
    return {place.conversation_id: place.unread_count for place in places_of(user_id, conversation_ids).fetch()}


@dataclass(frozen=True, slots=True)
class UnreadTotal:
    """How many messages are unread for somebody, and in how many of their conversations."""

    messages: int
    conversations: int


def unread_total(user_id: UUID) -> UnreadTotal:
    """The sum of `unread_counts` over all of the user's conversations. One statement, at the same cost, of one row."""
    with connection.cursor() as cursor:
        cursor.execute(_TOTAL, [user_id])
        row = cursor.fetchone()
    assert row is not None
    return UnreadTotal(*row)


def recount(conversation_id: UUID) -> dict[UUID, int]:
    """Every member's unread messages counted one by one from the log. For checking: the cost is the unread rows."""
    with connection.cursor() as cursor:
        cursor.execute(_RECOUNT, [conversation_id])
        return dict(cursor.fetchall())


def index_at(conversation_id: UUID, seq: int) -> int:
    """The log's unread index at `seq`; where retention took what was before, it is what the next message goes on from.
    One row of an index."""
    return _one(_INDEX_AT, seq, conversation_id)


def own_after(conversation_id: UUID, user_id: UUID, seq: int) -> int:
    """The user's own messages after `seq` that can be unread. Cost: the rows after `seq`."""
    return _one(_OWN_AFTER, conversation_id, seq, user_id)


def last_seq(conversation_id: UUID) -> int:
    """Where the log ends now."""
    return _one(_LAST_SEQ, conversation_id)


def _one(statement: str, *parameters: UUID | int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
    return 0 if row is None else int(row[0])
