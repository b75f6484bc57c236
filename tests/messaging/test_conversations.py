"""Conversations: made once, found by either id, shown to those who are in them; who may add and remove."""

from typing import Any
from urllib.parse import quote

import pytest

from messaging.events import DurableEvent, Joined, Left
from messaging.models import Conversation, ConversationEvent, Participant
from quotas.services.accounts import change_plan
from tenants.models import OutboxEvent
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Answer, Api, fits
from tests.ports import RecordingAnnouncer
from tests.snapshots import contents

pytestmark = pytest.mark.core


@pytest.fixture
def people(tenant: Account) -> dict[str, Any]:
    bodies = [{"externalUserId": name, "displayName": name.title()} for name in ("ada", "bob", "eve")]
    return {user["externalUserId"]: user for user in tenant.api.post("/users/batch", {"users": bodies}).data}


def make(api: Api, **body: Any) -> Answer:
    return api.post("/conversations", {"type": "group"} | body)


# --- making ---------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_whole_conversation(api: Api, people: Any) -> None:
    answer = make(api, title="订单", participantIds=["ada", people["bob"]["id"]], externalId="room", metadata={"a": 1})
    assert answer.status == 201
    made = answer.data
    assert {name: made[name] for name in made if name not in {"id", "createdAt", "updatedAt", "participants"}} == {
        "externalId": "room",
        "type": "group",
        "title": "订单",
        "metadata": {"a": 1},
        "settings": {},
        "createdBy": None,
        "lastMessageAt": None,
        "lastSeq": 0,
        "messageCount": 0,
        "participantCount": 2,
        "participantIds": [people["ada"]["id"], people["bob"]["id"]],
        "lastMessage": None,
    }
    assert [person["role"] for person in made["participants"]] == ["member", "member"]
    assert [person["user"]["displayName"] for person in made["participants"]] == ["Ada", "Bob"]
    assert api.get("/conversations/room").data == made


