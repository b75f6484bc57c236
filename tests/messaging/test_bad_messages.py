"""What clients should not send, of everything that can be said and done: each field of each body in the wrong kind and
size, and what only makes sense of a message that is not there, elsewhere, or gone. Nothing here is a fault of ours."""

import itertools
from collections import Counter
from typing import Any
from urllib.parse import quote

import pytest
from django.db import transaction

from messagecore.kernel import catalogue, validation
from messagecore.kernel.api.paths import SLASH
from messagecore.kernel.errors import ValidationFailed
from realtime.fallback.api import ConnectionView
from tests.accounts import Account, draft
from tests.isolation.test_routes import TENANT_ROUTES, Route
from tests.snapshots import contents

NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"
WITH_BODY = [route for route in TENANT_ROUTES if route.operation.request is not None]


@pytest.fixture
def ada(tenant: Account) -> Any:
    return tenant.user("ada")


@pytest.fixture
def room(tenant: Account, ada: Any) -> Any:
    return tenant.conversation(ada, externalId="room")


@pytest.fixture
def message(tenant: Account, room: Any, ada: Any) -> Any:
    return tenant.message(room, ada)


# --- every field of every body --------------------------------------------------------------------------------------

WRONG: list[Any] = [
    "",
    " ",
    "x" * 10_001,
    "\u202e\u2066reversed",
    "👩‍👩‍👧‍👦" * 3000,
    -1,
    0,
    2**53,
    1e308,
    True,
    [],
    [None],
    [[[]]],
    ["x"] * 10_000,
    {},
    {"": {"": None}},
    {"x" * 300: "y"},
    NOWHERE,
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999-23:59",
    "+292277026596-12-04T15:30:08Z",
]


def _paths(route: Route) -> str:
    names = dict.fromkeys(route.names, NOWHERE) | {"conversationId": "room", "userId": "ada", "name": "x"}
    return route.template.format(**{name: quote(names[name], safe="") for name in route.names})


WITH_FIELDS = [route for route in WITH_BODY if "properties" in catalogue.definitions()[str(route.operation.request)]]


@pytest.mark.parametrize("route", WITH_FIELDS, ids=str)
def test_every_field_of_every_body_in_the_wrong_kind_and_size(
    tenant: Account, room: Any, ada: Any, route: Route, ran: Counter[str]
) -> None:
    """Refused by name where the catalogue says that it is wrong; answered as documented where it only is strange."""
    name = route.operation.request
    assert name is not None
    schema = catalogue.definitions()[name]
    example = schema["examples"][0]
    for_the_loop = issubclass(route.view, ConnectionView)
    caller = tenant.user_api(ada) if for_the_loop else tenant.api.acting_as("ada")
    required = {param.name: param.choices[0] for param in route.operation.query if param.required}
    for field, wrong in itertools.product(schema["properties"], WRONG):
        body = example | {field: wrong}
        try:
            validation.validate(name, body)
        except ValidationFailed:
            is_wrong = True
        else:
            is_wrong = False
        with transaction.atomic():
            answer = caller.request(route.method, _paths(route), body=body, query=required)
            transaction.set_rollback(True)
        ran["wrong fields"] += 1
        if for_the_loop:
            # What is sound gets past the thread that parses it; nobody is here to do it (tests/e2e has who does).
            assert answer.status == (422 if is_wrong or _is_no_state(field, wrong) else 503), (field, wrong)
        assert answer.status < 500 or for_the_loop
        if is_wrong and answer.status == 422:
            named = {pointer.split("/")[1] for pointer in answer.pointers}
            assert named == {field} or field == "type", (field, wrong)  # another type asks for another content
        elif is_wrong:
            assert answer.status in {403, 404, 413}, (field, wrong)


def _is_no_state(field: str, value: Any) -> bool:
    """A poll's `state` that the catalogue lets pass, and that no server of any version ever made."""
    return field == "state" and value == "x" * 10_001


