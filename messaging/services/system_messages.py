"""Messages that the server writes: what became of the membership, where the tenant wants to read it in the talk."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from messagecore.kernel import ids, wire
from messaging.events import DurableEvent
from messaging.models import Conversation, MessageType, User
from messaging.queries import sending as queries
from messaging.queries.messages import MessageView
from messaging.queries.sending import Advance, NewMessage
from messaging.rendering import render_new_message
from messaging.services import log
from messaging.services.tenantsettings import get_tenant_settings

NAMED_USERS = 100


def tell_membership(
    tenant_id: UUID,
    locked: Conversation,
    event: str,
    user_ids: Sequence[UUID],
    *,
    actor: User | None,
    now: datetime,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Appends a system message, if the tenant has chosen so, behind the event that it tells of.

    `user_ids` are those whom it is about, of whom at most NAMED_USERS are named; names are the reader's to fill in.
    The caller holds the conversation's lock; `now` is the time that `log.advance` returned. Never unread, never
    counted against the month.
    """
    if not get_tenant_settings().membership_messages:
        return
    content = {
        "event": event,
        "actorId": None if actor is None else str(actor.id),
        "userIds": [str(user_id) for user_id in user_ids[:NAMED_USERS]],
        "count": len(user_ids),
        **(facts or {}),
    }
    locked.last_seq += 1
    locked.message_count += 1
    locked.last_message_id = ids.new_id()
    locked.last_message_at = now
    message = NewMessage(
        id=locked.last_message_id,
        conversation_id=locked.id,
        seq=locked.last_seq,
        message_index=locked.message_count,
        sender_id=None,
        type=MessageType.SYSTEM,
        content=wire.dumps(content).decode(),
        reply_to_id=None,
        client_message_id=None,
        body_digest=b"",
        mentions="[]",
        metadata="{}",
        silent=False,
        unread_index=locked.unread_total,
        thread_id=None,
    )
    end = Advance(locked.id, locked.last_seq, locked.message_count, locked.unread_total, message.id)
    queries.write_messages(tenant_id, [message], [end], now=now)
    shown = render_new_message(_view(locked, message, content, now), wire.timestamp(now))
    log.announce(tenant_id, [DurableEvent(locked.id, message.seq, "new_message", shown)])


def _view(locked: Conversation, message: NewMessage, content: Mapping[str, Any], now: datetime) -> MessageView:
    return MessageView(
        id=message.id,
        conversation_id=locked.id,
        conversation_external_id=locked.external_id,
        seq=message.seq,
        message_index=message.message_index,
        sender=None,
        type=message.type,
        content=content,
        reply_to_id=None,
        client_message_id=None,
        thread_id=None,
        reply_count=0,
        forwarded_from_id=None,
        mentions=(),
        silent=False,
        metadata={},
        created_at=now,
        recorded_at=now,
        updated_at=now,
        edited_at=None,
        deleted_at=None,
    )
