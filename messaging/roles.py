"""What each role may do in a conversation: the one table, which code asks and docs show."""

from enum import StrEnum

from messagecore.kernel.errors import PermissionDenied
from messaging.models import Role


class Action(StrEnum):
    READ = "read"
    SEND = "send"
    REACT = "react"
    PIN = "pin"
    DELETE_ANY_MESSAGE = "delete_any_message"
    LEAVE = "leave"
    UPDATE_CONVERSATION = "update_conversation"
    DELETE_CONVERSATION = "delete_conversation"
    SEND_WHEN_FROZEN = "send_when_frozen"
    IGNORE_SLOW_MODE = "ignore_slow_mode"
    ADD_PARTICIPANTS = "add_participants"
    CHANGE_ROLES = "change_roles"
    REMOVE_PARTICIPANTS = "remove_participants"
    BAN = "ban"


ALLOWED: dict[Action, frozenset[Role]] = {
    Action.READ: frozenset(Role),
    Action.SEND: frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER}),
    Action.REACT: frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER}),
    Action.PIN: frozenset({Role.OWNER, Role.ADMIN}),
    Action.DELETE_ANY_MESSAGE: frozenset({Role.OWNER, Role.ADMIN}),
    Action.LEAVE: frozenset(Role),
    Action.UPDATE_CONVERSATION: frozenset({Role.OWNER, Role.ADMIN}),
    Action.DELETE_CONVERSATION: frozenset({Role.OWNER}),
    Action.SEND_WHEN_FROZEN: frozenset({Role.OWNER, Role.ADMIN}),
    Action.IGNORE_SLOW_MODE: frozenset({Role.OWNER, Role.ADMIN}),
    Action.CHANGE_ROLES: frozenset({Role.OWNER, Role.ADMIN}),
    Action.ADD_PARTICIPANTS: frozenset({Role.OWNER, Role.ADMIN}),
    Action.REMOVE_PARTICIPANTS: frozenset({Role.OWNER, Role.ADMIN}),
    Action.BAN: frozenset({Role.OWNER, Role.ADMIN}),
}


ALLOWED_IN_DIRECT = frozenset({Action.PIN})
"""What both members of a direct conversation may besides: nobody there is an owner."""


def may(role: str, action: Action, *, in_direct: bool = False) -> bool:
    return role in ALLOWED[action] or (in_direct and action in ALLOWED_IN_DIRECT)


def require(role: str, action: Action, *, in_direct: bool = False) -> None:
    """Raises PermissionDenied if the role may not."""
    if not may(role, action, in_direct=in_direct):
        raise PermissionDenied(f"The role {role} may not {action.value.replace('_', ' ')} here.")