def test_commands_in_the_wrong_kind_and_size(tenant: Account, ada: Any, ran: Counter[str]) -> None:
    """The one body that may be a list: as a whole, as an item, and as what a command holds, which is answered for
    itself by who does it."""
    assert [route.template for route in WITH_BODY if route not in WITH_FIELDS] == ["/realtime/commands"]
    caller, good = tenant.user_api(ada), {"type": "ping", "id": 1}
    for wrong in WRONG:
        takes = isinstance(wrong, dict)
        for body in (wrong, [wrong], [good, wrong, good]):
            answer = caller.post("/realtime/commands", body)
            assert answer.status == (503 if takes else 422), body
            ran["wrong fields"] += 1
        for field in ("type", "id", "data"):
            assert caller.post("/realtime/commands", good | {field: wrong}).status == 503
    assert caller.post("/realtime/commands", [good] * 20).status == 503
    caller.post("/realtime/commands", [good] * 21).refuses(422, "validation_failed", "")
    assert caller.post("/realtime/commands").status == 415
    caller.raw("POST", "/realtime/commands", b"{").refuses(400, "invalid_json")
    caller.raw("POST", "/realtime/commands", b"null").refuses(422, "validation_failed", "")


@pytest.mark.parametrize("route", WITH_BODY, ids=str)
def test_json_of_1000_levels_is_refused_everywhere(tenant: Account, room: Any, ada: Any, route: Route) -> None:
    before = contents(tenant)
    for opening, closing in ((b'{"a":', b"}"), (b"[", b"]"), (b'[{"a":', b"}]")):
        raw = opening * 1000 + b"1" + closing * 1000
        tenant.api.raw(route.method, _paths(route), raw).refuses(400, "invalid_json")
    assert contents(tenant) == before


def test_json_of_1000_levels_in_a_query_is_refused(tenant: Account) -> None:
    deep = '{"a":' * 1000 + "1" + "}" * 1000
    tenant.api.get("/conversations", {"metadata": deep[:2000]}).refuses(422, "validation_failed", "/metadata")
    tenant.api.get("/conversations", {"metadata": '{"a":' * 66 + "1" + "}" * 66}).refuses(
        422, "validation_failed", "/metadata"
    )


def test_10000_mentions_are_refused(tenant: Account, room: Any, ada: Any, message: Any) -> None:
    names = [f"user-{number}" for number in range(10_000)]
    before = contents(tenant)
    tenant.api.post("/messages/send", draft(room, ada, mentions=names)).refuses(422, "validation_failed", "/mentions")
    edit = {"content": {"text": "x"}, "mentions": names}
    tenant.api.patch(f"/messages/{message['id']}", edit).refuses(422, "validation_failed", "/mentions")
    assert contents(tenant) == before


# --- numbers that the database gives back in another form -----------------------------------------------------------

NUMBERS = {
    "huge": 5.632045290893329e290,
    "most": 1.7976931348623157e308,
    "least": -1.5e300,
    "tiny": 5e-324,
    "bits": 2**63,
}


def test_numbers_of_any_size_come_back_everywhere(tenant: Account) -> None:
    ada = tenant.user(metadata=NUMBERS)
    api = tenant.api
    assert api.get(f"/users/{ada['id']}").data["metadata"] == NUMBERS
    assert api.get("/users").data[0]["metadata"] == NUMBERS
    room = tenant.conversation(ada, metadata=NUMBERS)
    assert api.get(f"/conversations/{room['id']}").data["metadata"] == NUMBERS
    sent = api.post("/messages/send", draft(room, ada, type="custom", content={"n": NUMBERS}, metadata=NUMBERS)).data
    path = f"/messages/{sent['id']}"
    shown = api.get(path).data
    assert (shown["content"], shown["metadata"]) == ({"n": NUMBERS}, NUMBERS)
    edited = api.patch(path, {"content": {"n": [NUMBERS]}, "metadata": {"m": NUMBERS}}).data
    assert (edited["content"], edited["metadata"]) == ({"n": [NUMBERS]}, {"m": NUMBERS})
    assert api.get(f"{path}/revisions").data[0]["content"] == {"n": NUMBERS}
    forwarded = api.acting_as(ada["id"]).post(f"{path}/forward", {"conversationId": room["id"]})
    assert forwarded.data["content"] == {"n": [NUMBERS]}
    history = api.get(f"/messages/conversations/{room['id']}").data["messages"]
    assert [message["content"] for message in history] == [{"n": [NUMBERS]}] * 2


