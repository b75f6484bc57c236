"""`/conversations/{id}/events`: the log behind a seq, as the caller may see it."""

from typing import Any

import pytest

from messaging.services.retention import purge
from tests.accounts import Account
from tests.api import Api
from tests.messaging.test_retention import DAY, age, now
from tests.snapshots import contents

NONE: dict[str, Any] = {"truncatedBefore": None, "reason": None}


class Scene:
    """A group of ada and bob: three messages (1-3), an edit (4), a reaction (5), a pin (6), a rename (7)."""

    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.ada, self.bob = tenant.user("ada"), tenant.user("bob")
        self.room = tenant.conversation(self.ada, self.bob, externalId="room")
        self.path = f"/conversations/{self.room['id']}/events"
        self.messages = tenant.messages(self.room, self.ada, 3)
        first = f"/messages/{self.messages[0]['id']}"
        tenant.api.patch(first, {"content": {"text": "said otherwise"}})
        tenant.api.acting_as("bob").post(f"{first}/reactions", {"name": "👍"})
        tenant.api.put(f"{first}/pin")
        tenant.api.patch(f"/conversations/{self.room['id']}", {"title": "renamed"})

    def seqs(self, api: Any = None, **query: Any) -> list[int]:
        answer = (api or self.tenant.api).get(self.path, query)
        return [event["data"]["seq"] for event in answer.data]


@pytest.fixture
def scene(tenant: Account) -> Scene:
    return Scene(tenant)


TYPES = ["new_message"] * 3 + ["message_updated", "reaction_added", "message_pinned", "conversation_updated"]


def test_the_whole_log_in_order_rendered_as_it_is_now(scene: Scene) -> None:
    answer = scene.tenant.api.get(scene.path)
    assert [event["type"] for event in answer.data] == TYPES
    assert [event["data"]["seq"] for event in answer.data] == [1, 2, 3, 4, 5, 6, 7]
    assert answer.pagination == {"nextCursor": None, "hasMore": False, **NONE}
    first = answer.data[0]["data"]
    assert first["message"]["content"] == {"text": "said otherwise"}
    assert first["message"]["id"] == scene.messages[0]["id"]
    assert (first["conversationId"], first["conversationExternalId"]) == (scene.room["id"], "room")
    assert answer.data[6]["data"]["conversation"]["title"] == "renamed"


def test_pages_go_on_where_the_one_before_ended(scene: Scene) -> None:
    seen: list[int] = []
    after = "0"
    for expected in ([1, 2, 3], [4, 5, 6], [7]):
        answer = scene.tenant.api.get(scene.path, {"after": after, "limit": 3})
        assert [event["data"]["seq"] for event in answer.data] == expected
        seen += expected
        assert answer.pagination == {
            "nextCursor": str(expected[-1]) if expected != [7] else None,
            "hasMore": expected != [7],
            **NONE,
        }
        after = answer.pagination["nextCursor"]
    assert after is None
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_at_the_end_there_is_nothing_and_beyond_it_that_is_said(scene: Scene) -> None:
    at_end = scene.tenant.api.get(scene.path, {"after": 7})
    assert (at_end.data, at_end.pagination) == ([], {"nextCursor": None, "hasMore": False, **NONE})
    for beyond in (8, 2**53 - 1):
        answer = scene.tenant.api.get(scene.path, {"after": beyond})
        assert answer.data == []
        assert answer.pagination == {"nextCursor": None, "hasMore": False, "truncatedBefore": None, "reason": "ahead"}


def test_an_empty_log_is_an_empty_page(tenant: Account) -> None:
    room = tenant.conversation(tenant.user())
    answer = tenant.api.get(f"/conversations/{room['id']}/events")
    assert (answer.data, answer.pagination) == ([], {"nextCursor": None, "hasMore": False, **NONE})


def test_a_participant_sees_it_by_token_and_by_acting(scene: Scene) -> None:
    whole = [1, 2, 3, 4, 5, 6, 7]
    assert scene.seqs(scene.tenant.user_api(scene.bob)) == whole
    assert scene.seqs(scene.tenant.api.acting_as("bob")) == whole
    by_external_id = scene.tenant.user_api(scene.bob).get("/conversations/room/events", {"after": 5})
    assert [event["data"]["seq"] for event in by_external_id.data] == [6, 7]


