"""What each role may do in a conversation: the one table, which code asks and docs show."""

from enum import StrEnum

from messagecore.kernel.errors import PermissionDenied
from messaging.models import Role


class Action(StrEnum):
    READ = "read"
    SEND = "send"
    LEAVE = "leave"
    ADD_PARTICIPANTS = "add_participants"
    REMOVE_PARTICIPANTS = "remove_participants"


ALLOWED: dict[Action, frozenset[Role]] = {
    Action.READ: frozenset(Role),
    Action.SEND: frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER}),
    Action.LEAVE: frozenset(Role),
    Action.ADD_PARTICIPANTS: frozenset({Role.OWNER, Role.ADMIN}),
    Action.REMOVE_PARTICIPANTS: frozenset({Role.OWNER, Role.ADMIN}),
}


def may(role: str, action: Action) -> bool:
    return role in ALLOWED[action]


def require(role: str, action: Action) -> None:
    """Raises PermissionDenied if the role may not."""
    if not may(role, action):
        raise PermissionDenied(f"The role {role} may not {action.value.replace('_', ' ')} here.")
