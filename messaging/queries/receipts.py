"""How far messages have reached people: positions of delivery, receipts, and what explains one that did not arrive."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from messaging.models import User
from messaging.queries.messages import SenderView

DELIVERED_SEQ = "GREATEST(p.last_delivered_seq, p.last_read_seq)"
"""Up to where everything has reached the participant `p`: what is read has arrived."""

_MARK = f"""
UPDATE messaging_participant p SET last_delivered_seq = LEAST(%(seq)s, c.last_seq)
FROM messaging_conversation c
WHERE c.id = p.conversation_id AND p.conversation_id = %(conversation)s AND p.user_id = %(user)s
  AND {DELIVERED_SEQ} < LEAST(%(seq)s, c.last_seq)
RETURNING p.last_delivered_seq, c.participant_count"""  # noqa: S608 - a constant of this module

_RECEIPTS = f"""
SELECT u.id, u.external_user_id, u.display_name, u.avatar_url, p.last_read_seq >= %s, {DELIVERED_SEQ} >= %s
FROM messaging_participant p JOIN messaging_user u ON u.id = p.user_id
WHERE p.conversation_id = %s AND p.user_id IS DISTINCT FROM %s AND p.visible_from_seq <= %s
ORDER BY p.joined_at, p.id"""  # noqa: S608

_STANDING = f"""
SELECT p.id IS NOT NULL, COALESCE(p.visible_from_seq <= m.seq, FALSE), COALESCE(p.last_read_seq >= m.seq, FALSE),
       COALESCE({DELIVERED_SEQ} >= m.seq, FALSE), p.muted_until, COALESCE(f.level, 'all'),
       m.mentions ? u.id::text, m.mentions ? 'channel',
       EXISTS (SELECT 1 FROM messaging_userblock b WHERE b.blocker_id = u.id AND b.blocked_id = m.sender_id),
       (SELECT e.type FROM messaging_conversationevent e
        WHERE e.conversation_id = m.conversation_id AND e.seq < m.seq AND e.subject_id = u.id
          AND e.type IN ('participant_added', 'participant_removed') ORDER BY e.seq DESC LIMIT 1),
       (SELECT e.type FROM messaging_conversationevent e
        WHERE e.conversation_id = m.conversation_id AND e.seq > m.seq AND e.subject_id = u.id
          AND e.type IN ('participant_added', 'participant_removed') ORDER BY e.seq LIMIT 1),
       n.id, n.created_at, n.read_at
FROM messaging_message m
JOIN messaging_user u ON u.id = %s
LEFT JOIN messaging_participant p ON p.conversation_id = m.conversation_id AND p.user_id = u.id
LEFT JOIN messaging_notificationpreferences f ON f.user_id = u.id
LEFT JOIN messaging_notification n ON n.user_id = u.id AND n.message_id = m.id
WHERE m.id = %s"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a position of delivery stands after it moved, and how many are in the conversation."""

    last_delivered_seq: int
    participant_count: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far a message has come with one participant: `read`, `delivered` or `sent`."""

    user: SenderView
    state: str


@dataclass(frozen=True, slots=True)
class StoredNotification:
    id: UUID
    created_at: datetime
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a message on its way to one user. `state`: `read`, `delivered`, `sent`, or `none` where it is not
    theirs to get; `reasons` are words of the catalogue's `DeliveryReason`."""

    user: User
    state: str
    reasons: Sequence[str]
    notification: StoredNotification | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one user stands to one message, as things are now.

    `is_there`: they are in the conversation; `was_there`: they were when it was sent, as far as the log says;
    `may_see`: their view begins before it.
    """

    is_there: bool
    was_there: bool
    was_removed_before: bool
    may_see: bool
    has_read: bool
    has_got: bool
    muted_until: datetime | None
    level: str
    is_mentioned: bool
    channel_is_mentioned: bool
    blocks_sender: bool
    notification: StoredNotification | None


def mark_delivered(conversation_id: UUID, user_id: UUID, seq: int) -> Moved | None:
    """Moves a participant's position of delivery on to `seq`, at most to the log's end; None if it does not move: it is
    there already, or the user is not in the conversation.

    One statement, which writes only if the position moves. Locks the participant's row then. ORM:
    `Participant.objects.filter(…, last_delivered_seq__lt=…, last_read_seq__lt=…).update(last_delivered_seq=…)`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_MARK, {"seq": seq, "conversation": conversation_id, "user": user_id})
        row = cursor.fetchone()
    return None if row is None else Moved(*row)


def receipts(conversation_id: UUID, seq: int, *, sender_id: UUID | None) -> Sequence[Receipt]:
    """One for each participant who may see the message but its sender, in order of joining. One statement; the cost is
    the conversation's participants. ORM: `Participant.objects.filter(…).exclude(user=sender).select_related("user")`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_RECEIPTS, [seq, seq, conversation_id, sender_id, seq])
        return [
            Receipt(SenderView(*user), "read" if is_read else "delivered" if is_delivered else "sent")
            for *user, is_read, is_delivered in cursor.fetchall()
        ]


def get_standing(message_id: UUID, user_id: UUID) -> Standing:
    """One statement. Looks through the conversation's events: a question for people who look for a fault, not for every
    message. Whoever made the conversation or was named when it was made has no event of coming."""
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [user_id, message_id])
        row = cursor.fetchone()
    assert row is not None, "message and user exist"
    is_there, may_see, has_read, has_got, muted_until, level, by_name, by_channel, blocks, before, after, *told = row
    was_there = before == "participant_added" if before else after == "participant_removed" if after else is_there
    return Standing(
        is_there=is_there,
        was_there=was_there,
        was_removed_before=before == "participant_removed",
        may_see=may_see,
        has_read=has_read,
        has_got=has_got,
        muted_until=muted_until,
        level=level,
        is_mentioned=by_name,
        channel_is_mentioned=by_channel,
        blocks_sender=blocks,
        notification=None if told[0] is None else StoredNotification(*told),
    )
