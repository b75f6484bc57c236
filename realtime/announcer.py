"""Messaging's Announcer port over the broker."""

from collections.abc import Sequence
from uuid import UUID

from messaging.events import Announcement, BlockChanged, DurableEvent, Expelled, Joined, Left, ToOnlookers, ToUser
from realtime.broker import publisher
from realtime.protocol import frames, hints


class RedisAnnouncer:
    """Encodes each announcement once and hands it to the publisher's thread."""

    def announce(self, tenant_id: UUID, announcements: Sequence[Announcement]) -> None:
        for announcement in announcements:
            publisher().publish(tenant_id, hints.encode(_hint(announcement)))


def _hint(announcement: Announcement) -> hints.Hint:  # noqa: PLR0911 - one return a kind
    match announcement:
        case DurableEvent():
            frame = frames.event(announcement.type, announcement.data)
            return hints.EventHint(announcement.conversation_id, announcement.seq, frame, announcement.author_id)
        case Joined():
            frame = frames.event(
                "conversation_created",
                {"conversation": announcement.conversation, "timestamp": announcement.timestamp},
            )
            return hints.JoinedHint(
                announcement.conversation_id,
                announcement.after_seq,
                announcement.conversation["externalId"],
                announcement.user_ids,
                frame,
            )
        case ToUser():
            return hints.UserHint(announcement.user_id, frames.event(announcement.type, announcement.data))
        case ToOnlookers():
            return hints.OnlookersHint(announcement.conversation_id, frames.event(announcement.type, announcement.data))
        case Expelled():
            return hints.ExpelledHint(announcement.user_id, announcement.reason)
        case BlockChanged():
            frame = frames.event("user_blocked" if announcement.is_blocked else "user_unblocked", announcement.data)
            return hints.BlockHint(announcement.user_id, announcement.blocked_id, announcement.is_blocked, frame)
        case Left():
            frame = frames.event(
                "conversation_removed",
                {
                    "conversationId": str(announcement.conversation_id),
                    "conversationExternalId": announcement.conversation_external_id,
                    "reason": announcement.reason,
                    "timestamp": announcement.timestamp,
                },
            )
            return hints.LeftHint(announcement.conversation_id, announcement.after_seq, announcement.user_id, frame)
