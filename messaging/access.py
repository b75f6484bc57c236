"""The one door to objects of a tenant: who acts, and what they may see. What they may not see is not found."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from django.utils import timezone

from messagecore.kernel import wire
from messagecore.kernel.errors import FieldError, NotFound, Refusal, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messaging.models import Conversation, Participant, User
from messaging.queries.messages import Viewpoint
from tenants.cards import Caller, UserClaims
from tenants.services.authentication import InvalidToken, check_not_revoked

FOREVER = datetime(9999, 12, 31, tzinfo=UTC)
"""`User.banned_until` of a ban without an end."""


class ActingUserRequired(Refusal):
    code = "acting_user_required"


class UserInactive(Refusal):
    code = "user_inactive"


class UserBanned(Refusal):
    """`details.until`: when the ban ends; null: never."""

    code = "user_banned"

    def __init__(self, until: datetime) -> None:
        super().__init__(details={"until": wire.timestamp(until) if until < FOREVER else None})


class UserNotFound(NotFound):
    code = "user_not_found"


class ConversationNotFound(NotFound):
    code = "conversation_not_found"


class MessageNotFound(NotFound):
    code = "message_not_found"


class ParticipantNotFound(NotFound):
    code = "participant_not_found"


class KnownUser(Protocol):
    """What a row of a user says of what they may do, whatever was read of it."""

    @property
    def is_active(self) -> bool: ...
    @property
    def banned_until(self) -> datetime | None: ...
    @property
    def tokens_valid_after(self) -> datetime | None: ...


Known = TypeVar("Known", bound=KnownUser)


def get_user(any_id: str) -> User:
    """By the server's id or the integrator's; the server's wins. Raises UserNotFound."""
    uuid = find_uuid(any_id)
    user = User.objects.filter(pk=uuid).first() if uuid else None
    user = user or User.objects.filter(external_user_id=any_id).first()
    if user is None:
        raise UserNotFound
    return user


def get_conversation(any_id: str) -> Conversation:
    """By the server's id or the integrator's; the server's wins. Raises ConversationNotFound."""
    uuid = find_uuid(any_id)
    found = Conversation.objects.select_related("created_by")
    conversation = found.filter(pk=uuid).first() if uuid else None
    conversation = conversation or found.filter(external_id=any_id).first()
    if conversation is None:
        raise ConversationNotFound
    return conversation


def find_acting_user(caller: Caller) -> User | None:
    """The user that the caller acts as: the token's, or the one a secret key names; None: the integrator itself.

    Raises UserNotFound for an acting user, InvalidToken for a token's user, who does not exist; InvalidToken for a
    token that was revoked for its user; UserInactive, UserBanned.
    """
    if caller.claims is not None:
        user = token_user(User.objects.filter(external_user_id=caller.claims.external_user_id).first(), caller.claims)
    elif caller.acting_user is not None:
        user = get_user(caller.acting_user)
    else:
        return None
    check_may_act(user, now=timezone.now())
    return user


def token_user(found: Known | None, claims: UserClaims) -> Known:
    """The user that was found for a verified token. Raises InvalidToken for one who does not exist, and for a token
    that was revoked for its user."""
    if found is None:
        raise InvalidToken("The token's user does not exist.")
    check_not_revoked(claims.issued_at, found.tokens_valid_after)
    return found


def check_may_act(user: KnownUser, *, now: datetime) -> None:
    """Raises UserInactive, UserBanned."""
    if not user.is_active:
        raise UserInactive
    check_not_banned(user, now=now)


def check_not_banned(user: KnownUser, *, now: datetime) -> None:
    """Raises UserBanned during a ban from the whole tenant; one that is over is none."""
    if user.banned_until is not None and user.banned_until > now:
        raise UserBanned(user.banned_until)


def get_acting_user(caller: Caller) -> User:
    """Raises ActingUserRequired when a secret key names nobody, and what `find_acting_user` raises."""
    user = find_acting_user(caller)
    if user is None:
        raise ActingUserRequired
    return user


@dataclass(frozen=True, slots=True)
class ConversationAccess:
    """A conversation that the caller may see; `participant` is their place in it, None for the integrator."""

    conversation: Conversation
    participant: Participant | None

    @property
    def visible_from_seq(self) -> int:
        """Where the view begins: not before the log does, whose beginning retention moves."""
        own = 1 if self.participant is None else self.participant.visible_from_seq
        return max(own, self.conversation.purged_seq + 1)

    @property
    def viewpoint(self) -> Viewpoint:
        viewer_id = None if self.participant is None else self.participant.user_id
        return Viewpoint(self.conversation.id, self.visible_from_seq, viewer_id)


def access_conversation(any_id: str, actor: User | None) -> ConversationAccess:
    """`actor` None sees every conversation of the tenant, a user those they are in. Raises ConversationNotFound."""
    conversation = get_conversation(any_id)
    if actor is None:
        return ConversationAccess(conversation, None)
    participant = Participant.objects.filter(conversation=conversation, user=actor).first()
    if participant is None:
        raise ConversationNotFound
    return ConversationAccess(conversation, participant)


def require_self_or_integrator(caller: Caller, user: User) -> None:
    """A user token reads and changes its own user only; another's is not found. Raises UserNotFound."""
    if not caller.is_integrator and (actor := find_acting_user(caller)) is not None and actor.id != user.id:
        raise UserNotFound


def unknown_ids(pointer: str, missing: list[tuple[int, str]]) -> ValidationFailed:
    """A refusal naming the positions whose ids name nobody here."""
    return ValidationFailed(
        [FieldError(f"{pointer}/{position}", "names no user of this tenant") for position, _ in missing]
    )
