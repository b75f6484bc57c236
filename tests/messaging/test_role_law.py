"""The role law: the whole table of roles and actions, tried through REST. What to try for an action stands here; one
that has nothing here fails. `tests/e2e/test_socket_laws.py` tries it through the socket."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from messagecore.kernel import catalogue
from messaging.models import Role
from messaging.roles import ALLOWED, ALLOWED_IN_DIRECT, Action, may
from tests.accounts import Account, draft
from tests.api import Answer, Api
from tests.snapshots import contents

ROLES = [str(role) for role in Role]


@dataclass(frozen=True, slots=True)
class Scene:
    """A group with an owner and others in it, and the one of them who tries, in the role that is tried."""

    account: Account
    room: dict[str, Any]
    actor: dict[str, Any]
    other: dict[str, Any]
    message: dict[str, Any]
    outsider: dict[str, Any]

    @property
    def path(self) -> str:
        return f"/conversations/{self.room['id']}"

    @property
    def message_path(self) -> str:
        return f"/messages/{self.message['id']}"

    def send(self, api: Api, text: str = "tried") -> Answer:
        return api.post("/messages/send", draft(self.room, self.actor, text))

    def settings(self, **settings: Any) -> None:
        assert self.account.api.patch(self.path, {"settings": settings}).status == 200


Try = Callable[[Scene, Api], Answer]


def _send_when_frozen(scene: Scene, api: Api) -> Answer:
    scene.settings(isFrozen=True)
    return scene.send(api)


def _send_twice_in_slow_mode(scene: Scene, api: Api) -> Answer:
    assert scene.send(scene.account.api, "first").status in {200, 403}
    scene.settings(slowModeSeconds=600)
    return scene.send(api)


TRIES: dict[Action, Sequence[Try]] = {
    Action.READ: (
        lambda scene, api: api.get(scene.path),
        lambda scene, api: api.get(scene.message_path),
        lambda scene, api: api.get(f"/messages/conversations/{scene.room['id']}"),
        lambda scene, api: api.get(f"{scene.path}/pins"),
        lambda scene, api: api.get(f"{scene.message_path}/thread"),
        lambda scene, api: api.get(f"{scene.message_path}/reactions"),
        lambda scene, api: api.post(f"{scene.path}/read", {"seq": 1}),
        lambda scene, api: api.post(f"{scene.path}/unread", {"messageId": scene.message["id"]}),
        lambda scene, api: api.patch(f"{scene.path}/membership", {"pinned": True}),
    ),
    Action.SEND: (
        lambda scene, api: scene.send(api),
        lambda scene, api: api.post(f"{scene.message_path}/forward", {"conversationId": scene.room["id"]}),
    ),
    Action.REACT: (lambda scene, api: api.post(f"{scene.message_path}/reactions", {"name": "👍"}),),
    Action.PIN: (
        lambda scene, api: api.put(f"{scene.message_path}/pin"),
        lambda scene, api: api.delete(f"{scene.message_path}/pin"),
    ),
    Action.DELETE_ANY_MESSAGE: (lambda scene, api: api.delete(scene.message_path),),
    Action.LEAVE: (lambda scene, api: api.delete(f"{scene.path}/participants/{scene.actor['id']}"),),
    Action.UPDATE_CONVERSATION: (
        lambda scene, api: api.patch(scene.path, {"title": "tried"}),
        lambda scene, api: api.patch(scene.path, {"metadata": {"tried": True}}),
        lambda scene, api: api.patch(scene.path, {"settings": {"isFrozen": True}}),
    ),
    Action.DELETE_CONVERSATION: (lambda scene, api: api.delete(scene.path),),
    Action.SEND_WHEN_FROZEN: (_send_when_frozen,),
    Action.IGNORE_SLOW_MODE: (_send_twice_in_slow_mode,),
    Action.ADD_PARTICIPANTS: (
        lambda scene, api: api.post(f"{scene.path}/participants", {"participantIds": [scene.outsider["id"]]}),
    ),
    Action.CHANGE_ROLES: (
        lambda scene, api: api.patch(f"{scene.path}/participants/{scene.other['id']}", {"role": "observer"}),
    ),
    Action.REMOVE_PARTICIPANTS: (lambda scene, api: api.delete(f"{scene.path}/participants/{scene.other['id']}"),),
    Action.BAN: (
        lambda scene, api: api.post(f"{scene.path}/bans", {"userId": scene.other["id"]}),
        lambda scene, api: api.get(f"{scene.path}/bans"),
    ),
}

# The refusal, where it has a code of its own. An observer is refused for being one.
CODES = {Action.SEND_WHEN_FROZEN: "conversation_frozen", Action.IGNORE_SLOW_MODE: "slow_mode"}


def test_every_action_is_tried() -> None:
    assert TRIES.keys() == ALLOWED.keys() == set(Action), "say in TRIES how to try an action"


def _scene(tenant: Account, role: str) -> Scene:
    owner, actor, other, outsider = tenant.users(4)
    room = tenant.conversation(owner, actor, other)
    path = f"/conversations/{room['id']}/participants"
    assert tenant.api.patch(f"{path}/{owner['id']}", {"role": "owner"}).status == 200
    message = tenant.message(room, other)
    if role != "member":
        assert tenant.api.patch(f"{path}/{actor['id']}", {"role": role}).status == 200
    return Scene(tenant, room, actor, other, message, outsider)


def _expected(role: str, action: Action) -> tuple[int, str]:
    code = CODES.get(action, "permission_denied") if may(role, Action.SEND) else "permission_denied"
    return catalogue.error(code).status, code


CASES = [
    pytest.param(action, number, id=f"{action.value}-{number}")
    for action, tries in TRIES.items()
    for number in range(len(tries))
]


@pytest.mark.parametrize("as_browser", [True, False], ids=["token", "acting key"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("action", "number"), CASES)
def test_a_role_may_what_the_table_says(
    tenant: Account, action: Action, number: int, role: str, as_browser: bool
) -> None:
    scene = _scene(tenant, role)
    actor = tenant.user_api(scene.actor) if as_browser else tenant.api.acting_as(scene.actor["id"])
    attempt = TRIES[action][number]
    if may(role, action):
        answer = attempt(scene, actor)
        assert answer.status in {200, 201}, answer.body
        return
    if action in CODES:  # their tries prepare something first
        attempt(scene, actor).refuses(*_expected(role, action))
        return
    before = contents(tenant)
    attempt(scene, actor).refuses(*_expected(role, action))
    assert contents(tenant) == before, "a refused action changes nothing"


@pytest.mark.parametrize("action", sorted(ALLOWED_IN_DIRECT))
def test_both_in_a_direct_conversation_may_what_the_table_adds(tenant: Account, action: Action) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob, type="direct")
    message = tenant.message(room, ada)
    for actor in (ada, bob):
        scene = Scene(tenant, room, actor, ada, message, ada)
        for attempt in TRIES[action]:
            assert attempt(scene, tenant.user_api(actor)).status == 200


@pytest.mark.parametrize("action", [action for action in Action if not may("member", action, in_direct=True)])
def test_nobody_in_a_direct_conversation_may_what_needs_an_admin(tenant: Account, action: Action) -> None:
    ada, bob, cyd = tenant.users(3)
    room = tenant.conversation(ada, bob, type="direct")
    scene = Scene(tenant, room, ada, bob, tenant.message(room, bob), cyd)
    for attempt in TRIES[action]:
        assert attempt(scene, tenant.user_api(ada)).status in {403, 409, 429}


@pytest.mark.parametrize(("action", "number"), [case for case in CASES if case.values[0] not in CODES])
def test_who_is_not_in_it_finds_nothing(tenant: Account, action: Action, number: int) -> None:
    """Whatever the table says: a role is a place in the conversation."""
    scene = _scene(tenant, "member")
    stranger = Scene(tenant, scene.room, scene.outsider, scene.other, scene.message, scene.outsider)
    before = contents(tenant)
    answer = TRIES[action][number](stranger, tenant.user_api(scene.outsider))
    assert answer.status == 404, answer.body
    assert contents(tenant) == before


AS_SOMEBODY = {Action.SEND, Action.SEND_WHEN_FROZEN, Action.IGNORE_SLOW_MODE}
"""What has a sender has the sender's role, whoever calls."""


@pytest.mark.parametrize(("action", "number"), [case for case in CASES if case.values[0] not in AS_SOMEBODY])
def test_the_integrator_may_everything(tenant: Account, action: Action, number: int) -> None:
    """A secret key that acts as nobody; reacting and reading as a member need somebody."""
    scene = _scene(tenant, "member")
    answer = TRIES[action][number](scene, tenant.api)
    assert answer.status in {200, 201} or answer.code == "acting_user_required", answer.body
