"""What clients should not send. Each gets the contract's error, changes nothing, and logs no error."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.accounts import Account, draft, drop_account, open_test_account
from tests.api import Api
from tests.snapshots import contents

ABSENT_ID = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant with ada, her conversation `room` and a message in it."""

    account: Account
    ada: Any
    room: Any
    before: Any


@pytest.fixture(scope="module")
def _scene(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Scene]:
    """Made once: if these tests are right, none of them changes anything."""
    with django_db_blocker.unblock():
        account = open_test_account()
        ada = account.user("ada")
        room = account.conversation(ada, externalId="room")
        account.message(room, ada)
        scene = Scene(account, ada, room, contents(account))
    yield scene
    with django_db_blocker.unblock():
        drop_account(account)
        connection.close()


@pytest.fixture(autouse=True)
def _nothing_changes(db: None, _scene: Scene) -> Iterator[None]:
    yield
    assert contents(_scene.account) == _scene.before


@pytest.fixture
def api(_scene: Scene) -> Api:
    return _scene.account.api


@pytest.fixture
def ada(_scene: Scene) -> Any:
    return _scene.ada


@pytest.fixture
def room(_scene: Scene) -> Any:
    return _scene.room


@pytest.fixture
def good(room: Any, ada: Any) -> Any:
    """A body that would be accepted; tests spoil it."""
    return draft(room, ada)


# --- the body as bytes ----------------------------------------------------------------------------------------------

NOT_JSON = {
    "cut off": b'{"conversationId": "room"',
    "not utf-8": b'{"type": "\xff\xfe"}',
    "utf-16": '{"type": "text"}'.encode("utf-16"),
    "two values": b"{} {}",
    "single quotes": b"{'type': 'text'}",
    "trailing comma": b'{"type": "text",}',
    "NaN": b'{"type": NaN}',
    "lone high surrogate": b'{"type": "\\ud83d"}',
    "lone low surrogate": b'{"type": "\\ude00"}',
    "encoded surrogate": b'{"type": "\xed\xa0\xbd"}',
    "control character in a string": b'{"type": "a\x01b"}',
    "raw NUL": b'{"type": "a\x00b"}',
    "100,000 brackets": b"[" * 100_000,
    "deep objects": b'{"content":' * 65 + b"1" + b"}" * 65,
    "deep arrays": b"[" * 70 + b"]" * 70,
    "infinity": b'{"type": 1e999}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_body_that_is_not_json_is_refused(api: Api, body: bytes) -> None:
    api.raw("POST", "/messages/send", body).refuses(400, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_a_body_that_is_no_object_is_refused(api: Api, body: bytes) -> None:
    api.raw("POST", "/messages/send", body).refuses(422, "validation_failed", "")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/xml",
        "json",
        "",
        ";",
    ],
)
def test_another_content_type_is_refused(api: Api, good: Any, content_type: str | None) -> None:
    answer = api.raw("POST", "/messages/send", json.dumps(good).encode(), content_type=content_type)
    answer.refuses(415, "unsupported_media_type")


def test_no_body_at_all_lacks_every_field(api: Api) -> None:
    answer = api.raw("POST", "/messages/send", b"")
    answer.refuses(422, "validation_failed")
    assert sorted(answer.pointers) == ["/content", "/conversationId", "/type"]


def test_a_body_of_10_megabytes_is_refused(api: Api, good: Any) -> None:
    good["content"]["text"] = "x" * 10_000_000
    api.post("/messages/send", good).refuses(413, "payload_too_large")


def test_a_form_of_10_megabytes_is_refused(api: Api) -> None:
    answer = api.raw(
        "POST", "/messages/send", b"a=" + b"x" * 10_000_000, content_type="multipart/form-data; boundary=x"
    )
    answer.refuses(415, "unsupported_media_type")


def test_content_over_64_kib_is_refused(api: Api, good: Any) -> None:
    good |= {"type": "custom", "content": {"blob": "x" * 65_536}}
    api.post("/messages/send", good).refuses(413, "payload_too_large", "/content")


def test_metadata_over_16_kib_is_refused(api: Api, good: Any) -> None:
    good["metadata"] = {"blob": "é" * 9_000}
    api.post("/messages/send", good).refuses(413, "payload_too_large", "/metadata")


@pytest.mark.parametrize(
    "place",
    [
        {"content": {"text": "a\0b"}},
        {"clientMessageId": "a\0b"},
        {"conversationId": "a\0b"},
        {"metadata": {"a\0b": 1}},
        {"type": "custom", "content": {"a": [{"b": ["\0"]}]}},
    ],
)
def test_a_nul_character_is_refused_wherever_it_is(api: Api, good: Any, place: Any) -> None:
    api.post("/messages/send", good | place).refuses(422, "validation_failed")


