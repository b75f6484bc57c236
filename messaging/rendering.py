"""Users, conversations, messages and events as clients see them: the catalogue's shapes, and nowhere else made.

Ids may stay UUIDs, which `wire.dumps` writes in a tenth of the time that a string of them takes to make."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from messagecore.kernel import wire
from messaging.models import (
    Conversation,
    File,
    MessageRevision,
    Notification,
    NotificationPreferences,
    Participant,
    Reaction,
    ScheduledMessage,
    TenantSettings,
    User,
    UserBlock,
)
from messaging.ports import Presence
from messaging.queries.log import EventRow
from messaging.queries.messages import MessageView, SenderView
from messaging.queries.receipts import Delivery, Receipt
from messaging.queries.unread import Place

UNKNOWN = Presence("unknown")


def render_reference(user: User | SenderView) -> dict[str, Any]:
    return {
        "id": user.id,
        "externalUserId": user.external_user_id,
        "displayName": user.display_name,
        "avatarUrl": user.avatar_url,
    }


def render_presence(presence: Presence) -> dict[str, Any]:
    return {"status": presence.status, "lastSeen": wire.optional_timestamp(presence.last_seen_at)}


def render_user(user: User, *, presence: Presence = UNKNOWN, with_email: bool) -> dict[str, Any]:
    """`with_email`: only for secret keys and for the user."""
    rendered = {
        **render_reference(user),
        "metadata": user.metadata,
        "isActive": user.is_active,
        "presence": render_presence(presence),
        "createdAt": wire.timestamp(user.created_at),
        "updatedAt": wire.timestamp(user.updated_at),
    }
    if with_email:
        rendered["email"] = user.email
    return rendered


def render_message(view: MessageView) -> dict[str, Any]:
    sender = None if view.sender is None else render_reference(view.sender)
    return {
        "id": view.id,
        "conversationId": view.conversation_id,
        "conversationExternalId": view.conversation_external_id,
        "seq": view.seq,
        "messageIndex": view.message_index,
        "sender": sender,
        "senderId": None if sender is None else sender["id"],
        "type": view.type,
        "content": view.content,
        "replyToId": view.reply_to_id,
        "threadId": view.thread_id,
        "replyCount": view.reply_count,
        "forwardedFromId": view.forwarded_from_id,
        "clientMessageId": view.client_message_id,
        "mentions": list(view.mentions),
        "silent": view.silent,
        "metadata": view.metadata,
        "reactions": [{"name": one.name, "count": one.count, "me": one.me} for one in view.reactions],
        "status": view.status,
        "createdAt": wire.timestamp(view.created_at),
        "updatedAt": wire.timestamp(view.updated_at),
        "editedAt": wire.optional_timestamp(view.edited_at),
        "deletedAt": wire.optional_timestamp(view.deleted_at),
    }


def delivered_seq(participant: Participant) -> int:
    """Up to where everything has reached them: what is read has arrived."""
    return max(participant.last_delivered_seq, participant.last_read_seq)


def render_participant(participant: Participant) -> dict[str, Any]:
    return {
        "user": render_reference(participant.user),
        "userId": str(participant.user_id),
        "externalUserId": participant.user.external_user_id,
        "role": participant.role,
        "joinedAt": wire.timestamp(participant.joined_at),
        "lastReadSeq": participant.last_read_seq,
        "lastDeliveredSeq": delivered_seq(participant),
    }


def render_membership(place: Place) -> dict[str, Any]:
    return {
        "role": place.role,
        "lastReadSeq": place.last_read_seq,
        "unreadCount": place.unread_count,
        "mutedUntil": wire.optional_timestamp(place.muted_until),
        "pinned": place.pinned,
        "archived": place.archived,
        "hidden": place.hidden,
        "visibleFromSeq": place.visible_from_seq,
    }


def render_unread(place: Place, now: datetime) -> dict[str, Any]:
    """The `unread_updated` event."""
    return {
        "conversationId": wire.id_text(place.conversation_id),
        "conversationExternalId": place.conversation_external_id,
        "lastSeq": place.last_seq,
        "lastReadSeq": place.last_read_seq,
        "unreadCount": place.unread_count,
        "timestamp": wire.timestamp(now),
    }


def render_conversation(
    conversation: Conversation,
    *,
    participants: Sequence[Participant],
    last_message: MessageView | None,
    membership: Place | None = None,
) -> dict[str, Any]:
    """`participants` are the first 100; `membership` is the asking user's place."""
    rendered = {
        "id": str(conversation.id),
        "externalId": conversation.external_id,
        "type": conversation.type,
        "title": conversation.title,
        "metadata": conversation.metadata,
        "settings": conversation.settings,
        "createdBy": None if conversation.created_by is None else render_reference(conversation.created_by),
        "createdAt": wire.timestamp(conversation.created_at),
        "updatedAt": wire.timestamp(conversation.updated_at),
        "lastMessageAt": wire.optional_timestamp(conversation.last_message_at),
        "lastSeq": conversation.last_seq,
        "messageCount": conversation.remaining_count,
        "participantCount": conversation.participant_count,
        "participants": [render_participant(participant) for participant in participants],
        "participantIds": [str(participant.user_id) for participant in participants],
        "lastMessage": None if last_message is None else render_message(last_message),
    }
    if membership is not None:
        rendered["membership"] = render_membership(membership)
    return rendered


