"""Filters of the conversation list."""

from typing import Any

import pytest

from tests.accounts import Account
from tests.api import Api


def listed(answer: Any) -> list[str]:
    return [conversation["title"] for conversation in answer.data]


@pytest.fixture
def several(tenant: Account) -> dict[str, Any]:
    """ada's: a direct one with bob, a group with carol and an order in its metadata, a channel with an external id."""
    ada, bob, carol = (tenant.user(name) for name in ("ada", "bob", "carol"))
    return {
        "direct": tenant.conversation(ada, bob, type="direct", title="direct"),
        "group": tenant.conversation(
            ada, carol, title="group", metadata={"order": {"id": 7, "state": "open"}, "tags": ["a", "b"]}
        ),
        "channel": tenant.conversation(ada, type="channel", title="channel", externalId="news/today"),
        "carol": carol,
        "bob": bob,
    }


@pytest.mark.core
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["channel", "group", "direct"]),
        ({"type": "group"}, ["group"]),
        ({"participant": "bob"}, ["direct"]),
        ({"participant": "carol", "type": "direct"}, []),
        ({"externalId": "news/today"}, ["channel"]),
        ({"metadata": '{"order": {"id": 7}}'}, ["group"]),
        ({"metadata": '{"tags": ["b"]}'}, ["group"]),
        ({"metadata": '{"order": {"id": 8}}'}, []),
        ({"updatedSince": "2000-01-01T00:00:00Z"}, ["channel", "group", "direct"]),
        ({"updatedSince": "2999-01-01T00:00:00Z"}, []),
    ],
)
def test_a_filter_shows_what_it_says(
    tenant: Account, several: dict[str, Any], query: dict[str, str], expected: list[str]
) -> None:
    assert listed(tenant.api.get("/users/ada/conversations", query)) == expected
    assert listed(tenant.api.acting_as("ada").get("/conversations", query)) == expected


@pytest.mark.core
def test_unread_only_shows_what_is_unread_for_that_user(tenant: Account, several: dict[str, Any]) -> None:
    message = tenant.message(several["group"], several["carol"])
    tenant.message(several["direct"], several["bob"], silent=True)
    assert listed(tenant.api.get("/users/ada/conversations", {"unreadOnly": "true"})) == ["group"]
    assert listed(tenant.api.get("/users/carol/conversations", {"unreadOnly": "true"})) == []
    tenant.api.delete(f"/messages/{message['id']}")
    assert listed(tenant.api.get("/users/ada/conversations", {"unreadOnly": "true"})) == []


@pytest.mark.parametrize("metadata", ["{", "[]", "7", '"a"', "{}{}", "null"])
def test_metadata_must_be_an_object(tenant: Account, several: dict[str, Any], metadata: str) -> None:
    tenant.api.get("/conversations", {"metadata": metadata}).refuses(422, "validation_failed", "/metadata")


def test_a_participant_who_is_nobody_is_not_found(tenant: Account) -> None:
    tenant.api.get("/conversations", {"participant": "nobody"}).refuses(404, "user_not_found")


def test_what_a_user_set_for_themselves_chooses(tenant: Account) -> None:
    ada, bob = tenant.users(2)
    hidden, archived, pinned, plain = [tenant.conversation(ada, bob) for _ in range(4)]
    adas, bobs = tenant.user_api(ada), tenant.user_api(bob)
    for room, change in ((hidden, "hidden"), (archived, "archived"), (pinned, "pinned")):
        assert adas.patch(f"/conversations/{room['id']}/membership", {change: True}).status == 200

    def listed(api: Api, **query: str) -> set[str]:
        return {conversation["id"] for conversation in api.get("/conversations", query).data}

    everything = {room["id"] for room in (hidden, archived, pinned, plain)}
    assert listed(adas) == everything - {hidden["id"]}
    assert listed(adas, hidden="include") == everything
    assert listed(adas, hidden="only") == {hidden["id"]}
    assert listed(adas, archived="only") == {archived["id"]}
    assert listed(adas, archived="exclude", pinned="exclude") == {plain["id"]}
    assert listed(adas, pinned="only") == {pinned["id"]}
    assert listed(bobs) == listed(tenant.api) == listed(tenant.api, hidden="only") == everything
    assert adas.get("/conversations", {"hidden": "true"}).pointers == ["/hidden"]


def test_a_hidden_conversation_comes_back_with_its_next_message(tenant: Account) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob)
    tenant.message(room, bob)
    adas = tenant.user_api(ada)
    for _ in range(2):
        adas.patch(f"/conversations/{room['id']}/membership", {"hidden": True})
        assert adas.get("/conversations").data == []
        assert adas.get(f"/conversations/{room['id']}").data["membership"]["hidden"] is True
        tenant.message(room, bob)
        (shown,) = adas.get("/conversations").data
        assert shown["membership"]["hidden"] is False