# --- reactions of any Unicode ---------------------------------------------------------------------------------------

GOOD_NAMES = {
    "a family, joined": "👨‍👩‍👧‍👦",
    "a skin tone": "👍🏽",
    "a flag": "🇨🇳",
    "a flag of tags": "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "a keycap": "1️⃣",
    "a text presentation": "❤︎",
    "composed": "é",
    "decomposed": "e\u0301",
    "Arabic": "ممتاز",
    "Hebrew with points": "שָׁלוֹם",
    "Chinese": "赞",
    "beyond the first plane": "𠮷",
    "Zalgo": "a" + "\u0300" * 63,
    "an override": "\u202eabc",
    "64 of four bytes": "😀" * 64,
    "a path": "../../users/%2e",
    "a query": "?a=b&c#d",
    "a plus": "+1",
    "a percent": "100%",
    "SQL": "';DROP--",
    "markup": "<b>&amp;</b>",
}
BAD_NAMES = {
    "empty": "",
    "a blank": " ",
    "blanks around": " 👍 ",
    "a no-break space": "a\u00a0b",
    "an ideographic space": "\u3000",
    "a line separator": "a\u2028b",
    "a tab": "a\tb",
    "NUL": "a\0",
    "DEL": "a\x7f",
    "a C1 control": "a\x85",
    "65 of one byte": "x" * 65,
    "65 of four bytes": "😀" * 65,
}


@pytest.mark.parametrize("name", GOOD_NAMES.values(), ids=GOOD_NAMES)
def test_a_reaction_of_any_unicode_is_kept_as_it_is(tenant: Account, ada: Any, message: Any, name: str) -> None:
    api, path = tenant.api.acting_as("ada"), f"/messages/{message['id']}/reactions"
    assert api.post(path, {"name": name}).data["reactions"] == [{"name": name, "count": 1, "me": True}]
    assert api.post(path, {"name": name}).data["reactions"] == [{"name": name, "count": 1, "me": True}]
    assert [row["name"] for row in api.get(path, {"name": name}).data] == [name]
    in_path = quote(name, safe="").replace("%2F", quote(SLASH))  # as the server's own handler hands it on
    assert api.delete(f"{path}/{in_path}").data["reactions"] == []


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_what_is_no_reaction_is_refused(tenant: Account, ada: Any, message: Any, name: str) -> None:
    before = contents(tenant)
    answer = tenant.api.acting_as("ada").post(f"/messages/{message['id']}/reactions", {"name": name})
    answer.refuses(422, "validation_failed")
    assert contents(tenant) == before


def test_half_a_surrogate_is_no_reaction(tenant: Account, ada: Any, message: Any) -> None:
    raw = b'{"name": "\\ud83d"}'
    tenant.api.acting_as("ada").raw("POST", f"/messages/{message['id']}/reactions", raw).refuses(400, "invalid_json")


def test_two_ways_to_write_a_letter_are_two_reactions(tenant: Account, ada: Any, message: Any) -> None:
    """Names are compared by code point; what clients show is theirs to choose."""
    api, path = tenant.api.acting_as("ada"), f"/messages/{message['id']}/reactions"
    for name in ("é", "e\u0301"):
        shown = api.post(path, {"name": name}).data["reactions"]
    assert {reaction["name"] for reaction in shown} == {"é", "e\u0301"}


# --- messages that are gone, or elsewhere ---------------------------------------------------------------------------


def test_a_deleted_message_stays_as_it_is(tenant: Account, room: Any, ada: Any, message: Any) -> None:
    path = f"/messages/{message['id']}"
    tenant.api.delete(path)
    before = contents(tenant)
    for caller in (tenant.api, tenant.user_api(ada)):
        caller.patch(path, {"content": {"text": "back"}}).refuses(409, "conflict")
        caller.put(f"{path}/pin").refuses(409, "conflict")
        assert caller.delete(path).status == 200, "deleting twice changes nothing"
    as_ada = tenant.api.acting_as("ada")
    as_ada.post(f"{path}/reactions", {"name": "👍"}).refuses(409, "conflict")
    as_ada.post(f"{path}/forward", {"conversationId": "room"}).refuses(409, "conflict")
    assert as_ada.delete(f"{path}/reactions/x").status == 200
    assert tenant.api.get(f"{path}/revisions").data == []
    assert contents(tenant) == before