def render_notification(notification: Notification, view: MessageView) -> dict[str, Any]:
    """With the beginning of a text, if the user wants to see it."""
    wanted: NotificationPreferences | None = getattr(notification.user, "notification_preferences", None)
    is_shown = (wanted is None or wanted.show_preview) and view.type == "text" and view.deleted_at is None
    text = view.content.get("text") if is_shown else None
    return {
        "id": str(notification.id),
        "type": "message",
        "conversationId": str(view.conversation_id),
        "conversationExternalId": view.conversation_external_id,
        "messageId": str(view.id),
        "seq": view.seq,
        "preview": None if text is None else text[:140],
        "createdAt": wire.timestamp(notification.created_at),
        "readAt": wire.optional_timestamp(notification.read_at),
    }


def render_file(file: File) -> dict[str, Any]:
    return {
        "id": str(file.id),
        "name": file.name,
        "mediaType": file.media_type,
        "sizeBytes": file.size_bytes,
        "ownerId": None if file.owner_id is None else str(file.owner_id),
        "createdAt": wire.timestamp(file.created_at),
        "url": f"/api/v1/files/{file.id}/content",
    }


def render_revision(revision: MessageRevision) -> dict[str, Any]:
    return {
        "content": revision.content,
        "mentions": revision.mentions,
        "metadata": revision.metadata,
        "replacedAt": wire.timestamp(revision.replaced_at),
    }


def render_reactor(reaction: Reaction) -> dict[str, Any]:
    return {
        "name": reaction.name,
        "user": render_reference(reaction.user),
        "userId": str(reaction.user_id),
        "externalUserId": reaction.user.external_user_id,
        "createdAt": wire.timestamp(reaction.created_at),
    }


def render_block(block: UserBlock) -> dict[str, Any]:
    return {
        "user": render_reference(block.blocked),
        "userId": str(block.blocked_id),
        "externalUserId": block.blocked.external_user_id,
        "createdAt": wire.timestamp(block.created_at),
    }


def render_scheduled(scheduled: ScheduledMessage) -> dict[str, Any]:
    draft = {name: scheduled.draft[name] for name in scheduled.draft if name != "speaksForTenant"}
    return {
        "id": str(scheduled.id),
        "status": scheduled.status,
        "sendAt": wire.timestamp(scheduled.send_at),
        "conversationId": str(scheduled.conversation_id),
        "conversationExternalId": scheduled.conversation.external_id,
        "sender": render_reference(scheduled.sender),
        "senderId": str(scheduled.sender_id),
        "message": draft or None,
        "messageId": None if scheduled.message_id is None else str(scheduled.message_id),
        "errorCode": scheduled.error_code,
        "createdAt": wire.timestamp(scheduled.created_at),
        "updatedAt": wire.timestamp(scheduled.updated_at),
    }


def render_receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "user": render_reference(receipt.user),
        "userId": str(receipt.user.id),
        "externalUserId": receipt.user.external_user_id,
        "state": receipt.state,
    }


def render_delivery(delivery: Delivery) -> dict[str, Any]:
    told = delivery.notification
    return {
        "user": render_reference(delivery.user),
        "userId": str(delivery.user.id),
        "externalUserId": delivery.user.external_user_id,
        "state": delivery.state,
        "reasons": list(delivery.reasons),
        "notification": None
        if told is None
        else {
            "id": str(told.id),
            "createdAt": wire.timestamp(told.created_at),
            "readAt": wire.optional_timestamp(told.read_at),
        },
    }


def render_preferences(preferences: NotificationPreferences) -> dict[str, Any]:
    return {"level": preferences.level, "showPreview": preferences.show_preview}


def render_tenant_settings(settings: TenantSettings) -> dict[str, Any]:
    return {"membershipMessages": settings.membership_messages}


def render_new_message(view: MessageView, recorded_at: str) -> dict[str, Any]:
    """The `new_message` event."""
    return {
        "conversationId": view.conversation_id,
        "conversationExternalId": view.conversation_external_id,
        "seq": view.seq,
        "message": render_message(view),
        "timestamp": recorded_at,
    }