# --- fields ---------------------------------------------------------------------------------------------------------

WRONG_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"colour": "red"}, "/colour"),
    "unknown type": ({"type": "telepathy"}, "/type"),
    "system": ({"type": "system", "content": {"text": "hi"}}, "/type"),
    "type of the wrong kind": ({"type": 7}, "/type"),
    "type null": ({"type": None}, "/type"),
    "no text": ({"content": {}}, "/content/text"),
    "empty text": ({"content": {"text": ""}}, "/content/text"),
    "text too long": ({"content": {"text": "x" * 20_001}}, "/content/text"),
    "text of the wrong kind": ({"content": {"text": ["x"]}}, "/content/text"),
    "content null": ({"content": None}, "/content"),
    "content a list": ({"content": [1]}, "/content"),
    "image without a source": ({"type": "image", "content": {}}, "/content/fileId"),
    "image with a script": ({"type": "image", "content": {"url": "javascript:alert(1)"}}, "/content/url"),
    "location off the globe": ({"type": "location", "content": {"latitude": 91, "longitude": 0}}, "/content/latitude"),
    "metadata a list": ({"metadata": []}, "/metadata"),
    "mentions a string": ({"mentions": "ada"}, "/mentions"),
    "mentions twice": ({"mentions": ["ada", "ada"]}, "/mentions"),
    "mentions nobody": ({"mentions": ["ada", "nobody"]}, "/mentions/1"),
    "too many mentions": ({"mentions": [f"u{number}" for number in range(101)]}, "/mentions"),
    "empty client id": ({"clientMessageId": ""}, "/clientMessageId"),
    "client id too long": ({"clientMessageId": "x" * 256}, "/clientMessageId"),
    "client id a number": ({"clientMessageId": 5}, "/clientMessageId"),
    "reply to no id": ({"replyToId": "latest"}, "/replyToId"),
    "silent a word": ({"silent": "yes"}, "/silent"),
    "conversation id too long": ({"conversationId": "x" * 256}, "/conversationId"),
    "conversation id empty": ({"conversationId": ""}, "/conversationId"),
    "conversation id null": ({"conversationId": None}, "/conversationId"),
    "conversation id with a line break": ({"conversationId": "room\n"}, "/conversationId"),
    "conversation id with a C1 control": ({"conversationId": "room\x85"}, "/conversationId"),
    "sender id too long": ({"senderId": "x" * 256}, "/senderId"),
    "sender id an object": ({"senderId": {"id": "ada"}}, "/senderId"),
}


@pytest.mark.parametrize(("spoil", "pointer"), WRONG_FIELDS.values(), ids=WRONG_FIELDS.keys())
def test_a_wrong_field_is_refused_by_name(api: Api, good: Any, spoil: dict[str, Any], pointer: str) -> None:
    answer = api.post("/messages/send", good | spoil)
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert pointer in answer.pointers


def test_every_missing_field_is_named(api: Api) -> None:
    answer = api.post("/messages/send", {})
    answer.refuses(422, "validation_failed")
    assert sorted(answer.pointers) == ["/content", "/conversationId", "/type"]


def test_a_refusal_never_quotes_what_was_sent(api: Api, good: Any) -> None:
    answer = api.post("/messages/send", good | {"clientMessageId": ["my-secret-text"], "type": "my-secret-text"})
    assert "my-secret-text" not in json.dumps(answer.body)


def test_a_thousand_wrong_fields_get_a_short_answer(api: Api) -> None:
    answer = api.post("/messages/send", {f"field{number}": number for number in range(1000)})
    assert len(answer.pointers) == 20


def test_pointers_are_escaped_as_json_pointers_are(api: Api, good: Any) -> None:
    api.post("/messages/send", good | {"a/b~c": 1}).refuses(422, "validation_failed", "/a~1b~0c")


