"""What is done to messages that are there: edit, delete, react, pin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from messagecore.kernel import validation
from messagecore.kernel.errors import Conflict, NotFound, PermissionDenied
from messagecore.kernel.ids import find_uuid
from messaging import roles
from messaging.access import ConversationAccess, MessageNotFound, access_conversation
from messaging.models import (
    Conversation,
    Message,
    MessageRevision,
    MessageType,
    Participant,
    PinnedMessage,
    Reaction,
    User,
    UserBlock,
)
from messaging.queries.files import Use
from messaging.queries.identity import resolve
from messaging.queries.indexing import remove_entries
from messaging.queries.sending import members_among
from messaging.services import files, filters, log, mentions
from messaging.services.filters import MessageHeld, MessageRejected
from messaging.services.log import Entry
from messaging.services.matching import Action as FilterAction
from messaging.services.sending import (
    MAX_CONTENT_BYTES,
    MAX_METADATA_BYTES,
    Draft,
    Sent,
    require_bounded,
    send_message,
)

MAX_REACTION_NAMES = 100
"""Different reactions that one message may have."""

MAX_PINS = 100


@dataclass(frozen=True, slots=True)
class MessageAccess:
    """A message that the caller may see, in a conversation that they may see."""

    message: Message
    conversation: ConversationAccess


def access_message(message_id: str, actor: User | None) -> MessageAccess:
    """`actor` None sees every message, a user those of their conversations from where their view begins, but for those
    of people whom they block.

    Raises MessageNotFound.
    """
    uuid = find_uuid(message_id)
    message = None if uuid is None else Message.objects.filter(pk=uuid).first()
    if message is None:
        raise MessageNotFound
    try:
        conversation = access_conversation(str(message.conversation_id), actor)
    except NotFound:
        raise MessageNotFound from None
    if message.seq < conversation.visible_from_seq or (actor is not None and _is_blocked(message, actor)):
        raise MessageNotFound
    return MessageAccess(message, conversation)


def _is_blocked(message: Message, viewer: User) -> bool:
    return UserBlock.objects.filter(blocker=viewer, blocked_id=message.sender_id).exists()


def edit_message(*, tenant_id: UUID, access: MessageAccess, change: Mapping[str, Any], actor: User | None) -> Message:
    """Replaces the content, and mentions and metadata where given; what was there stays as a revision.

    Only the author may, and the integrator. Raises PermissionDenied, Conflict (deleted, or the system's),
    ValidationFailed (content that its type does not allow), PayloadTooLarge, MessageRejected (by a filter, also by one
    that holds messages: an edit cannot wait).
    """
    locked = log.lock(access.message.conversation_id)
    message = _current(access.message)
    if message.deleted_at is not None:
        raise Conflict("The message is deleted.")
    if message.type == MessageType.SYSTEM:
        raise Conflict("A system message cannot be edited.")
    if actor is not None and message.sender_id != actor.id:
        raise PermissionDenied("Only its author may edit a message.")
    validation.validate("ContentByType", {"type": message.type, "content": change["content"]})
    require_bounded(change["content"], "/content", MAX_CONTENT_BYTES)
    require_bounded(change.get("metadata", {}), "/metadata", MAX_METADATA_BYTES)
    content = _filtered(tenant_id, change["content"])
    file_id = files.linked_file(message.type, change["content"])
    if file_id is not None and message.sender_id is not None:
        files.link_edited(message.id, Use(message.sender_id, file_id, speaks_for_tenant=actor is None))

    now = log.advance(locked, events=1)
    MessageRevision.objects.create(
        message=message,
        content=message.content,
        mentions=message.mentions,
        metadata=message.metadata,
        replaced_at=now,
    )
    message.content = content
    if "mentions" in change:
        message.mentions = _mentioned(change["mentions"], locked.id)
    message.metadata = change.get("metadata", message.metadata)
    message.edited_at = message.updated_at = now
    message.save(update_fields=["content", "mentions", "metadata", "edited_at", "updated_at"])
    log.append(tenant_id, locked, [Entry("message_updated", message.id, {}, message.sender_id)], actor=actor, now=now)
    return message


def _filtered(tenant_id: UUID, content: dict[str, Any]) -> dict[str, Any]:
    """The content as the tenant's filters let it pass. Raises MessageRejected."""
    rules = filters.get_rules(tenant_id)
    if rules is None:
        return content
    verdict = rules.judge(content)
    if verdict.action in {FilterAction.HOLD, FilterAction.REJECT}:
        raise MessageRejected
    return verdict.content


def forward_message(
    *, tenant_id: UUID, access: MessageAccess, body: Mapping[str, Any], user: User, hides_conversation: bool
) -> Sent | MessageHeld:
    """Repeats what a message says as the user's own, in the conversation that `body` names. It belongs to them: what
    becomes of the first one, or of its author, does not touch it. Neither mentions nor metadata are repeated.

    Raises Conflict (deleted, or the system's) and what `send_message` raises.
    """
    message = _current(access.message)
    if message.deleted_at is not None:
        raise Conflict("The message is deleted.")
    if message.type == MessageType.SYSTEM:
        raise Conflict("A system message cannot be forwarded.")
    draft = Draft(
        conversation=body["conversationId"],
        sender=str(user.id),
        type=message.type,
        content=message.content,
        client_message_id=body.get("clientMessageId"),
        metadata=body.get("metadata", {}),
        forwarded_from_id=message.id,
        hides_conversation=hides_conversation,
    )
    return send_message(tenant_id=tenant_id, draft=draft, via="forward")


def delete_message(*, tenant_id: UUID, access: MessageAccess, actor: User | None) -> Message:
    """Deletes for everyone. A tombstone keeps the seq; content, history, reactions and pin are gone, and files that no
    other message links to. Deleting what is deleted changes nothing. The author may, those whose role may, and the
    integrator. Raises PermissionDenied."""
    locked = log.lock(access.message.conversation_id)
    message = _current(access.message)
    if message.deleted_at is not None:
        return message
    if actor is not None and message.sender_id != actor.id:
        _require(access, actor, roles.Action.DELETE_ANY_MESSAGE)
    now = log.advance(locked, events=1)
    if message.type in files.LINKING_TYPES:
        files.unlink_messages(tenant_id, [message.id])
    message.revisions.all().delete()
    message.reactions.all().delete()
    PinnedMessage.objects.filter(message=message).delete()
    if message.thread_id is not None:
        Message.objects.filter(pk=message.thread_id).update(reply_count=F("reply_count") - 1)
    message.content, message.mentions, message.metadata, message.reaction_count = {}, [], {}, 0
    message.deleted_at = message.updated_at = now
    message.save(update_fields=["content", "mentions", "metadata", "reaction_count", "deleted_at", "updated_at"])
    remove_entries([message.id])
    log.append(tenant_id, locked, [Entry("message_deleted", message.id, {}, message.sender_id)], actor=actor, now=now)
    return message


def add_reaction(*, tenant_id: UUID, access: MessageAccess, name: str, user: User) -> Message:
    """Gives a reaction; giving it twice changes nothing. Raises Conflict (deleted, or MAX_REACTION_NAMES different
    ones are there), PermissionDenied."""
    locked = log.lock(access.message.conversation_id)
    message = _current(access.message)
    if message.deleted_at is not None:
        raise Conflict("The message is deleted.")
    _require(access, user, roles.Action.REACT)
    names = set(message.reactions.values_list("name", flat=True))
    if name not in names and len(names) >= MAX_REACTION_NAMES:
        raise Conflict(f"A message has at most {MAX_REACTION_NAMES} different reactions.")
    if message.reactions.filter(user=user, name=name).exists():
        return message
    Reaction.objects.create(message=message, user=user, name=name, created_at=timezone.now())
    _record_reaction(tenant_id, locked, message, type_="reaction_added", name=name, user=user)
    return message


def remove_reaction(*, tenant_id: UUID, access: MessageAccess, name: str, user: User) -> Message:
    """Takes an own reaction back; taking back what is not there changes nothing."""
    locked = log.lock(access.message.conversation_id)
    message = _current(access.message)
    deleted, _ = message.reactions.filter(user=user, name=name).delete()
    if deleted:
        _record_reaction(tenant_id, locked, message, type_="reaction_removed", name=name, user=user)
    return message


def _record_reaction(
    tenant_id: UUID, locked: Conversation, message: Message, *, type_: str, name: str, user: User
) -> None:
    now = log.advance(locked, events=1)
    message.reaction_count = message.reactions.count()
    message.save(update_fields=["reaction_count"])
    count = message.reactions.filter(name=name).count()
    entry = Entry(type_, message.id, {"name": name, "count": count}, message.sender_id)
    log.append(tenant_id, locked, [entry], actor=user, now=now)


def pin_message(*, tenant_id: UUID, access: MessageAccess, actor: User | None) -> Message:
    """Keeps a message in sight; pinning twice changes nothing. Raises Conflict (deleted, full), PermissionDenied."""
    locked = log.lock(access.message.conversation_id)
    message = _current(access.message)
    if message.deleted_at is not None:
        raise Conflict("The message is deleted.")
    _require(access, actor, roles.Action.PIN)
    if PinnedMessage.objects.filter(message=message).exists():
        return message
    if locked.pins.count() >= MAX_PINS:
        raise Conflict(f"A conversation has at most {MAX_PINS} pinned messages.")
    now = log.advance(locked, events=1)
    PinnedMessage.objects.create(conversation=locked, message=message, pinned_by=actor, pinned_at=now)
    log.append(tenant_id, locked, [Entry("message_pinned", message.id, {}, message.sender_id)], actor=actor, now=now)
    return message


def unpin_message(*, tenant_id: UUID, access: MessageAccess, actor: User | None) -> Message:
    """Unpinning what is not pinned changes nothing. Raises PermissionDenied."""
    locked = log.lock(access.message.conversation_id)
    _require(access, actor, roles.Action.PIN)
    deleted, _ = PinnedMessage.objects.filter(message=access.message).delete()
    if deleted:
        now = log.advance(locked, events=1)
        log.append(
            tenant_id,
            locked,
            [Entry("message_unpinned", access.message.id, {}, access.message.sender_id)],
            actor=actor,
            now=now,
        )
    return _current(access.message)


def _current(message: Message) -> Message:
    """The row under the conversation's lock. Raises MessageNotFound if it went meanwhile, or retention moved the log's
    beginning past it."""
    current = Message.objects.filter(pk=message.pk, seq__gt=F("conversation__purged_seq")).first()
    if current is None:
        raise MessageNotFound
    return current


def _require(access: MessageAccess, actor: User | None, action: roles.Action) -> None:
    """The integrator may everything; a user what their role may, as it is now. Raises PermissionDenied,
    MessageNotFound (they were removed meanwhile)."""
    if actor is None:
        return
    conversation = access.conversation.conversation
    place = Participant.objects.filter(conversation=conversation, user=actor).first()
    if place is None:
        raise MessageNotFound
    roles.require(place.role, action, in_direct=conversation.type == "direct")


def _mentioned(names: Sequence[str], conversation_id: UUID) -> list[str]:
    found = resolve("user", mentions.people(names))
    stored = mentions.resolve_mentions(names, found)
    members = members_among([(conversation_id, user_id) for user_id in found.values()]) if found else {}
    refusal = mentions.outsiders(names, found, members.get(conversation_id, frozenset()))
    if refusal is not None:
        raise refusal
    return stored