@pytest.mark.parametrize("type_", ["group", "channel", "direct"])
def test_the_fixed_route_answers_200_whether_it_made_one_or_not(api: Api, people: Any, type_: str) -> None:
    body = {"type": type_, "participantIds": ["ada", "bob"], "externalId": "room"}
    answers = [api.post("/messages/conversations", body) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len({answer.data["id"] for answer in answers}) == 1


@pytest.mark.parametrize("type_", ["group", "channel"])
def test_nobody_need_be_in_it(api: Api, people: Any, type_: str) -> None:
    for nothing in ({}, {"participantIds": None}, {"participantIds": []}):
        assert make(api, type=type_, **nothing).data["participantCount"] == 0


def test_nulls_and_an_empty_title_mean_none(api: Api, people: Any) -> None:
    nulls = dict.fromkeys(["title", "externalId", "metadata"])
    made = make(api, **nulls).data
    assert (made["title"], made["externalId"], made["metadata"]) == (None, None, {})
    assert make(api, title="").data["title"] is None


def test_a_direct_pair_exists_once(tenant: Account, api: Api, people: Any) -> None:
    first = make(api, type="direct", participantIds=["ada", "bob"], title="first", metadata={"a": 1})
    before = contents(tenant)
    for ids in (["bob", "ada"], [people["ada"]["id"], "bob"], ["ada", people["bob"]["id"]]):
        again = make(api, type="direct", participantIds=ids, title="second", metadata={"b": 2})
        assert (again.status, again.data) == (200, first.data)
    as_ada = make(api.acting_as("ada"), type="direct", participantIds=["bob"])
    assert (as_ada.status, as_ada.data["id"]) == (200, first.data["id"])
    assert contents(tenant) == before
    assert make(api, type="direct", participantIds=["ada", "eve"]).status == 201, "another pair is another"


def test_an_external_id_exists_once(tenant: Account, api: Api, people: Any) -> None:
    first = make(api, externalId="room", participantIds=["ada"], title="first")
    before = contents(tenant)
    again = make(api, externalId="room", participantIds=["bob"], title="second", type="channel")
    assert (again.status, again.data) == (200, first.data)
    assert contents(tenant) == before


def test_an_external_id_like_a_server_id_is_a_conflict(tenant: Account, api: Api, people: Any) -> None:
    room = make(api, participantIds=["ada"]).data
    before = contents(tenant)
    make(api, externalId=room["id"]).refuses(409, "id_conflict")
    api.post("/messages/conversations", {"type": "group", "externalId": room["id"]}).refuses(409, "id_conflict")
    assert contents(tenant) == before
    assert make(api, externalId=room["id"].upper()).status == 201, "upper case is somebody's own spelling"
    assert make(api, externalId="019a2f53-b8f0-7d26-b3a9-1e5c7d904f62").status == 201, "it is nobody's id"


def test_the_servers_id_wins(tenant: Account, api: Api, people: Any) -> None:
    """An imported row may carry an external id that the server gave to another later: the server's id wins."""
    first, second = make(api, externalId="x").data, make(api).data
    with tenant_scope(tenant):
        Conversation.objects.filter(pk=first["id"]).update(external_id=second["id"])
    assert api.get(f"/conversations/{second['id']}").data["id"] == second["id"]


@pytest.mark.parametrize("name", ["a b", "å😀", "x" * 255, "a%2Fb", "a?b=c&d#e", "a+b", ".", "..", "%", "\u202e"])
def test_any_external_id_is_found_again(api: Api, people: Any, name: str) -> None:
    made = make(api, externalId=name, participantIds=["ada"]).data
    assert made["externalId"] == name
    assert api.get(f"/conversations/{quote(name, safe='')}").data == made
    assert api.get(f"/messages/conversations/{quote(name, safe='')}").data["messages"] == []


def test_who_makes_one_owns_it(tenant: Account, api: Api, people: Any) -> None:
    for caller in (tenant.user_api(people["ada"]), api.acting_as("ada")):
        made = make(caller, participantIds=["bob"]).data
        assert [(person["externalUserId"], person["role"]) for person in made["participants"]] == [
            ("ada", "owner"),
            ("bob", "member"),
        ]
        assert made["createdBy"]["externalUserId"] == "ada"
        assert made["membership"]["role"] == "owner"
        assert make(caller, participantIds=["bob", "ada"]).data["participantCount"] == 2


def test_in_a_direct_one_both_are_equal(tenant: Account, people: Any) -> None:
    made = make(tenant.user_api(people["ada"]), type="direct", participantIds=["bob"]).data
    assert {person["role"] for person in made["participants"]} == {"member"}


def test_a_user_cannot_pair_others_nor_look_into_their_rooms(tenant: Account, api: Api, people: Any) -> None:
    make(api, type="direct", participantIds=["ada", "bob"])
    make(api, externalId="room", participantIds=["ada", "bob"])
    eve = tenant.user_api(people["eve"])
    before = contents(tenant)
    make(eve, type="direct", participantIds=["ada", "bob"]).refuses(422, "validation_failed", "/participantIds")
    make(eve, externalId="room").refuses(404, "conversation_not_found")
    assert contents(tenant) == before


def test_conversation_created_is_announced_once_to_its_people(
    tenant: Account,
    api: Api,
    people: Any,
    announced: RecordingAnnouncer,
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        made = make(api, participantIds=["ada", "bob"], externalId="room").data
        make(api, participantIds=["ada", "bob"], externalId="room")
    ((tenant_id, joined),) = announced.announced
    assert tenant_id == tenant.id
    assert isinstance(joined, Joined)
    assert [str(user_id) for user_id in joined.user_ids] == made["participantIds"]
    assert (joined.after_seq, joined.conversation) == (0, made)
    fits("ConversationCreatedEvent", {"conversation": joined.conversation, "timestamp": joined.timestamp})
    assert OutboxEvent.objects.filter(tenant_id=tenant.id, type="conversation_created").count() == 1


# --- adding and removing --------------------------------------------------------------------------------------------


def people_of(api: Api, room: Any) -> dict[str, str]:
    shown = api.get(f"/conversations/{room['id']}").data["participants"]
    return {person["externalUserId"]: person["role"] for person in shown}


def test_newcomers_get_an_event_each(
    api: Api,
    tenant: Account,
    people: Any,
    announced: RecordingAnnouncer,
    django_capture_on_commit_callbacks: Any,
) -> None:
    room = make(api, participantIds=["ada"]).data
    with django_capture_on_commit_callbacks(execute=True):
        body = {"participantIds": ["bob", "ada", people["eve"]["id"]], "role": "admin"}
        answer = api.post(f"/conversations/{room['id']}/participants", body)
    assert (answer.status, answer.data["lastSeq"], answer.data["participantCount"]) == (200, 2, 3)
    assert people_of(api, room) == {"ada": "member", "bob": "admin", "eve": "admin"}
    joined, *events = [announcement for _, announcement in announced.announced]
    assert isinstance(joined, Joined)
    assert (len(joined.user_ids), joined.after_seq) == (2, 0)
    assert [(event.seq, event.type) for event in events if isinstance(event, DurableEvent)] == [
        (1, "participant_added"),
        (2, "participant_added"),
    ]
    for event, name, count in zip(events, ("bob", "eve"), (2, 3), strict=True):
        assert isinstance(event, DurableEvent)
        fits("ParticipantAddedEvent", event.data)
        assert (event.data["externalUserId"], event.data["participantCount"]) == (name, count)
        assert event.data["participant"]["role"] == "admin"
    with tenant_scope(tenant):
        assert list(ConversationEvent.objects.values_list("seq", flat=True)) == [1, 2]


def test_who_is_in_already_is_left_as_they_are(tenant: Account, api: Api, people: Any) -> None:
    room = make(api, participantIds=["ada"]).data
    before = contents(tenant)
    answer = api.post(f"/conversations/{room['id']}/participants", {"participantIds": ["ada"], "role": "observer"})
    assert (answer.status, answer.data["lastSeq"]) == (200, 0)
    assert contents(tenant) == before


def test_one_person_by_both_ids_is_added_once(api: Api, people: Any) -> None:
    room = make(api).data
    body = {"participantIds": ["ada", people["ada"]["id"]]}
    assert api.post(f"/conversations/{room['id']}/participants", body).data["participantCount"] == 1


@pytest.mark.parametrize("show_history", [None, True, False])
def test_history_begins_where_it_is_said(tenant: Account, api: Api, people: Any, show_history: bool | None) -> None:
    room = make(api, participantIds=["ada"]).data
    tenant.messages(room, people["ada"], 3)
    api.post(f"/conversations/{room['id']}/participants", {"participantIds": ["bob"], "showHistory": show_history})
    tenant.message(room, people["ada"], "after")
    bob = tenant.user_api(people["bob"])
    seen = [message["seq"] for message in bob.get(f"/messages/conversations/{room['id']}").data["messages"]]
    membership = bob.get(f"/conversations/{room['id']}").data["membership"]
    if show_history is False:
        assert (seen, membership["visibleFromSeq"]) == ([5], 4)
    else:
        assert (seen, membership["visibleFromSeq"]) == ([1, 2, 3, 5], 1)
    assert membership["unreadCount"] == 1, "what was said before one came is not unread"


def test_the_last_message_before_one_came_is_not_shown(tenant: Account, api: Api, people: Any) -> None:
    room = make(api, participantIds=["ada"]).data
    tenant.message(room, people["ada"], "secret")
    api.post(f"/conversations/{room['id']}/participants", {"participantIds": ["bob"], "showHistory": False})
    bob = tenant.user_api(people["bob"])
    for shown in (bob.get(f"/conversations/{room['id']}").data, *bob.get("/users/bob/conversations").data):
        assert shown["lastMessage"] is None
    assert api.get(f"/conversations/{room['id']}").data["lastMessage"]["content"] == {"text": "secret"}


def test_removal_is_an_event_and_the_end(
    tenant: Account,
    api: Api,
    people: Any,
    announced: RecordingAnnouncer,
    django_capture_on_commit_callbacks: Any,
) -> None:
    room = make(api, participantIds=["ada", "bob"]).data
    with django_capture_on_commit_callbacks(execute=True):
        answer = api.delete(f"/conversations/{room['id']}/participants/bob")
    assert (answer.status, answer.data) == (200, None)
    event, left = [announcement for _, announcement in announced.announced]
    assert isinstance(event, DurableEvent)
    fits("ParticipantRemovedEvent", event.data)
    assert (event.seq, event.data["reason"], event.data["participantCount"]) == (1, "removed", 1)
    assert isinstance(left, Left)
    assert (str(left.user_id), left.after_seq) == (people["bob"]["id"], 1)
    bob = tenant.user_api(people["bob"])
    bob.get(f"/conversations/{room['id']}").refuses(404, "conversation_not_found")
    bob.get(f"/messages/conversations/{room['id']}").refuses(404, "conversation_not_found")
    assert bob.get("/users/bob/conversations").data == []
    before = contents(tenant)
    api.delete(f"/conversations/{room['id']}/participants/bob").refuses(404, "participant_not_found")
    api.delete(f"/conversations/{room['id']}/participants/eve").refuses(404, "participant_not_found")
    assert contents(tenant) == before


@pytest.mark.parametrize("role", ["owner", "admin", "member", "observer"])
def test_everybody_may_leave(tenant: Account, api: Api, people: Any, role: str) -> None:
    room = make(api, participantIds=["ada"]).data
    api.post(f"/conversations/{room['id']}/participants", {"participantIds": ["bob"], "role": role})
    assert tenant.user_api(people["bob"]).delete(f"/conversations/{room['id']}/participants/bob").status == 200
    assert people_of(api, room) == {"ada": "member"}


def test_who_comes_back_starts_anew(tenant: Account, api: Api, people: Any) -> None:
    room = make(api, participantIds=["ada", "bob"]).data
    tenant.message(room, people["ada"])
    api.delete(f"/conversations/{room['id']}/participants/bob")
    tenant.message(room, people["ada"])
    api.post(f"/conversations/{room['id']}/participants", {"participantIds": ["bob"], "showHistory": False})
    seen = tenant.user_api(people["bob"]).get(f"/messages/conversations/{room['id']}").data["messages"]
    assert seen == []
    assert api.get(f"/conversations/{room['id']}").data["participantCount"] == 2


ROLES = ["owner", "admin", "member", "observer"]


@pytest.mark.parametrize("actor", ROLES)
@pytest.mark.parametrize("given", ROLES)
def test_owners_and_admins_add_others_and_no_second_owner(
    tenant: Account, api: Api, people: Any, actor: str, given: str
) -> None:
    room = make(api).data
    path = f"/conversations/{room['id']}/participants"
    api.post(path, {"participantIds": ["ada"], "role": actor})
    before = contents(tenant)
    answer = tenant.user_api(people["ada"]).post(path, {"participantIds": ["bob"], "role": given})
    if actor in {"owner", "admin"} and given != "owner":
        assert answer.status == 200
        assert people_of(api, room)["bob"] == given
    else:
        answer.refuses(403, "permission_denied")
        assert contents(tenant) == before


@pytest.mark.parametrize("actor", ROLES)
@pytest.mark.parametrize("removed", ROLES)
def test_owners_and_admins_remove_others_and_no_owner(
    tenant: Account, api: Api, people: Any, actor: str, removed: str
) -> None:
    room = make(api).data
    path = f"/conversations/{room['id']}/participants"
    api.post(path, {"participantIds": ["ada"], "role": actor})
    api.post(path, {"participantIds": ["bob"], "role": removed})
    before = contents(tenant)
    answer = tenant.user_api(people["ada"]).delete(f"{path}/bob")
    if actor in {"owner", "admin"} and removed != "owner":
        assert answer.status == 200
    else:
        answer.refuses(403, "permission_denied")
        assert contents(tenant) == before


def test_the_integrator_may_everything(api: Api, people: Any) -> None:
    room = make(api).data
    path = f"/conversations/{room['id']}/participants"
    assert api.post(path, {"participantIds": ["ada"], "role": "owner"}).status == 200
    assert api.delete(f"{path}/ada").status == 200


def test_a_direct_conversation_keeps_its_two(tenant: Account, api: Api, people: Any) -> None:
    room = make(api, type="direct", participantIds=["ada", "bob"]).data
    path = f"/conversations/{room['id']}/participants"
    before = contents(tenant)
    api.post(path, {"participantIds": ["eve"]}).refuses(409, "conflict")
    api.delete(f"{path}/bob").refuses(409, "conflict")
    tenant.user_api(people["ada"]).delete(f"{path}/ada").refuses(409, "conflict")
    assert contents(tenant) == before


def test_strangers_find_nothing_to_change(tenant: Account, api: Api, people: Any) -> None:
    room = make(api, participantIds=["ada"], externalId="room").data
    eve = tenant.user_api(people["eve"])
    before = contents(tenant)
    for name in (room["id"], "room"):
        eve.get(f"/conversations/{name}").refuses(404, "conversation_not_found")
        body = {"participantIds": ["eve"]}
        eve.post(f"/conversations/{name}/participants", body).refuses(404, "conversation_not_found")
        eve.delete(f"/conversations/{name}/participants/ada").refuses(404, "conversation_not_found")
        eve.delete(f"/conversations/{name}/participants/eve").refuses(404, "conversation_not_found")
    assert contents(tenant) == before


# --- lists ----------------------------------------------------------------------------------------------------------


def walk(api: Api, path: str, **query: Any) -> list[Any]:
    """Every row of a list, page after page."""
    found: list[Any] = []
    while True:
        answer = api.get(path, query)
        found += answer.data
        assert answer.pagination["hasMore"] is (answer.pagination["nextCursor"] is not None)
        if not answer.pagination["hasMore"]:
            return found
        assert len(answer.data) == query["limit"]
        query["cursor"] = answer.pagination["nextCursor"]


@pytest.fixture
def rooms(tenant: Account, api: Api, people: Any) -> list[Any]:
    """Five rooms of ada, two of them also bob's, the latest activity last."""
    made = [tenant.conversation(people["ada"], externalId=f"room {number}") for number in range(4)]
    made.append(tenant.conversation(people["ada"], people["bob"], type="direct"))
    for number in (3, 0, 4):
        tenant.message(made[number], people["ada"])
    api.post(f"/conversations/{made[0]['id']}/participants", {"participantIds": ["bob"]})
    return [made[1], made[2], made[3], made[0], made[4]]


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_lists_run_by_last_activity_and_miss_nothing(
    tenant: Account, api: Api, people: Any, rooms: list[Any], limit: int
) -> None:
    latest_first = [room["id"] for room in rooms[::-1]]
    ada = tenant.user_api(people["ada"])
    for caller, path in (
        (api, "/conversations"),
        (api, "/users/ada/conversations"),
        (api.acting_as("ada"), "/conversations"),
        (ada, "/conversations"),
        (ada, f"/users/{people['ada']['id']}/conversations"),
    ):
        assert [room["id"] for room in walk(caller, path, limit=limit)] == latest_first


def test_a_user_lists_their_own(tenant: Account, people: Any, rooms: list[Any]) -> None:
    bob = tenant.user_api(people["bob"])
    assert [room["id"] for room in walk(bob, "/conversations", limit=1)] == [rooms[4]["id"], rooms[3]["id"]]
    assert all(room["membership"]["role"] == "member" for room in bob.get("/conversations").data)
    assert tenant.user_api(people["eve"]).get("/conversations").data == []


def test_lists_can_be_of_one_type(api: Api, rooms: list[Any]) -> None:
    assert [room["id"] for room in walk(api, "/conversations", limit=1, type="direct")] == [rooms[4]["id"]]
    assert len(walk(api, "/conversations", limit=3, type="group")) == 4
    assert walk(api, "/conversations", limit=3, type="channel") == []


def test_a_list_shows_what_the_one_shows(tenant: Account, people: Any, rooms: list[Any]) -> None:
    ada = tenant.user_api(people["ada"])
    for room in ada.get("/conversations").data:
        assert ada.get(f"/conversations/{room['id']}").data == room


def test_the_integrators_list_has_no_membership_unless_a_user_is_meant(api: Api, people: Any, rooms: list[Any]) -> None:
    assert all("membership" not in room for room in api.get("/conversations").data)
    assert all("membership" in room for room in api.get("/users/ada/conversations").data)


def test_many_participants_are_counted_and_the_first_100_shown(tenant: Account, api: Api) -> None:
    change_plan(tenant=tenant.tenant, overrides={"max_users": 101})
    users = [*tenant.users(60), *tenant.users(40)]
    room = tenant.conversation(*users)
    (late,) = tenant.users(1)
    api.post(f"/conversations/{room['id']}/participants", {"participantIds": [late["id"]]})
    shown = api.get(f"/conversations/{room['id']}").data
    assert shown["participantCount"] == 101
    assert shown["participantIds"] == [user["id"] for user in users]


def test_unread_counts_what_others_said_after_one_read(tenant: Account, people: Any) -> None:
    room = tenant.conversation(people["ada"], people["bob"])
    tenant.messages(room, people["ada"], 2)
    tenant.message(room, people["ada"], silent=True)

    def unread() -> list[int]:
        path = f"/conversations/{room['id']}"
        readers = (tenant.user_api(people[name]) for name in ("ada", "bob"))
        return [reader.get(path).data["membership"]["unreadCount"] for reader in readers]

    assert unread() == [0, 2]
    tenant.message(room, people["bob"])
    assert unread() == [1, 0], "who answers has read"


def test_a_message_moves_its_conversation_up(tenant: Account, api: Api, people: Any, rooms: list[Any]) -> None:
    first_page = api.get("/conversations", {"limit": 2})
    tenant.message(rooms[0], people["ada"])
    assert api.get("/conversations").data[0]["id"] == rooms[0]["id"]
    second_page = api.get("/conversations", {"limit": 10, "cursor": first_page.pagination["nextCursor"]}).data
    assert [room["id"] for room in second_page] == [rooms[2]["id"], rooms[1]["id"]]


def test_a_draft_to_a_channel_goes_where_groups_go(tenant: Account, api: Api, people: Any) -> None:
    channel = tenant.conversation(people["ada"], type="channel")
    assert api.post("/messages/send", draft(channel, people["ada"])).status == 200
    with tenant_scope(tenant):
        assert Participant.objects.filter(conversation_id=channel["id"]).count() == 1
