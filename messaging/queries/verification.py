"""Whether the stored numbers that unread counts are made of are those of the log, and making them so.

A conversation's log is taken as it stands; everything else follows from it. Where retention removed its beginning,
numbers go on from the index that the oldest remaining message has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from messaging.queries.unread import UNREAD_OF_PLACE

_CAN_BE_UNREAD = "(NOT m.silent AND m.type <> 'system')"

_BASE = f"""(SELECT CASE WHEN c.purged_seq = 0 THEN 0 ELSE COALESCE(
  (SELECT GREATEST(m.unread_index - {_CAN_BE_UNREAD}::int, 0) FROM messaging_message m
   WHERE m.conversation_id = c.id ORDER BY m.seq LIMIT 1), c.unread_total) END
  FROM messaging_conversation c WHERE c.id = %(conversation)s)"""  # noqa: S608 - constants of this module

_NUMBERED = f"""SELECT m.id, m.seq, m.unread_index AS stored,
  {_BASE} + sum({_CAN_BE_UNREAD}::int) OVER (ORDER BY m.seq) AS counted
FROM messaging_message m WHERE m.conversation_id = %(conversation)s"""  # noqa: S608

_IDS = "SELECT id FROM messaging_conversation WHERE %s::uuid IS NULL OR id > %s ORDER BY id LIMIT %s"

_LOG = f"""
SELECT c.unread_total, COALESCE(n.total, {_BASE}), COALESCE(n.wrong, 0)
FROM messaging_conversation c LEFT JOIN (
  SELECT max(counted) AS total, count(*) FILTER (WHERE stored <> counted) AS wrong FROM ({_NUMBERED}) numbered
) n ON TRUE WHERE c.id = %(conversation)s"""  # noqa: S608

_EXPECTED_PLACE = f"""
  COALESCE((SELECT m.unread_index FROM messaging_message m WHERE m.conversation_id = p.conversation_id
            AND m.seq <= p.last_read_seq ORDER BY m.seq DESC LIMIT 1), {_BASE}) AS read_index,
  (SELECT count(*) FROM messaging_message m WHERE m.conversation_id = p.conversation_id
   AND m.seq > p.last_read_seq AND m.sender_id = p.user_id AND {_CAN_BE_UNREAD}) AS own_since_read"""  # noqa: S608

_PLACES = f"""
SELECT p.user_id, p.read_index, expected.read_index, p.own_since_read, expected.own_since_read
FROM messaging_participant p, LATERAL (SELECT {_EXPECTED_PLACE}) expected
WHERE p.conversation_id = %(conversation)s AND (
  p.read_index <> expected.read_index OR p.own_since_read <> expected.own_since_read) ORDER BY p.user_id"""  # noqa: S608

_SHOWN = f"""
SELECT p.user_id, {UNREAD_OF_PLACE}
FROM messaging_participant p JOIN messaging_conversation c ON c.id = p.conversation_id
WHERE p.conversation_id = %s"""  # noqa: S608

_LOCK_CONVERSATION = "SELECT 1 FROM messaging_conversation WHERE id = %s FOR NO KEY UPDATE"

_LOCK_PLACES = "SELECT 1 FROM messaging_participant WHERE conversation_id = %s ORDER BY id FOR NO KEY UPDATE"

_MEND_MESSAGES = f"""
UPDATE messaging_message m SET unread_index = n.counted FROM ({_NUMBERED}) n
WHERE m.id = n.id AND n.stored <> n.counted"""  # noqa: S608

_MEND_TOTAL = "UPDATE messaging_conversation SET unread_total = %s WHERE id = %s AND unread_total <> %s"

_MEND_PLACES = f"""
UPDATE messaging_participant place
SET read_index = expected.read_index, own_since_read = expected.own_since_read
FROM messaging_participant p, LATERAL (SELECT {_EXPECTED_PLACE}) expected
WHERE place.id = p.id AND p.conversation_id = %(conversation)s AND (
  p.read_index <> expected.read_index OR p.own_since_read <> expected.own_since_read)"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class LogNumbers:
    """`unread_total` as it is stored and as it is counted, and how many messages have an index that is not."""

    unread_total: int
    counted_total: int
    wrong_messages: int


@dataclass(frozen=True, slots=True)
class WrongPlace:
    """A member whose numbers are not those of the log."""

    user_id: UUID
    read_index: int
    counted_read_index: int
    own_since_read: int
    counted_own_since_read: int


def conversation_ids(*, after: UUID | None, limit: int) -> Sequence[UUID]:
    """The tenant's conversations in id order, those behind `after`."""
    with connection.cursor() as cursor:
        cursor.execute(_IDS, [after, after, limit])
        return [row[0] for row in cursor.fetchall()]


def log_numbers(conversation_id: UUID) -> LogNumbers | None:
    """None: the conversation is gone. Cost: the conversation's messages, read in the order of an index."""
    with connection.cursor() as cursor:
        cursor.execute(_LOG, {"conversation": conversation_id})
        row = cursor.fetchone()
    return None if row is None else LogNumbers(int(row[0]), int(row[1]), int(row[2]))


def wrong_places(conversation_id: UUID) -> list[WrongPlace]:
    """Members whose numbers differ from what the messages' indexes say, which have to be right. Cost: a few index
    looks for each member, and their own messages after their read position."""
    with connection.cursor() as cursor:
        cursor.execute(_PLACES, {"conversation": conversation_id})
        return [WrongPlace(*row) for row in cursor.fetchall()]


def shown_counts(conversation_id: UUID) -> dict[UUID, int]:
    """What every member is shown as unread: the rule of `messaging.queries.unread`, for all of one conversation."""
    with connection.cursor() as cursor:
        cursor.execute(_SHOWN, [conversation_id])
        return dict(cursor.fetchall())


def lock_conversation(conversation_id: UUID) -> None:
    """Until the transaction ends nobody sends here and no member's read position moves."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_CONVERSATION, [conversation_id])
        cursor.execute(_LOCK_PLACES, [conversation_id])


def mend(conversation_id: UUID) -> None:
    """Makes every stored number what `log_numbers` and `wrong_places` count. Under `lock_conversation`. Cost: theirs
    and the rows that change."""
    numbers = log_numbers(conversation_id)
    if numbers is None:
        return
    with connection.cursor() as cursor:
        if numbers.wrong_messages:
            cursor.execute(_MEND_MESSAGES, {"conversation": conversation_id})
        cursor.execute(_MEND_TOTAL, [numbers.counted_total, conversation_id, numbers.counted_total])
        cursor.execute(_MEND_PLACES, {"conversation": conversation_id})
