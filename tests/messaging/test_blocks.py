"""Blocks: a blocked person's direct messages are refused, and the blocker sees nothing that they wrote."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from messaging.events import BlockChanged, DurableEvent
from messaging.services.blocks import MAX_BLOCKS
from tests.accounts import Account, draft
from tests.ports import RecordingAnnouncer

pytestmark = pytest.mark.core


def block(tenant: Account, who: dict[str, Any], whom: dict[str, Any]) -> Any:
    return tenant.user_api(who).post(f"/users/{who['id']}/blocks", {"userId": whom["externalUserId"]})


def texts(answer: Any) -> list[str]:
    return [message["content"]["text"] for message in answer.data["messages"]]


def test_blocking_is_listed_and_ends(tenant: Account) -> None:
    ada, eve = tenant.user("ada"), tenant.user("eve")
    first = block(tenant, ada, eve)
    assert (first.status, first.data["id"]) == (201, eve["id"])
    assert block(tenant, ada, eve).status == 200
    adas = tenant.user_api(ada)
    assert [one["externalUserId"] for one in adas.get("/users/ada/blocks").data] == ["eve"]
    assert tenant.user_api(eve).get("/users/eve/blocks").data == []
    for _ in range(2):
        assert adas.delete("/users/ada/blocks/eve").status == 200
    assert adas.get("/users/ada/blocks").data == []


def test_nobody_blocks_for_others_nor_themselves_nor_nobody(tenant: Account) -> None:
    ada, eve = tenant.user("ada"), tenant.user("eve")
    eves = tenant.user_api(eve)
    assert eves.post("/users/ada/blocks", {"userId": "eve"}).code == "user_not_found"
    assert eves.get("/users/ada/blocks").code == "user_not_found"
    assert eves.delete("/users/ada/blocks/eve").code == "user_not_found"
    assert block(tenant, ada, ada).code == "conflict"
    assert eves.post("/users/eve/blocks", {"userId": "nobody"}).code == "user_not_found"
    assert tenant.api.get("/users/ada/blocks").data == []


def test_there_is_a_limit(tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.services.blocks.MAX_BLOCKS", 1)
    assert MAX_BLOCKS == 1000
    ada, bob, eve = tenant.users(3)
    assert block(tenant, ada, bob).status == 201
    assert block(tenant, ada, eve).code == "conflict"
    assert block(tenant, ada, bob).status == 200


def test_blocks_are_listed_by_pages(tenant: Account) -> None:
    ada, *others = tenant.users(6)
    for other in others:
        block(tenant, ada, other)
    api, seen, query = tenant.user_api(ada), [], {"limit": 2}
    while True:
        page = api.get(f"/users/{ada['id']}/blocks", query)
        seen += [one["userId"] for one in page.data]
        if page.pagination["nextCursor"] is None:
            break
        query["cursor"] = page.pagination["nextCursor"]
    assert seen == [other["id"] for other in others]


def test_a_blocked_persons_direct_message_is_refused_and_costs_nothing(tenant: Account) -> None:
    ada, eve = tenant.users(2)
    direct = tenant.conversation(ada, eve, type="direct")
    group = tenant.conversation(ada, eve)
    block(tenant, ada, eve)
    refused = tenant.user_api(eve).post("/messages/send", draft(direct, None))
    assert (refused.status, refused.code) == (403, "blocked")
    assert tenant.api.post("/messages/send", draft(direct, eve)).code == "blocked"
    assert tenant.message(group, eve)["seq"] == 1
    assert tenant.message(direct, ada)["seq"] == 1, "who blocks may still write"
    assert tenant.api.get("/usage").data["messages"]["current"] == 2
    tenant.user_api(ada).delete(f"/users/{ada['id']}/blocks/{eve['id']}")
    assert tenant.message(direct, eve)["seq"] == 2


def test_the_blocker_sees_nothing_that_they_wrote_and_others_do(tenant: Account) -> None:
    ada, bob, eve = tenant.users(3)
    room = tenant.conversation(ada, bob, eve)
    tenant.message(room, bob, "b1")
    bad = tenant.message(room, eve, "e1")
    good = tenant.message(room, bob, "b2")
    tenant.message(room, eve, "e2", replyToId=good["id"])
    block(tenant, ada, eve)
    path = f"/messages/conversations/{room['id']}"
    adas, bobs = tenant.user_api(ada), tenant.user_api(bob)
    assert texts(bobs.get(path)) == ["b1", "e1", "b2", "e2"]
    for query in (
        "",
        "?limit=2",
        "?beforeSeq=10",
        "?afterSeq=0",
        f"?around={good['id']}",
        "?before=2100-01-01T00:00:00Z",
    ):
        assert texts(adas.get(path + query)) == ["b1", "b2"], query
    assert adas.get(path).data["pagination"]["total"] == 4
    for suffix in ("", "/thread", "/reactions", "/revisions"):
        assert adas.get(f"/messages/{bad['id']}{suffix}").code == "message_not_found", suffix
    assert adas.post(f"/messages/{bad['id']}/reactions", {"name": "👍"}).code == "message_not_found"
    thread = adas.get(f"/messages/{good['id']}/thread").data
    assert (thread["replies"], thread["participants"]) == ([], [])
    tenant.api.put(f"/messages/{bad['id']}/pin")
    assert adas.get(f"/conversations/{room['id']}/pins").data == []
    listed = adas.get("/conversations").data[0]
    assert listed["lastMessage"]["content"] == {"text": "b2"}
    assert listed["membership"]["unreadCount"] == 2
    assert bobs.get("/conversations").data[0]["lastMessage"]["content"] == {"text": "e2"}
    assert adas.get(f"/users/{ada['id']}/unread").data == {"unreadMessages": 2, "unreadConversations": 1}


def test_nobody_elses_message_is_left_when_the_blocked_one_spoke_alone(tenant: Account) -> None:
    ada, eve = tenant.users(2)
    room = tenant.conversation(ada, eve)
    tenant.message(room, eve)
    block(tenant, ada, eve)
    listed = tenant.user_api(ada).get("/conversations").data[0]
    assert (listed["lastMessage"], listed["membership"]["unreadCount"]) == (None, 0)
    assert tenant.user_api(ada).get("/conversations", {"unreadOnly": "true"}).data == []


def test_a_newcomer_is_not_shown_the_last_message_of_whom_they_block(
    tenant: Account,
    announced: RecordingAnnouncer,
    django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[list[Any]]],
) -> None:
    ada, bob, eve = tenant.users(3)
    room = tenant.conversation(bob, eve)
    tenant.message(room, eve)
    block(tenant, ada, eve)
    with django_capture_on_commit_callbacks(execute=True):
        tenant.api.post(f"/conversations/{room['id']}/participants", {"participantIds": [ada["id"]]})
    joined = announced.announced[0][1]
    assert joined.conversation["lastMessage"] is None  # type: ignore[union-attr]


def test_own_devices_hear_of_a_block_and_events_name_their_author(
    tenant: Account,
    announced: RecordingAnnouncer,
    django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[list[Any]]],
) -> None:
    ada, eve = tenant.users(2)
    room = tenant.conversation(ada, eve)
    with django_capture_on_commit_callbacks(execute=True):
        block(tenant, ada, eve)
        message = tenant.message(room, eve)
        tenant.user_api(eve).patch(f"/messages/{message['id']}", {"content": {"text": "x"}})
        tenant.user_api(eve).post(f"/messages/{message['id']}/reactions", {"name": "👍"})
        tenant.user_api(ada).delete(f"/users/{ada['id']}/blocks/{eve['id']}")
    changes = [event for _, event in announced.announced if isinstance(event, BlockChanged)]
    assert [(str(one.user_id), str(one.blocked_id), one.is_blocked) for one in changes] == [
        (ada["id"], eve["id"], True),
        (ada["id"], eve["id"], False),
    ]
    events = [event for _, event in announced.announced if isinstance(event, DurableEvent)]
    assert [(event.type, str(event.author_id)) for event in events] == [
        ("new_message", eve["id"]),
        ("message_updated", eve["id"]),
        ("reaction_added", eve["id"]),
    ]
