"""Users who go and come back: deactivation, revoked tokens, deletion."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from django.db import connection
from django.db.models import Q

from messaging.events import Expelled
from messaging.models import (
    Ban,
    Conversation,
    HeldMessage,
    Message,
    MessageReport,
    MessageRevision,
    Notification,
    NotificationPreferences,
    Participant,
    PinnedMessage,
    Reaction,
    User,
    UserBlock,
)
from messaging.queries.indexing import remove_of_sender
from messaging.services import files, log, scheduling
from messaging.services.log import Entry
from messaging.services.participants import take_out
from quotas.services.limits import get_limits
from quotas.services.metering import release_users, take_users


class Deletion(StrEnum):
    """What becomes of a deleted user's messages."""

    ANONYMISE = "anonymise"
    ERASE = "erase"


def deactivate_user(*, tenant_id: UUID, user: User, now: datetime) -> User:
    """Frees their place in the quota, refuses their tokens and closes their sockets; memberships and messages stay.

    Deactivating twice changes nothing.
    """
    locked = User.objects.select_for_update().get(pk=user.pk)
    if locked.is_active:
        locked.is_active, locked.updated_at = False, now
        locked.save(update_fields=["is_active", "updated_at"])
        release_users(tenant_id, 1)
        log.announce(tenant_id, [Expelled(locked.id, "the user is deactivated")])
    return locked


def reactivate_user(*, tenant_id: UUID, user: User, now: datetime) -> User:
    """Takes a place in the quota again. Raises UserQuotaExceeded. Reactivating twice changes nothing."""
    locked = User.objects.select_for_update().get(pk=user.pk)
    if not locked.is_active:
        take_users(tenant_id, 1, limit=get_limits(tenant_id).max_users)
        locked.is_active, locked.updated_at = True, now
        locked.save(update_fields=["is_active", "updated_at"])
    return locked


def revoke_tokens(*, tenant_id: UUID, user: User, now: datetime) -> None:
    """Refuses every token issued before now, and closes the sockets that they opened."""
    User.objects.filter(pk=user.pk).update(tokens_valid_after=now)
    log.announce(tenant_id, [Expelled(user.id, "the user's tokens were revoked")])


def delete_user(*, tenant_id: UUID, user: User, deletion: Deletion, now: datetime) -> None:
    """Takes a user out of every conversation and away.

    ANONYMISE keeps their messages under a nameless user whom nobody can be again. ERASE deletes their messages like
    `delete_message` does and removes the row: nothing of what they were or wrote remains but ids and hashes. Either
    way their external id is free afterwards. Cost: their memberships and, to erase, their messages.
    """
    locked = User.objects.select_for_update().get(pk=user.pk)
    scheduling.forget_user(tenant_id, locked)
    written_in = Message.objects.filter(sender=locked).order_by().values_list("conversation_id", flat=True).distinct()
    places = Participant.objects.filter(user=locked).values_list("conversation_id", flat=True)
    # In id order, like every lock of several conversations.
    held_for = HeldMessage.objects.filter(sender=locked).values_list("conversation_id", flat=True)
    for conversation_id in sorted({*places, *written_in, *held_for}):
        conversation = log.lock(conversation_id)
        if deletion is Deletion.ERASE:
            _erase_messages(tenant_id, conversation, locked)
        take_out(tenant_id, conversation, locked, actor=None, reason="removed")
    # Before the counter of users: it is the same row that files are counted in, and comes last.
    files.forget_user(tenant_id, locked, erase=deletion is Deletion.ERASE)
    Reaction.objects.filter(user=locked).delete()
    Notification.objects.filter(user=locked).delete()
    NotificationPreferences.objects.filter(user=locked).delete()
    UserBlock.objects.filter(Q(blocker=locked) | Q(blocked=locked)).delete()
    HeldMessage.objects.filter(sender=locked).delete()
    Ban.objects.filter(user=locked).delete()
    # What they decided stands, and that they complained; why is their own word.
    MessageReport.objects.filter(reporter=locked).update(comment="")
    Ban.objects.filter(banned_by=locked).update(reason="")
    if locked.is_active:
        release_users(tenant_id, 1)
    if deletion is Deletion.ERASE:
        _forget_in_events(locked.id)
        Message.objects.filter(sender=locked).update(sender=None)
        locked.delete()
    else:
        locked.external_user_id = f"deleted:{locked.id}"
        locked.display_name = locked.avatar_url = locked.email = None
        locked.metadata, locked.is_active = {}, False
        locked.banned_until = None
        locked.tokens_valid_after = locked.updated_at = now
        locked.save()
    log.announce(tenant_id, [Expelled(user.id, "the user is deleted")])


def _erase_messages(tenant_id: UUID, conversation: Conversation, user: User) -> None:
    """Turns every message of the user here into a tombstone, each with its `message_deleted`."""
    own = Message.objects.filter(conversation=conversation, sender=user)
    alive = list(own.filter(deleted_at=None).order_by("seq").values_list("id", flat=True))
    MessageRevision.objects.filter(message__in=own.values("id")).delete()
    Reaction.objects.filter(message__in=own.values("id")).delete()
    PinnedMessage.objects.filter(message__in=own.values("id")).delete()
    if alive:
        now = log.advance(conversation, events=len(alive))
        own.filter(deleted_at=None).update(deleted_at=now, updated_at=now)
        _uncount_replies(alive)
    own.update(content={}, metadata={}, mentions=[], reaction_count=0, client_message_id=None)
    remove_of_sender(user.id, conversation.id)
    if alive:
        entries = [Entry("message_deleted", message_id, {}, user.id) for message_id in alive]
        log.append(tenant_id, conversation, entries, actor=None, now=now)


def _uncount_replies(message_ids: list[UUID]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
UPDATE messaging_message root SET reply_count = root.reply_count - gone.replies
FROM (SELECT thread_id, count(*) AS replies FROM messaging_message
      WHERE id = ANY(%s) AND thread_id IS NOT NULL GROUP BY thread_id) gone
WHERE root.id = gone.thread_id""",
            [message_ids],
        )


def _forget_in_events(user_id: UUID) -> None:
    """A custom reaction's name is the person's own word; the log keeps only that there was one."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
UPDATE messaging_conversationevent SET data = jsonb_set(data, '{name}', '"erased"')
WHERE actor_id = %s AND type IN ('reaction_added', 'reaction_removed')""",
            [user_id],
        )
