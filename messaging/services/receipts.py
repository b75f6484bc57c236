"""What has reached whom: marking messages as delivered, receipts, and why a message did not reach somebody."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from messagecore.kernel import wire
from messagecore.kernel.errors import Refusal
from messaging.events import ToOnlookers
from messaging.models import Message, MessageType, NotificationLevel, User
from messaging.queries import receipts as queries
from messaging.queries.receipts import Delivery, Receipt, Standing
from messaging.services import log
from messaging.services.messages import MessageAccess
from tenants import outbox

MAX_PARTICIPANTS = 100
"""Receipts are shown, and deliveries told, in conversations of up to so many people."""

REASONS = {
    "own_message": "It is the user's own message.",
    "not_a_participant": "The user is not in the conversation and was not when it was sent.",
    "removed_before": "The user had left the conversation, or had been removed, before it was sent.",
    "removed_since": "The user was in the conversation when it was sent and is no longer.",
    "before_their_view": "The user came later, and their view of the history begins behind it.",
    "joined_after": "The user came after it was sent: they see it in the history and were not told of it.",
    "blocked_sender": "The user blocks its sender and sees nothing of theirs.",
    "user_inactive": "The user is deactivated.",
    "user_banned": "The user is banned from the tenant.",
    "deleted": "The message was deleted.",
    "system_message": "The server wrote it, which notifies nobody.",
    "silent": "It was sent silently, which notifies nobody.",
    "muted": "The user muted the conversation and is not mentioned by name.",
    "preferences": "The user's notification preferences do not want it.",
    "read_already": "The user has read that far.",
    "no_notification_yet": "Who has to be notified is about to be worked out.",
    "was_connected": "The user was connected when it was, so it went to their devices and not into notifications.",
}
"""Why somebody did not get a message, or was not notified of it; the words are those of the catalogue."""


class ConversationTooLarge(Refusal):
    code = "conversation_too_large"


def mark_delivered(
    *,
    tenant_id: UUID,
    conversation_id: UUID,
    conversation_external_id: str | None,
    user_id: UUID,
    external_user_id: str,
    seq: int,
    now: datetime,
) -> int | None:
    """Moves the user's position of delivery on to `seq`, at most to the log's end; never back. Returns where it stands
    if it moved. Those who look at the conversation hear `conversation_delivered`, while it has at most
    MAX_PARTICIPANTS. One statement, which writes only what changes."""
    moved = queries.mark_delivered(conversation_id, user_id, seq)
    if moved is None:
        return None
    if moved.participant_count <= MAX_PARTICIPANTS:
        data = {
            "conversationId": str(conversation_id),
            "conversationExternalId": conversation_external_id,
            "userId": str(user_id),
            "externalUserId": external_user_id,
            "lastDeliveredSeq": moved.last_delivered_seq,
            "timestamp": wire.timestamp(now),
        }
        log.announce(tenant_id, [ToOnlookers(conversation_id, "conversation_delivered", data)])
    return moved.last_delivered_seq


def list_receipts(access: MessageAccess) -> Sequence[Receipt]:
    """How far the message has come with each other participant who may see it. Raises ConversationTooLarge."""
    if access.conversation.conversation.participant_count > MAX_PARTICIPANTS:
        raise ConversationTooLarge
    message = access.message
    return queries.receipts(message.conversation_id, message.seq, sender_id=message.sender_id)


def explain_delivery(*, tenant_id: UUID, message: Message, user: User, now: datetime) -> Delivery:
    """What became of the message on its way to the user, and why (keys of REASONS, in its order), as things are now.

    One statement, and one more where nothing else explains it.
    """
    standing = queries.get_standing(message.id, user.id)
    reasons = list(_reasons(message, user, standing, now))
    if not reasons and standing.notification is None:
        waits = outbox.is_waiting(tenant_id, "new_message", message.id)
        reasons = ["no_notification_yet" if waits else "was_connected"]
    return Delivery(user, _state(message, user, standing), reasons, standing.notification)


def _state(message: Message, user: User, standing: Standing) -> str:
    if message.sender_id == user.id:
        return "read"
    if not standing.may_see:
        return "none"
    return "read" if standing.has_read else "delivered" if standing.has_got else "sent"


def _reasons(message: Message, user: User, standing: Standing, now: datetime) -> Iterator[str]:
    """In the order of REASONS; what decides before anybody asks whether they are connected."""
    if message.sender_id == user.id:
        yield "own_message"
        return
    yield from _reasons_of_membership(standing)
    if standing.blocks_sender:
        yield "blocked_sender"
    if not user.is_active:
        yield "user_inactive"
    if user.banned_until is not None and user.banned_until > now:
        yield "user_banned"
    if message.deleted_at is not None:
        yield "deleted"
    if message.type == MessageType.SYSTEM:
        yield "system_message"
    if message.silent:
        yield "silent"
    yield from _reasons_of_their_own(standing, now)
    if standing.has_read:
        yield "read_already"


def _reasons_of_membership(standing: Standing) -> Iterator[str]:
    if standing.is_there:
        if not standing.may_see:
            yield "before_their_view"
        elif not standing.was_there:
            yield "joined_after"
    elif standing.was_there:
        yield "removed_since"
    else:
        yield "removed_before" if standing.was_removed_before else "not_a_participant"


def _reasons_of_their_own(standing: Standing, now: datetime) -> Iterator[str]:
    """What the user wants to hear: the rule of `services.notifications`, in words."""
    if standing.muted_until is not None and standing.muted_until > now and not standing.is_mentioned:
        yield "muted"
    wants = standing.level == NotificationLevel.ALL or (
        standing.level == NotificationLevel.MENTIONS and (standing.is_mentioned or standing.channel_is_mentioned)
    )
    if not wants:
        yield "preferences"