def test_a_newcomer_sees_from_where_their_view_begins(scene: Scene) -> None:
    settings = {"settings": {"historyForNewcomers": False}}
    scene.tenant.api.patch(f"/conversations/{scene.room['id']}", settings)  # 8
    cyd = scene.tenant.user("cyd")
    scene.tenant.api.post(f"/conversations/{scene.room['id']}/participants", {"participantIds": ["cyd"]})  # 9
    scene.tenant.message(scene.room, cyd)  # 10
    place = scene.tenant.api.acting_as("cyd").get(f"/conversations/{scene.room['id']}").data["membership"]
    begins = place["visibleFromSeq"]
    assert begins in {9, 10}
    api = scene.tenant.user_api(cyd)
    answer = api.get(scene.path, {"after": 2})
    assert [event["data"]["seq"] for event in answer.data] == list(range(begins, 11))
    assert answer.pagination["truncatedBefore"] == begins
    assert answer.pagination["reason"] == "membership"
    paged = api.get(scene.path, {"after": 2, "limit": 1})
    assert [event["data"]["seq"] for event in paged.data] == [begins]
    assert api.get(scene.path, {"after": begins - 1}).pagination == {"nextCursor": None, "hasMore": False, **NONE}


def test_a_blocked_authors_events_are_hidden_from_who_blocks_them(scene: Scene) -> None:
    scene.tenant.message(scene.room, scene.bob, "from bob")  # 8
    scene.tenant.api.post("/users/bob/blocks", {"userId": "ada"})
    answer = scene.tenant.user_api(scene.bob).get(scene.path)
    hidden = [event for event in answer.data if event["type"] == "event_hidden"]
    # ada's messages, and what was done to one of them
    assert [event["data"]["seq"] for event in hidden] == [1, 2, 3, 4, 5, 6]
    assert hidden[0]["data"] == {
        "conversationId": scene.room["id"],
        "conversationExternalId": "room",
        "seq": 1,
    }
    assert "said otherwise" not in str(answer.body)
    assert [event["type"] for event in answer.data[6:]] == ["conversation_updated", "new_message"]
    assert "event_hidden" not in str(scene.tenant.user_api(scene.ada).get(scene.path).body)
    assert "event_hidden" not in str(scene.tenant.api.get(scene.path).body)


def test_what_retention_took_is_said(scene: Scene) -> None:
    age(scene.tenant, scene.room, 31 * DAY, up_to=3)
    purge(scene.tenant.tenant, cutoff=now() - 30 * DAY, now=now())
    for api in (scene.tenant.api, scene.tenant.user_api(scene.ada)):
        answer = api.get(scene.path)
        assert [event["data"]["seq"] for event in answer.data] == [4, 5, 6, 7]
        assert answer.pagination == {
            "nextCursor": None,
            "hasMore": False,
            "truncatedBefore": 4,
            "reason": "retention",
        }
        assert answer.data[0]["data"]["message"] is None, "the edit of a message that is gone"
        assert api.get(scene.path, {"after": 3}).pagination == {"nextCursor": None, "hasMore": False, **NONE}


def test_who_is_not_in_it_does_not_find_it(scene: Scene, other_tenant: Account) -> None:
    eve = scene.tenant.user("eve")
    channel = scene.tenant.conversation(scene.ada, type="channel")
    before = contents(scene.tenant, other_tenant)
    for path in (scene.path, f"/conversations/{channel['id']}/events"):
        scene.tenant.user_api(eve).get(path).refuses(404, "conversation_not_found")
        scene.tenant.api.acting_as("eve").get(path).refuses(404, "conversation_not_found")
        other_tenant.api.get(path).refuses(404, "conversation_not_found")
    scene.tenant.api.get("/conversations/nowhere/events").refuses(404, "conversation_not_found")
    assert contents(scene.tenant, other_tenant) == before


def test_who_left_does_not_find_it_any_more(scene: Scene) -> None:
    scene.tenant.api.delete(f"/conversations/{scene.room['id']}/participants/bob")
    scene.tenant.user_api(scene.bob).get(scene.path).refuses(404, "conversation_not_found")


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=", "after=1.5", "after=9007199254740992", "after=%00", "after=1&after=2"],
)
def test_garbage_for_after(scene: Scene, query: str) -> None:
    answer = scene.tenant.api.raw("GET", scene.path, query=query, content_type=None)
    answer.refuses(422, "validation_failed", "/after")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=-1", "limit=ten", "limit="])
def test_garbage_for_limit(scene: Scene, query: str) -> None:
    scene.tenant.api.raw("GET", scene.path, query=query, content_type=None).refuses(422, "validation_failed", "/limit")


def test_an_unknown_parameter_is_refused(scene: Scene) -> None:
    scene.tenant.api.get(scene.path, {"cursor": "x"}).refuses(422, "validation_failed", "/cursor")


def test_it_takes_the_scope_of_reading_messages(scene: Scene) -> None:
    Api({"X-API-Key": scene.tenant.key(scopes=["users:read"])}).get(scene.path).refuses(403, "scope_missing")
    assert Api({"X-API-Key": scene.tenant.key(scopes=["messages:read"])}).get(scene.path).status == 200