WRONG_BODIES: dict[str, tuple[str, Any, str]] = {
    "conversation of an unknown type": ("/conversations", {"type": "party"}, "/type"),
    "conversation id too long": ("/conversations", {"type": "group", "externalId": "x" * 256}, "/externalId"),
    "conversation id with DEL": ("/conversations", {"type": "group", "externalId": "a\x7f"}, "/externalId"),
    "title too long": ("/conversations", {"type": "group", "title": "x" * 256}, "/title"),
    "participant twice": ("/conversations", {"type": "group", "participantIds": ["ada", "ada"]}, "/participantIds"),
    "participant nobody": ("/conversations", {"type": "group", "participantIds": ["ada", "no"]}, "/participantIds/1"),
    "direct with oneself": ("/conversations", {"type": "direct", "participantIds": ["ada"]}, "/participantIds"),
    "direct with nobody": ("/conversations", {"type": "direct"}, "/participantIds"),
    "fixed route, unknown field": ("/messages/conversations", {"type": "group", "kind": 1}, "/kind"),
    "user without an id": ("/users", {"displayName": "x"}, "/externalUserId"),
    "user id too long": ("/users", {"externalUserId": "😀" * 256}, "/externalUserId"),
    "user id empty": ("/users", {"externalUserId": ""}, "/externalUserId"),
    "user id null": ("/users", {"externalUserId": None}, "/externalUserId"),
    "user id with a tab": ("/users", {"externalUserId": "a\tb"}, "/externalUserId"),
    "user with a script for a picture": ("/users", {"externalUserId": "x", "avatarUrl": "data:x"}, "/avatarUrl"),
    "user with half an address": ("/users", {"externalUserId": "x", "email": "x@"}, "/email"),
    "batch of none": ("/users/batch", {"users": []}, "/users"),
    "batch of 101": ("/users/batch", {"users": [{"externalUserId": str(n)} for n in range(101)]}, "/users"),
    "batch with one wrong": (
        "/users/batch",
        {"users": [{"externalUserId": "new"}, {"externalUserId": "x", "age": 3}]},
        "/users/1/age",
    ),
    "batch with one twice": (
        "/users/batch",
        {"users": [{"externalUserId": "new"}, {"externalUserId": "new"}]},
        "/users/1/externalUserId",
    ),
    "token for a second": ("/users/ada/tokens", {"expiresInSeconds": 1}, "/expiresInSeconds"),
    "token for a year": ("/users/ada/tokens", {"expiresInSeconds": 31_536_000}, "/expiresInSeconds"),
    "nobody to add": ("/conversations/room/participants", {"participantIds": []}, "/participantIds"),
    "an unknown role": (
        "/conversations/room/participants",
        {"participantIds": ["ada"], "role": "emperor"},
        "/role",
    ),
}


@pytest.mark.parametrize(("path", "body", "pointer"), WRONG_BODIES.values(), ids=WRONG_BODIES.keys())
def test_a_wrong_body_is_refused_by_name(api: Api, path: str, body: Any, pointer: str) -> None:
    answer = api.post(path, body)
    answer.refuses(422, "validation_failed")
    assert set(answer.pointers) == {pointer}


# --- query parameters -----------------------------------------------------------------------------------------------

