"""The table of roles, written out: a change of it is a change here."""

import pytest

from messagecore.kernel.errors import PermissionDenied
from messaging import roles
from messaging.models import Role
from messaging.roles import Action

EVERYBODY = {"owner", "admin", "member", "observer"}
WRITERS = EVERYBODY - {"observer"}
MANAGERS = {"owner", "admin"}

EXPECTED = {
    Action.READ: EVERYBODY,
    Action.LEAVE: EVERYBODY,
    Action.SEND: WRITERS,
    Action.REACT: WRITERS,
    Action.ADD_PARTICIPANTS: MANAGERS,
    Action.REMOVE_PARTICIPANTS: MANAGERS,
    Action.BAN: MANAGERS,
    Action.DELETE_ANY_MESSAGE: MANAGERS,
    Action.PIN: MANAGERS,
}


@pytest.mark.parametrize("action", EXPECTED)
@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_who_may_what(action: Action, role: str) -> None:
    allowed = role in EXPECTED[action]
    assert roles.may(role, action) is allowed
    if allowed:
        roles.require(role, action)
    else:
        with pytest.raises(PermissionDenied, match=role):
            roles.require(role, action)


def test_the_table_speaks_of_every_action_and_of_every_role() -> None:
    assert set(roles.ALLOWED) == set(Action)
    assert {str(role) for role in Role} == EVERYBODY
    assert all(allowed for allowed in roles.ALLOWED.values())


def test_an_unknown_role_may_nothing() -> None:
    assert not any(roles.may("emperor", action) for action in Action)
