"""Messages that are sent later: kept, changed, cancelled, and sent once when their time comes.

Order of locks: the sender, the timer, the conversation, the scheduled message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from messagecore.kernel import ids, validation, wire
from messagecore.kernel.api.paging import behind
from messagecore.kernel.errors import Conflict, FieldError, NotFound, Refusal, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messaging.access import UserNotFound, get_user
from messaging.models import Message, ScheduledMessage, ScheduledStatus, User
from messaging.queries.sending import lock_conversations, members_among
from messaging.services import mentions
from messaging.services.sending import Checked, Draft, IdempotencyConflict, Sent, check_draft, send_messages
from tenants import timers
from tenants.scope import tenant_scope
from tenants.timers import DueTimer

TIMER = "scheduled_message"

MIN_AHEAD = timedelta(seconds=5)
MAX_AHEAD = timedelta(days=365)

MAX_SCHEDULED = 1000
"""Messages that one user may have waiting."""

ASK_AGAIN = timedelta(seconds=1)
"""When what is refused for a moment, without a word for how long, is tried again."""


class ScheduledMessageNotFound(NotFound):
    code = "scheduled_message_not_found"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message that is kept for its time. `replayed`: it was scheduled before, with the same client message id."""

    message: ScheduledMessage
    replayed: bool


def schedule_message(*, tenant_id: UUID, draft: Draft, send_at: str, now: datetime) -> Scheduled:
    """Keeps a draft until `send_at` (RFC 3339), MIN_AHEAD to MAX_AHEAD from now.

    What can be said of it now is checked as `check_draft` does, and whom it mentions is resolved; the month's quota is
    asked when it is sent. Raises what `check_draft` raises, ValidationFailed (the time), IdempotencyConflict, Conflict
    (MAX_SCHEDULED).
    """
    at = _time(send_at, now)
    # The row's lock makes the limit exact, and a request that comes twice at once one.
    sender = User.objects.select_for_update(no_key=True).filter(pk=get_user(draft.sender).pk).first()
    if sender is None:
        raise UserNotFound
    checked = check_draft(draft)
    kept = _stored(draft, checked)
    if (earlier := _find_earlier(sender, draft.client_message_id)) is not None:
        is_same = earlier.conversation_id == checked.conversation_id and (
            not earlier.draft or (earlier.draft == kept and earlier.send_at == at)
        )
        if not is_same:
            raise IdempotencyConflict
        return Scheduled(earlier, replayed=True)
    waiting = ScheduledMessage.objects.filter(sender=sender, status=ScheduledStatus.SCHEDULED)
    if waiting.count() >= MAX_SCHEDULED:
        raise Conflict(f"A user has at most {MAX_SCHEDULED} scheduled messages.")
    message = ScheduledMessage.objects.create(
        id=ids.new_id(),
        sender=sender,
        conversation_id=checked.conversation_id,
        draft=kept,
        send_at=at,
        created_at=now,
        updated_at=now,
    )
    timers.set_timer(tenant_id, TIMER, message.id, due_at=at)
    return Scheduled(message, replayed=False)


def _find_earlier(sender: User, client_message_id: str | None) -> ScheduledMessage | None:
    """What the sender scheduled under this id before. Raises IdempotencyConflict if they sent something else under it.

    What was sent no longer holds its draft: it is known by the message that it became.
    """
    if client_message_id is None:
        return None
    own = _related().filter(sender=sender)
    waiting = own.filter(
        status__in=(ScheduledStatus.SCHEDULED, ScheduledStatus.FAILED), draft__clientMessageId=client_message_id
    ).first()
    if waiting is not None:
        return waiting
    sent = Message.objects.filter(sender=sender, client_message_id=client_message_id)
    message_id = sent.values_list("id", flat=True).first()
    if message_id is None:
        return None
    became = own.filter(message_id=message_id).first()
    if became is None:
        raise IdempotencyConflict
    return became


def get_scheduled(any_id: str, actor: User | None) -> ScheduledMessage:
    """A user sees their own, the integrator (None) all. Raises ScheduledMessageNotFound."""
    uuid = find_uuid(any_id)
    found = None if uuid is None else _related().filter(pk=uuid).first()
    if found is None or (actor is not None and found.sender_id != actor.id):
        raise ScheduledMessageNotFound
    return found