HISTORY = "/messages/conversations/room"
WRONG_QUERIES: dict[str, tuple[str, str, str]] = {
    "unknown": (HISTORY, "colour=red", "/colour"),
    "unknown, empty": (HISTORY, "colour=", "/colour"),
    "twice": (HISTORY, "page=1&page=2", "/page"),
    "page 0": (HISTORY, "page=0", "/page"),
    "page -1": (HISTORY, "page=-1", "/page"),
    "page --1": (HISTORY, "page=--1", "/page"),
    "page a word": (HISTORY, "page=one", "/page"),
    "page empty": (HISTORY, "page=", "/page"),
    "page a fraction": (HISTORY, "page=1.5", "/page"),
    "page superscript": (HISTORY, "page=%C2%B2", "/page"),
    "page Arabic-Indic": (HISTORY, "page=%D9%A1", "/page"),
    "page with spaces": (HISTORY, "page=%201", "/page"),
    "page with an underscore": (HISTORY, "page=1_0", "/page"),
    "page 20 digits": (HISTORY, "page=99999999999999999999", "/page"),
    "page 5,000 digits": (HISTORY, "page=" + "9" * 5000, "/page"),
    "limit 0": (HISTORY, "limit=0", "/limit"),
    "limit 101": (HISTORY, "limit=101", "/limit"),
    "limit -50": (HISTORY, "limit=-50", "/limit"),
    "limit huge": (HISTORY, "limit=4294967296", "/limit"),
    "before no time": (HISTORY, "before=yesterday", "/before"),
    "before empty": (HISTORY, "before=", "/before"),
    "before a date": (HISTORY, "before=2026-01-01", "/before"),
    "before without an offset": (HISTORY, "before=2026-01-01T00:00:00", "/before"),
    "before a week": (HISTORY, "before=2026-W01-1T00:00:00Z", "/before"),
    "before in the basic form": (HISTORY, "before=20260101T000000Z", "/before"),
    "before an impossible day": (HISTORY, "before=2026-02-30T00:00:00Z", "/before"),
    "before hour 25": (HISTORY, "before=2026-01-01T25:00:00Z", "/before"),
    "before the first moment": (HISTORY, "before=0001-01-01T00:00:00%2B23:59", "/before"),
    "before the last moment": (HISTORY, "before=9999-12-31T23:59:59-23:59", "/before"),
    "before year 0": (HISTORY, "before=0000-01-01T00:00:00Z", "/before"),
    "before an upper-case id": (HISTORY, f"before={ABSENT_ID.upper()}", "/before"),
    "before NUL": (HISTORY, "before=%00", "/before"),
    "beforeSeq negative": (HISTORY, "beforeSeq=-1", "/beforeSeq"),
    "beforeSeq huge": (HISTORY, "beforeSeq=9999999999999999999", "/beforeSeq"),
    "afterSeq a word": (HISTORY, "afterSeq=x", "/afterSeq"),
    "around a word": (HISTORY, "around=here", "/around"),
    "around negative": (HISTORY, "around=-1", "/around"),
    "cursor on the history route": (HISTORY, "cursor=abc", "/cursor"),
    "conversations of an unknown type": ("/conversations", "type=party", "/type"),
    "users that are maybe active": ("/users", "isActive=maybe", "/isActive"),
    "an empty search": ("/users", "search=", "/search"),
    "a search of 256": ("/users", "search=" + "x" * 256, "/search"),
    "a cursor that is too long": ("/users", "cursor=" + "x" * 1025, "/cursor"),
    "an empty cursor": ("/users", "cursor=", "/cursor"),
    "notifications half unread": ("/users/ada/notifications", "unreadOnly=1", "/unreadOnly"),
    "a query where none is known": ("/usage", "month=1", "/month"),
}


@pytest.mark.parametrize(("path", "query", "pointer"), WRONG_QUERIES.values(), ids=WRONG_QUERIES.keys())
def test_a_wrong_query_is_refused_by_name(api: Api, path: str, query: str, pointer: str) -> None:
    answer = api.raw("GET", path, content_type=None, query=query)
    answer.refuses(422, "validation_failed", pointer)
    message = answer.error["details"]["fields"][0]["message"]
    assert "literal" not in message, "Python's own words are not for clients"


def test_a_nul_in_the_name_of_a_parameter_is_refused(api: Api) -> None:
    api.raw("GET", HISTORY, content_type=None, query="pa%00ge=1").refuses(422, "validation_failed")


def test_two_anchors_at_once_are_refused(api: Api) -> None:
    api.get(HISTORY, {"beforeSeq": 5, "afterSeq": 1}).refuses(422, "validation_failed", "/beforeSeq", "/afterSeq")


@pytest.mark.parametrize("anchor", ["afterSeq", "beforeSeq", "around"])
def test_a_page_number_does_not_go_with_a_cursor(api: Api, anchor: str) -> None:
    api.get(HISTORY, {"page": 2, anchor: 1}).refuses(422, "validation_failed", "/page")


@pytest.mark.parametrize(("page", "limit"), [(101, 100), (10_000, 2), (10_001, 1), (2**53, 1)])
def test_a_page_that_is_too_deep_says_to_use_a_cursor(api: Api, page: int, limit: int) -> None:
    answer = api.get(HISTORY, {"page": page, "limit": limit})
    answer.refuses(422, "page_too_deep")


@pytest.mark.parametrize(("page", "limit"), [(100, 100), (10_000, 1)])
def test_the_last_page_by_number_is_answered(api: Api, page: int, limit: int) -> None:
    assert api.get(HISTORY, {"page": page, "limit": limit}).data["messages"] == []


def test_a_thousand_parameters_are_refused(api: Api) -> None:
    api.raw("GET", "/users", content_type=None, query="&".join("a=1" for _ in range(2000))).refuses(400, "bad_request")


@pytest.mark.parametrize("cursor", ["x", "e30", "W10", "WzEsMl0", "bnVsbA", "////", "WyIyMDI2Il0=", "é", "%%%"])
@pytest.mark.parametrize("path", ["/users", "/conversations", "/users/ada/conversations", "/users/ada/notifications"])
def test_a_cursor_that_nobody_gave_out_is_refused(api: Api, path: str, cursor: str) -> None:
    api.get(path, {"cursor": cursor}).refuses(422, "invalid_cursor")


