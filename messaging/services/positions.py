"""How far each member has read: what is read has arrived. What is unread, `messaging/queries/unread.py` says."""

from datetime import datetime
from uuid import UUID

from messagecore.kernel import wire
from messaging.events import ToOnlookers, ToUser
from messaging.models import Conversation, Participant, User
from messaging.queries import unread
from messaging.rendering import render_unread
from messaging.services import log


def mark_read(*, tenant_id: UUID, conversation: Conversation, user: User, seq: int, now: datetime) -> Participant:
    """Moves the read position on to `seq`, at most to the log's end; never back.

    The reader's devices hear `unread_updated`, those looking at the conversation `conversation_read`.
    """
    place = Participant.objects.select_for_update().get(conversation=conversation, user=user)
    seq = min(seq, unread.last_seq(conversation.id))
    if seq > place.last_read_seq:
        _move(tenant_id, conversation, place, user=user, seq=seq, now=now)
    return place


def mark_unread(
    *, tenant_id: UUID, conversation: Conversation, user: User, from_seq: int, now: datetime
) -> Participant:
    """Moves the read position back to just before `from_seq`, so that it and what follows is unread again.

    Not before where the member's view begins, nor the log. Under the conversation's lock: retention, which moves both
    the log's beginning and the read positions before it, has done neither or both.
    """
    locked = log.lock(conversation.id)
    place = Participant.objects.select_for_update().get(conversation=conversation, user=user)
    seq = max(from_seq, place.visible_from_seq, locked.purged_seq + 1) - 1
    if seq < place.last_read_seq:
        _move(tenant_id, conversation, place, user=user, seq=seq, now=now)
    return place


def _move(
    tenant_id: UUID, conversation: Conversation, place: Participant, *, user: User, seq: int, now: datetime
) -> None:
    # Where the position goes back, what was read stays delivered.
    place.last_delivered_seq = max(place.last_delivered_seq, place.last_read_seq, seq)
    place.last_read_seq = seq
    place.read_index = unread.index_at(conversation.id, seq)
    place.own_since_read = unread.own_after(conversation.id, user.id, seq)
    place.save(update_fields=["last_read_seq", "last_delivered_seq", "read_index", "own_since_read"])
    shown = unread.place_of(user.id, conversation.id)
    read = {
        "conversationId": str(conversation.id),
        "conversationExternalId": conversation.external_id,
        "userId": str(user.id),
        "externalUserId": user.external_user_id,
        "lastReadSeq": seq,
        "timestamp": wire.timestamp(now),
    }
    log.announce(
        tenant_id,
        [
            ToUser(user.id, "unread_updated", render_unread(shown, now)),
            ToOnlookers(conversation.id, "conversation_read", read),
        ],
    )