def test_a_reply_to_another_conversation_is_refused(tenant: Account, room: Any, ada: Any, message: Any) -> None:
    elsewhere = tenant.conversation(ada)
    before = contents(tenant)
    for caller in (tenant.api, tenant.user_api(ada)):
        answer = caller.post("/messages/send", draft(elsewhere, ada, replyToId=message["id"]))
        answer.refuses(404, "message_not_found")
    assert contents(tenant) == before


def test_a_reply_to_what_one_may_not_see_is_refused(tenant: Account, room: Any, message: Any) -> None:
    bob = tenant.user("bob")
    tenant.api.post("/conversations/room/participants", {"participantIds": ["bob"], "showHistory": False})
    before = contents(tenant)
    answer = tenant.user_api(bob).post("/messages/send", draft(room, None, replyToId=message["id"]))
    answer.refuses(404, "message_not_found")
    assert contents(tenant) == before


def test_a_thread_has_no_cycle(tenant: Account, room: Any, ada: Any, message: Any) -> None:
    """A reply names what is there; nothing changes what it names; a reply to a reply is in the same thread."""
    chain = [message]
    for number in range(30):
        chain.append(tenant.message(room, ada, f"reply {number}", replyToId=chain[-1]["id"]))
    edit = {"content": {"text": "x"}, "replyToId": chain[-1]["id"]}
    tenant.api.patch(f"/messages/{message['id']}", edit).refuses(422, "validation_failed", "/replyToId")
    for link in (chain[0], chain[1], chain[-1]):
        thread = tenant.api.get(f"/messages/{link['id']}/thread", {"limit": 100}).data
        assert thread["root"]["id"] == message["id"]
        assert thread["replyCount"] == 30
        assert [reply["id"] for reply in thread["replies"]] == [reply["id"] for reply in chain[1:]]
    answer = tenant.api.post("/messages/send", draft(room, ada, replyToId=NOWHERE))
    answer.refuses(404, "message_not_found")


# --- times far away -------------------------------------------------------------------------------------------------

FAR = {
    "0001-01-01T00:00:00Z": "0001-01-01T00:00:00.000Z",
    "1969-12-31T23:59:59.999999Z": "1969-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59.999999Z": "9999-12-31T23:59:59.999Z",
    "2026-01-01T00:00:00+14:00": "2025-12-31T10:00:00.000Z",
}
IMPOSSIBLE = [
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-00:01",
    "10000-01-01T00:00:00Z",
    "2026-02-29T00:00:00Z",
    "2026-01-01T24:00:01Z",
    "2026-01-01",
    "1767225600",
    "now",
]


@pytest.mark.parametrize(("given", "shown"), FAR.items())
def test_a_time_far_away_is_a_time(tenant: Account, room: Any, ada: Any, given: str, shown: str) -> None:
    api = tenant.api.acting_as("ada")
    answer = api.patch("/conversations/room/membership", {"mutedUntil": given})
    assert answer.data["membership"]["mutedUntil"] == shown
    assert api.get("/conversations/room").data["membership"]["mutedUntil"] == shown
    for path, name in (("/conversations", "updatedSince"), ("/messages/conversations/room", "before")):
        assert api.get(path, {name: given}).status == 200


@pytest.mark.parametrize("given", IMPOSSIBLE)
def test_a_time_that_cannot_be_is_refused(tenant: Account, room: Any, ada: Any, given: str) -> None:
    api = tenant.api.acting_as("ada")
    before = contents(tenant)
    api.patch("/conversations/room/membership", {"mutedUntil": given}).refuses(422, "validation_failed", "/mutedUntil")
    for path, name in (("/conversations", "updatedSince"), ("/messages/conversations/room", "before")):
        api.get(path, {name: given}).refuses(422, "validation_failed", f"/{name}")
    assert contents(tenant) == before