# --- ids that name nothing ------------------------------------------------------------------------------------------

STRANGE_IDS = [
    "nobody",
    ABSENT_ID,
    ABSENT_ID.upper(),
    ABSENT_ID.replace("-", ""),
    "{" + ABSENT_ID + "}",
    "x" * 255,
    "😀" * 255,
    "null",
    "0",
    "-1",
    "..",
    "%2e%2e",
    "' OR 1=1 --",
    '"; DROP SCHEMA public CASCADE; --',
    "$1",
    "%s",
    "*",
    "room ",
    "ROOM",
]


@pytest.mark.parametrize("name", STRANGE_IDS)
def test_an_id_that_names_nothing_is_not_found(api: Api, good: Any, name: str) -> None:
    encoded = quote(name, safe="")
    api.get(f"/users/{encoded}").refuses(404, "user_not_found")
    api.get(f"/conversations/{encoded}").refuses(404, "conversation_not_found")
    api.get(f"/messages/conversations/{encoded}").refuses(404, "conversation_not_found")
    api.post("/messages/send", good | {"conversationId": name}).refuses(404, "conversation_not_found")
    api.post("/messages/send", good | {"senderId": name}).refuses(404, "user_not_found")
    api.post(f"/conversations/{encoded}/participants", {"participantIds": ["ada"]}).refuses(
        404, "conversation_not_found"
    )
    api.delete(f"/conversations/room/participants/{encoded}").refuses(404, "user_not_found")
    api.post(f"/users/{encoded}/tokens", {}).refuses(404, "user_not_found")


@pytest.mark.parametrize("character", ["%00", "%01", "%09", "%0A", "%0D", "%1E", "%7F"])
def test_a_control_character_in_a_path_is_not_found(api: Api, character: str) -> None:
    api.get(f"/users/ada{character}").refuses(404, "not_found")
    api.get(f"/conversations/{character}room").refuses(404, "not_found")


@pytest.mark.parametrize("bytes_", ["%FF", "%C0%80", "%ED%A0%80", "%F8%88%80%80%80"])
def test_bytes_that_are_no_utf8_in_a_path_are_not_found(api: Api, bytes_: str) -> None:
    assert api.get(f"/users/ada{bytes_}").status == 404


def test_an_id_of_256_characters_is_not_found(api: Api) -> None:
    api.get("/users/" + "x" * 256).refuses(404, "not_found")


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "a\nb", "a\x85b"])
def test_an_acting_user_that_can_be_no_id_is_refused(api: Api, good: Any, name: str) -> None:
    caller = api.acting_as(name)
    caller.get("/conversations").refuses(422, "validation_failed", "/X-Acting-User")
    del good["senderId"]
    caller.post("/messages/send", good).refuses(422, "validation_failed", "/X-Acting-User")


def test_an_acting_user_who_is_nobody_is_not_found(api: Api, good: Any) -> None:
    caller = api.acting_as("nobody")
    caller.get("/conversations").refuses(404, "user_not_found")
    del good["senderId"]
    caller.post("/messages/send", good).refuses(404, "user_not_found")


def test_a_sender_whom_nobody_names_is_asked_for(api: Api, good: Any) -> None:
    del good["senderId"]
    api.post("/messages/send", good).refuses(400, "acting_user_required")
    api.post("/messages/send", good | {"senderId": None}).refuses(400, "acting_user_required")


# --- routes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/nope", "/users/", "/messages", "/messages/send/", "/users/ada/nope", "//"])
def test_an_unknown_path_is_not_found_in_json(api: Api, path: str) -> None:
    api.get(path).refuses(404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/messages/send"),
        ("PUT", "/users"),
        ("DELETE", "/conversations"),
        ("PATCH", "/usage"),
        ("TRACE", "/users"),
        ("OPTIONS", "/users"),
        ("BREW", "/users"),
    ],
)
def test_a_method_that_a_route_does_not_know_is_named(api: Api, method: str, path: str) -> None:
    answer = api.request(method, path)
    answer.refuses(405, "method_not_allowed")
    assert answer.headers["Allow"]


@pytest.mark.parametrize("host", ["bad host", "exa mple.com", "a,b", "[::1", "-", "x" * 300, "a\0b"])
def test_a_host_that_is_none_gets_json(api: Api, host: str) -> None:
    assert api.with_headers(Host=host).get("/users").status in {200, 400}


def test_a_reply_to_nothing_is_refused(api: Api, good: Any) -> None:
    api.post("/messages/send", good | {"replyToId": ABSENT_ID}).refuses(404, "message_not_found")
