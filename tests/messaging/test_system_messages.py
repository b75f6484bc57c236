"""System messages of membership changes, where the tenant chose them; and the choice."""

from typing import Any

import pytest

from messaging.queries.unread import recount, unread_counts
from messaging.services.system_messages import NAMED_USERS
from tenants.scope import tenant_scope
from tests.accounts import Account

pytestmark = pytest.mark.core


@pytest.fixture
def telling(tenant: Account) -> Account:
    assert tenant.api.patch("/settings", {"membershipMessages": True}).data == {"membershipMessages": True}
    return tenant


def log_of(tenant: Account, room: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = tenant.api.get(f"/messages/conversations/{room['id']}").data["messages"]
    return messages


def test_the_choice_is_off_until_it_is_made_and_each_tenants_own(tenant: Account, other_tenant: Account) -> None:
    assert tenant.api.get("/settings").data == {"membershipMessages": False}
    tenant.api.patch("/settings", {"membershipMessages": True})
    assert tenant.api.patch("/settings", {"membershipMessages": None}).data == {"membershipMessages": True}
    assert other_tenant.api.get("/settings").data == {"membershipMessages": False}


def test_only_the_integrator_reads_and_makes_the_choice(tenant: Account) -> None:
    user = tenant.user_api(tenant.user())
    user.get("/settings").refuses(403, "permission_denied")
    user.patch("/settings", {"membershipMessages": True}).refuses(403, "permission_denied")
    assert tenant.api.get("/settings").data == {"membershipMessages": False}


def test_nothing_is_told_without_the_choice(tenant: Account) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada)
    tenant.api.post(f"/conversations/{room['id']}/participants", {"participantIds": [bob["id"]]})
    assert log_of(tenant, room) == []


def test_every_change_of_the_membership_is_told_once_behind_its_event(telling: Account) -> None:
    ada, bob, eve = telling.users(3)
    room = telling.user_api(ada).post("/conversations", {"type": "channel"}).data
    path = f"/conversations/{room['id']}/participants"
    adas = telling.user_api(ada)
    adas.post(path, {"participantIds": [bob["id"]]})
    adas.post(path, {"participantIds": [bob["id"]]})  # is in already
    telling.user_api(eve).post(f"/conversations/{room['id']}/join")
    adas.patch(f"{path}/{bob['id']}", {"role": "admin"})
    telling.user_api(eve).delete(f"{path}/{eve['id']}")
    adas.delete(f"{path}/{bob['id']}")
    told = log_of(telling, room)
    assert [(message["seq"], message["messageIndex"], message["content"]) for message in told] == [
        (2, 1, {"event": "participants_added", "actorId": ada["id"], "userIds": [bob["id"]], "count": 1}),
        (4, 2, {"event": "participants_added", "actorId": eve["id"], "userIds": [eve["id"]], "count": 1}),
        (6, 3, {"event": "role_changed", "actorId": ada["id"], "userIds": [bob["id"]], "count": 1, "role": "admin"}),
        (8, 4, {"event": "participant_left", "actorId": eve["id"], "userIds": [eve["id"]], "count": 1}),
        (10, 5, {"event": "participant_removed", "actorId": ada["id"], "userIds": [bob["id"]], "count": 1}),
    ]
    assert {(message["type"], message["sender"], message["senderId"]) for message in told} == {("system", None, None)}


def test_a_crowd_is_counted_and_the_first_are_named(telling: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.services.system_messages.NAMED_USERS", 3)
    ada, *crowd = [user["id"] for user in telling.users(6)]
    room = telling.conversation({"id": ada})
    telling.api.post(f"/conversations/{room['id']}/participants", {"participantIds": crowd})
    (told,) = log_of(telling, room)
    assert told["content"] == {"event": "participants_added", "actorId": None, "userIds": crowd[:3], "count": 5}
    assert NAMED_USERS == 100


def test_it_is_never_unread_never_counted_and_cannot_be_changed(telling: Account) -> None:
    ada, bob, eve = telling.users(3)
    room = telling.conversation(ada, bob)
    telling.api.post(f"/conversations/{room['id']}/participants", {"participantIds": [eve["id"]]})
    with tenant_scope(telling):
        conversation_id = log_of(telling, room)[0]["conversationId"]
        assert set(recount(conversation_id).values()) == {0}
        assert set(unread_counts(bob["id"]).values()) == {0}
    assert telling.api.get("/usage").data["messages"]["current"] == 0
    (told,) = log_of(telling, room)
    assert telling.api.patch(f"/messages/{told['id']}", {"content": {"text": "x"}}).code == "conflict"
    listed = telling.user_api(bob).get("/conversations").data[0]
    assert (listed["lastMessage"]["id"], listed["messageCount"], listed["lastSeq"]) == (told["id"], 1, 2)