def list_scheduled(
    *,
    actor: User | None,
    status: str | None,
    conversation_id: UUID | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[ScheduledMessage]:
    """In order of their times, behind the cursor (send_at, id), with senders and conversations: one statement."""
    found = _related().order_by("send_at", "id")
    if actor is not None:
        found = found.filter(sender=actor)
    if status is not None:
        found = found.filter(status=status)
    if conversation_id is not None:
        found = found.filter(conversation_id=conversation_id)
    if after is not None:
        found = found.filter(behind(("send_at", "id"), after))
    return list(found[:limit])


def change_scheduled(
    *, tenant_id: UUID, scheduled: ScheduledMessage, change: Mapping[str, Any], speaks_for_tenant: bool, now: datetime
) -> ScheduledMessage:
    """Changes content, metadata, mentions and the time, each where given, of a message that waits; it is checked anew.

    Whoever gives new content is who has to be allowed its file: `speaks_for_tenant`. Raises Conflict once it waits no
    longer, and what `schedule_message` raises.
    """
    # Held, nobody else changes the row, and it is not sent.
    timers.hold(tenant_id, TIMER, scheduled.id)
    current = get_scheduled(str(scheduled.id), None)
    if current.status != ScheduledStatus.SCHEDULED:
        raise Conflict(f"The message is {current.status}.")
    draft = current.draft | {name: change[name] for name in ("content", "metadata", "mentions") if name in change}
    if "content" in change:
        draft["speaksForTenant"] = speaks_for_tenant
    validation.validate("ContentByType", {"type": draft["type"], "content": draft["content"]})
    at = _time(change["sendAt"], now) if "sendAt" in change else current.send_at
    checked = check_draft(_draft(current, draft))
    current.draft = draft | {"mentions": list(checked.mentions)}
    current.send_at, current.updated_at = at, now
    current.save(update_fields=["draft", "send_at", "updated_at"])
    timers.set_timer(tenant_id, TIMER, current.id, due_at=at)
    return current


def cancel_scheduled(*, tenant_id: UUID, scheduled: ScheduledMessage, now: datetime) -> ScheduledMessage:
    """It is not sent, and what it would have said is forgotten. One that failed is put away like this, too; cancelling
    twice changes nothing. Raises Conflict if it was sent."""
    timers.cancel(tenant_id, TIMER, [scheduled.id])
    open_ones = ScheduledMessage.objects.filter(
        pk=scheduled.pk, status__in=(ScheduledStatus.SCHEDULED, ScheduledStatus.FAILED)
    )
    open_ones.update(status=ScheduledStatus.CANCELLED, draft={}, updated_at=now)
    current = get_scheduled(str(scheduled.id), None)
    if current.status == ScheduledStatus.SENT:
        raise Conflict("The message is sent.")
    return current


def forget_user(tenant_id: UUID, user: User) -> None:
    """Takes away what a user who is deleted would have sent, and what they scheduled before. The caller has locked the
    user, and no conversation."""
    own = ScheduledMessage.objects.filter(sender=user)
    timers.cancel(tenant_id, TIMER, list(own.values_list("id", flat=True)))
    own.delete()


def send_due(timer: DueTimer, now: datetime) -> datetime | None:
    """Sends what a timer stands for, in the transaction that takes the timer away: the message and its being marked as
    sent are one commit, so that it is sent once whatever breaks. See `tenants.timers.Handler`.

    What is refused for a moment (slow mode) is tried again; any other refusal is final, and kept as `error_code`.
    """
    with tenant_scope(timer):
        message = ScheduledMessage.objects.filter(pk=timer.subject_id, status=ScheduledStatus.SCHEDULED).first()
        if message is None:
            return None  # it went with its conversation
        (outcome,) = send_messages(tenant_id=timer.tenant_id, drafts=[_draft_to_send(message)], via="schedule")
        row = ScheduledMessage.objects.filter(pk=message.pk)
        if isinstance(outcome, Sent):
            row.update(status=ScheduledStatus.SENT, message_id=outcome.message.id, draft={}, updated_at=now)
        elif outcome.retryable:
            return now + _pause(outcome)
        else:
            row.update(status=ScheduledStatus.FAILED, error_code=outcome.code, updated_at=now)
    return None


def _pause(refusal: Refusal) -> timedelta:
    seconds = refusal.headers.get("Retry-After")
    return ASK_AGAIN if seconds is None else max(ASK_AGAIN, timedelta(seconds=int(seconds)))


def _draft_to_send(message: ScheduledMessage) -> Draft:
    """With an id of its own where it was given none, and without mentions of people who are no longer there."""
    draft = dict(message.draft)
    draft["clientMessageId"] = draft["clientMessageId"] or f"scheduled:{message.id}"
    if people := mentions.mentioned_users(draft["mentions"]):
        lock_conversations([message.conversation_id])
        pairs = [(message.conversation_id, user_id) for user_id in people]
        members = members_among(pairs).get(message.conversation_id, frozenset())
        gone = {str(user_id) for user_id in people if user_id not in members}
        draft["mentions"] = [mention for mention in draft["mentions"] if mention not in gone]
    return _draft(message, draft)


def _related() -> QuerySet[ScheduledMessage]:
    return ScheduledMessage.objects.select_related("sender", "conversation")


def _time(text: str, now: datetime) -> datetime:
    at = wire.parse_timestamp(text)
    if not now + MIN_AHEAD <= at <= now + MAX_AHEAD:
        raise ValidationFailed([FieldError("/sendAt", "must be between 5 seconds and 365 days from now")])
    return at


def _stored(draft: Draft, checked: Checked) -> dict[str, Any]:
    """A draft as the row holds it: by the body's names, but for who asked; sender and conversation are columns."""
    return {
        "type": draft.type,
        "content": draft.content,
        "replyToId": draft.reply_to_id,
        "clientMessageId": draft.client_message_id,
        "mentions": list(checked.mentions),
        "metadata": draft.metadata,
        "silent": draft.silent,
        "speaksForTenant": not draft.hides_conversation,
    }


def _draft(message: ScheduledMessage, kept: Mapping[str, Any]) -> Draft:
    return Draft(
        conversation=str(message.conversation_id),
        sender=str(message.sender_id),
        type=kept["type"],
        content=_as_sent(kept["content"]),
        reply_to_id=kept["replyToId"],
        client_message_id=kept["clientMessageId"],
        mentions=kept["mentions"],
        metadata=_as_sent(kept["metadata"]),
        silent=kept["silent"],
        hides_conversation=not kept["speaksForTenant"],
    )


def _as_sent(value: dict[str, Any]) -> dict[str, Any]:
    """Numbers as a client's are: what was sent as 5.6e+290 comes back from the database as a whole number."""
    back: dict[str, Any] = wire.loads(wire.dumps(value))
    return back