@dataclass(frozen=True, slots=True)
class EventContext:
    """What a batch of log entries refers to, as it is now; who or what is gone is missing."""

    users: Mapping[UUID, SenderView]
    messages: Mapping[UUID, MessageView]
    conversations: Mapping[UUID, Conversation]


def render_event(row: EventRow, context: EventContext) -> dict[str, Any]:
    """The `data` of a log entry that is not a message, by its type."""
    common: dict[str, Any] = {
        "conversationId": str(row.conversation_id),
        "conversationExternalId": row.conversation_external_id,
        "seq": row.seq,
        "timestamp": wire.timestamp(row.recorded_at),
    }
    return common | _SHAPES[row.type](row, context)


def _reference(context: EventContext, user_id: UUID | None) -> dict[str, Any] | None:
    user = None if user_id is None else context.users.get(user_id)
    return None if user is None else render_reference(user)


def _message(context: EventContext, message_id: UUID | None) -> dict[str, Any] | None:
    view = None if message_id is None else context.messages.get(message_id)
    return None if view is None else render_message(view)


def _message_updated(row: EventRow, context: EventContext) -> dict[str, Any]:
    return {"messageId": str(row.subject_id), "message": _message(context, row.subject_id)}


def _message_acted_on(row: EventRow, context: EventContext) -> dict[str, Any]:
    return _message_updated(row, context) | {"actor": _reference(context, row.actor_id)}


def _message_unpinned(row: EventRow, context: EventContext) -> dict[str, Any]:
    return {"messageId": str(row.subject_id), "actor": _reference(context, row.actor_id)}


def _reaction(row: EventRow, context: EventContext) -> dict[str, Any]:
    user = _reference(context, row.actor_id)
    return {
        "messageId": str(row.subject_id),
        "name": row.data["name"],
        "count": row.data["count"],
        "user": user,
        "userId": None if row.actor_id is None else str(row.actor_id),
        "externalUserId": None if user is None else user["externalUserId"],
    }


def _conversation_updated(row: EventRow, context: EventContext) -> dict[str, Any]:
    conversation = context.conversations[row.conversation_id]
    summary = {
        "id": str(conversation.id),
        "externalId": conversation.external_id,
        "type": conversation.type,
        "title": conversation.title,
        "metadata": conversation.metadata,
        "settings": conversation.settings,
        "participantCount": conversation.participant_count,
        "updatedAt": wire.timestamp(conversation.updated_at),
    }
    return {"conversation": summary, "actor": _reference(context, row.actor_id)}


def _about_participant(row: EventRow, context: EventContext) -> dict[str, Any]:
    user = _reference(context, row.subject_id)
    return {
        "user": user,
        "userId": None if row.subject_id is None else str(row.subject_id),
        "externalUserId": None if user is None else user["externalUserId"],
        "actor": _reference(context, row.actor_id),
    }


def _participant(row: EventRow, context: EventContext) -> dict[str, Any]:
    """The place as the event made it; null once the user is gone."""
    about = _about_participant(row, context)
    if about["user"] is None:
        return about | {"participant": None}
    place = {
        "user": about["user"],
        "userId": about["userId"],
        "externalUserId": about["externalUserId"],
        "role": row.data["role"],
        "joinedAt": row.data["joinedAt"],
        "lastReadSeq": row.data["lastReadSeq"],
        "lastDeliveredSeq": row.data.get("lastDeliveredSeq", row.data["lastReadSeq"]),
    }
    return about | {"participant": place}


def _participant_added(row: EventRow, context: EventContext) -> dict[str, Any]:
    return _participant(row, context) | {"participantCount": row.data["participantCount"]}


def _participant_removed(row: EventRow, context: EventContext) -> dict[str, Any]:
    return _about_participant(row, context) | {
        "reason": row.data["reason"],
        "participantCount": row.data["participantCount"],
    }


_SHAPES: Mapping[str, Callable[[EventRow, EventContext], dict[str, Any]]] = {
    "message_updated": _message_updated,
    "message_deleted": _message_acted_on,
    "message_pinned": _message_acted_on,
    "message_unpinned": _message_unpinned,
    "reaction_added": _reaction,
    "reaction_removed": _reaction,
    "conversation_updated": _conversation_updated,
    "participant_added": _participant_added,
    "participant_removed": _participant_removed,
    "participant_updated": _participant,
}
EVENTS_OF_MESSAGES = frozenset({"message_updated", "message_deleted", "message_pinned"})
EVENTS_OF_PARTICIPANTS = frozenset({"participant_added", "participant_removed", "participant_updated"})
