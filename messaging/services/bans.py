"""Who may not take part: bans from one conversation, and from the whole tenant. They end by themselves: nothing runs
when their time comes, everything that asks compares with the time it is."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from messagecore.kernel import ids, wire
from messagecore.kernel.errors import Conflict, FieldError, NotFound, PermissionDenied, ValidationFailed
from messaging import roles
from messaging.access import FOREVER, UserNotFound
from messaging.events import Expelled
from messaging.models import Ban, Conversation, ConversationType, Participant, Role, User
from messaging.queries import moderation as queries
from messaging.services import log
from messaging.services.conversations import check_may
from messaging.services.participants import take_out


class BanNotFound(NotFound):
    code = "ban_not_found"


@dataclass(frozen=True, slots=True)
class Placed:
    """A ban that stands now; `is_new`: none stood before."""

    ban: Ban
    is_new: bool


def ban_from_conversation(
    *,
    tenant_id: UUID,
    conversation: Conversation,
    user: User,
    until: str | None,
    reason: str,
    actor: User | None,
    now: datetime,
) -> Placed:
    """Keeps a user out of a conversation until then (RFC 3339; None: for good), and takes them out if they are in, at
    once on every open socket. A ban that stands is replaced.

    Locks the user, then the conversation. Raises PermissionDenied (also for the owner, whom only the integrator bans),
    Conflict (a direct conversation, oneself), ValidationFailed (the time), ConversationNotFound, UserNotFound.
    """
    ends_at = _end(until, now)
    locked_user = _lock_user(user)
    locked = log.lock(conversation.id)
    check_may(locked, actor, roles.Action.BAN)
    if locked.type == ConversationType.DIRECT:
        raise Conflict("Nobody is banned from a direct conversation; users block each other.")
    if actor is not None and actor.id == user.id:
        raise Conflict("Nobody bans themselves.")
    place = Participant.objects.filter(conversation=locked, user=locked_user).first()
    if actor is not None and place is not None and place.role == Role.OWNER:
        raise PermissionDenied("The owner is not banned; ownership is handed on first.")
    placed = _place(locked_user, locked, ends_at=ends_at, reason=reason, actor=actor, now=now)
    take_out(tenant_id, locked, locked_user, actor=actor, reason="banned")
    return placed


def unban_from_conversation(*, conversation: Conversation, user: User, actor: User | None, now: datetime) -> None:
    """They may come in again; nobody adds them. Raises PermissionDenied, BanNotFound (ended ones, too),
    ConversationNotFound."""
    locked = log.lock(conversation.id)
    check_may(locked, actor, roles.Action.BAN)
    _lift(user, locked.id, now)


def list_conversation_bans(
    *, conversation: Conversation, actor: User | None, before: queries.Place | None, now: datetime, limit: int
) -> list[Ban]:
    """Those in force, latest first. Raises PermissionDenied, ConversationNotFound."""
    check_may(conversation, actor, roles.Action.BAN)
    return queries.list_bans(conversation_id=conversation.id, before=before, now=now, limit=limit)


def ban_from_tenant(
    *, tenant_id: UUID, user: User, until: str | None, reason: str, actor: User | None, now: datetime
) -> Placed:
    """Refuses every call and token of a user until then (RFC 3339; None: for good) and sends on their behalf, and
    closes their sockets. Memberships and messages stay. A ban that stands is replaced.

    Raises ValidationFailed (the time), Conflict (oneself), UserNotFound.
    """
    ends_at = _end(until, now)
    if actor is not None and actor.id == user.id:
        raise Conflict("Nobody bans themselves.")
    locked = _lock_user(user)
    placed = _place(locked, None, ends_at=ends_at, reason=reason, actor=actor, now=now)
    locked.banned_until = ends_at or FOREVER
    locked.save(update_fields=["banned_until"])
    log.announce(tenant_id, [Expelled(locked.id, "the user is banned")])
    return placed


def unban_from_tenant(*, user: User, now: datetime) -> None:
    """Raises BanNotFound (ended ones, too), UserNotFound."""
    locked = _lock_user(user)
    _lift(locked, None, now)
    locked.banned_until = None
    locked.save(update_fields=["banned_until"])


def _end(until: str | None, now: datetime) -> datetime | None:
    if until is None:
        return None
    ends_at = wire.parse_timestamp(until)
    if ends_at <= now:
        raise ValidationFailed([FieldError("/until", "must be in the future")])
    return ends_at


def _lock_user(user: User) -> User:
    """Before any conversation, as when a user is deleted. One ban after the other."""
    locked = User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
    if locked is None:
        raise UserNotFound
    return locked


def _place(
    user: User,
    conversation: Conversation | None,
    *,
    ends_at: datetime | None,
    reason: str,
    actor: User | None,
    now: datetime,
) -> Placed:
    """Under the user's lock."""
    ban = Ban.objects.filter(user=user, conversation=conversation).first()
    is_new = ban is None or (ban.until is not None and ban.until <= now)
    if ban is None:
        ban = Ban(id=ids.new_id(), user=user, conversation=conversation)
    if is_new:
        ban.created_at = now
    ban.user, ban.conversation = user, conversation
    ban.until, ban.reason, ban.banned_by = ends_at, reason, actor
    ban.save()
    return Placed(ban, is_new)


def _lift(user: User, conversation_id: UUID | None, now: datetime) -> None:
    lifted, _ = queries.in_force(now).filter(queries.from_place(conversation_id), user=user).delete()
    if not lifted:
        raise BanNotFound
