"""The review queue: what a filter held is sent, or forgotten, when a moderator decides.

Order of locks: the conversation, then the held message; sends and deletions take the conversation first, too.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from messagecore.kernel import wire
from messagecore.kernel.errors import Conflict, NotFound
from messagecore.kernel.ids import find_uuid
from messaging.models import HeldMessage, HeldStatus
from messaging.queries.moderation import held_messages
from messaging.queries.sending import lock_conversations, members_among
from messaging.services import mentions
from messaging.services.sending import Draft, Sent, send_message


class HeldMessageNotFound(NotFound):
    code = "held_message_not_found"


def get_held(any_id: str) -> HeldMessage:
    """Raises HeldMessageNotFound."""
    uuid = find_uuid(any_id)
    found = None if uuid is None else held_messages().filter(pk=uuid).first()
    if found is None:
        raise HeldMessageNotFound
    return found


def approve_held(*, tenant_id: UUID, held_id: str, now: datetime) -> HeldMessage:
    """Sends a held message as it was written, under its client message id, past all filters; it takes its place in the
    log, and counts against the month, now. Approving twice sends once.

    Raises HeldMessageNotFound, Conflict (rejected), and what `send_message` raises, which leaves it waiting.
    """
    held = _locked(get_held(held_id))
    if held.status == HeldStatus.APPROVED:
        return held
    if held.status == HeldStatus.REJECTED:
        raise Conflict("The message is rejected.")
    sent = send_message(tenant_id=tenant_id, draft=_draft(held), via="review")
    assert isinstance(sent, Sent), "what was reviewed is not held again"
    return _decided(held, HeldStatus.APPROVED, message_id=sent.message.id, now=now)


def reject_held(*, held_id: str, now: datetime) -> HeldMessage:
    """It is not sent, and what it said is forgotten. Rejecting twice changes nothing. Raises HeldMessageNotFound,
    Conflict (approved)."""
    held = _locked(get_held(held_id))
    if held.status == HeldStatus.REJECTED:
        return held
    if held.status == HeldStatus.APPROVED:
        raise Conflict("The message is approved, and sent.")
    return _decided(held, HeldStatus.REJECTED, message_id=None, now=now)


def _locked(found: HeldMessage) -> HeldMessage:
    """The row as it is once nobody else decides on it. Raises HeldMessageNotFound if it went meanwhile."""
    lock_conversations([found.conversation_id])
    HeldMessage.objects.select_for_update().filter(pk=found.pk).first()
    return get_held(str(found.pk))


def _decided(held: HeldMessage, status: HeldStatus, *, message_id: UUID | None, now: datetime) -> HeldMessage:
    held.status, held.message_id, held.draft, held.decided_at = status, message_id, {}, now
    held.save(update_fields=["status", "message_id", "draft", "decided_at"])
    return held


def _draft(held: HeldMessage) -> Draft:
    kept = held.draft
    return Draft(
        conversation=str(held.conversation_id),
        sender=str(held.sender_id),
        type=kept["type"],
        content=_as_sent(kept["content"]),
        reply_to_id=kept["replyToId"],
        client_message_id=held.client_message_id,
        mentions=_still_there(held.conversation_id, kept["mentions"]),
        metadata=_as_sent(kept["metadata"]),
        silent=kept["silent"],
        forwarded_from_id=None if kept["forwardedFromId"] is None else UUID(kept["forwardedFromId"]),
        hides_conversation=not kept["speaksForTenant"],
        reviewed_digest=bytes(held.body_digest),
    )


def _still_there(conversation_id: UUID, mentioned: list[str]) -> list[str]:
    """Without the people who left while the message waited."""
    people = mentions.mentioned_users(mentioned)
    if not people:
        return mentioned
    members = members_among([(conversation_id, user_id) for user_id in people]).get(conversation_id, frozenset())
    gone = {str(user_id) for user_id in people if user_id not in members}
    return [mention for mention in mentioned if mention not in gone]


def _as_sent(value: dict[str, Any]) -> dict[str, Any]:
    """Numbers as a client's are: what was sent as 5.6e+290 comes back from the database as a whole number."""
    back: dict[str, Any] = wire.loads(wire.dumps(value))
    return back
