"""The protocol catalogue in docs/protocol: sound as JSON Schema, whole, and as strict as the contract says."""

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[2] / "docs" / "protocol"
FILES: dict[str, dict[str, Any]] = {
    path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
REGISTRY: Registry[Any] = Registry().with_resources(
    (name, Resource.from_contents(document)) for name, document in FILES.items()
)
DEFINITIONS = [(file, name) for file, document in FILES.items() for name in document["$defs"]]
SCHEMAS = {name: document["$defs"][name] for file, document in FILES.items() for name in document["$defs"]}
EXAMPLES = [
    pytest.param(name, example, id=f"{name}-{number}")
    for name, schema in SCHEMAS.items()
    for number, example in enumerate(schema.get("examples", []))
]
ERRORS: dict[str, dict[str, Any]] = FILES["errors.json"]["x-errors"]
CLOSE_CODES: dict[str, dict[str, Any]] = FILES["errors.json"]["x-close-codes"]
COMMANDS: dict[str, dict[str, Any]] = FILES["commands.json"]["x-commands"]
EVENTS: dict[str, dict[str, Any]] = FILES["events.json"]["x-events"]

# Rules that are parts of other definitions, not something that is sent by itself.
FRAGMENTS = {"ContentByType"}

UUID = "019a2f4e-7c1d-7a3b-9f21-5d0c6e8b1a42"


def _merged(node: Any) -> Any:
    """Rewrite refs between files to refs inside one namespace, as the server does when it loads the catalogue."""
    if isinstance(node, dict):
        return {
            key: "#" + value.partition("#")[2] if key == "$ref" and isinstance(value, str) else _merged(value)
            for key, value in node.items()
        }
    return [_merged(item) for item in node] if isinstance(node, list) else node


MERGED: dict[str, Any] = _merged(SCHEMAS)


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": MERGED})


@cache
def _reference_validator(name: str) -> Draft202012Validator:
    file = next(file for file, definition in DEFINITIONS if definition == name)
    return Draft202012Validator({"$ref": f"{file}#/$defs/{name}"}, registry=REGISTRY)


def _pointers(name: str, instance: Any) -> list[str]:
    """The distinct JSON pointers at which `instance` breaks the definition, in the order of discovery."""
    found = ("".join(f"/{part}" for part in error.instance_path) for error in _validator(name).iter_errors(instance))
    return list(dict.fromkeys(found))


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _nodes(value)
    elif isinstance(node, list):
        for item in node:
            yield from _nodes(item)


# --- The catalogue as such ---


def test_the_catalogue_is_there() -> None:
    names = "blocks commands content errors events fallbacks feed files imports log moderation objects platform"
    names += " receipts requests scheduled search"
    assert list(FILES) == [f"{name}.json" for name in names.split()]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_valid_draft_2020_12(name: str) -> None:
    document = FILES[name]
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == name
    assert document["title"]
    assert document["description"]
    Draft202012Validator.check_schema(document)
    assert jsonschema_rs.meta.is_valid(document)


def test_names_are_unique_over_all_files() -> None:
    names = [name for _, name in DEFINITIONS]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name)] == []


@pytest.mark.parametrize("file", FILES)
def test_every_ref_names_the_file_that_holds_its_definition(file: str) -> None:
    home = {name: holder for holder, name in DEFINITIONS}
    refs = [node["$ref"] for node in _nodes(FILES[file]["$defs"]) if isinstance(node.get("$ref"), str)]
    for ref in refs:
        target, _, name = ref.partition("#/$defs/")
        assert home[name] == (target or file), ref


@pytest.mark.parametrize(("file", "name"), DEFINITIONS)
def test_a_definition_says_what_it_is_and_shows_an_example(file: str, name: str) -> None:
    schema = FILES[file]["$defs"][name]
    assert schema["description"]
    assert name in FRAGMENTS or schema["examples"]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_valid(name: str, example: Any) -> None:
    assert _pointers(name, example) == []
    assert [error.json_path for error in _reference_validator(name).iter_errors(example)] == []


def test_examples_show_chinese_text() -> None:
    for file in FILES.keys() - {"errors.json"}:
        examples = [schema.get("examples", []) for schema in FILES[file]["$defs"].values()]
        assert re.search("[\u4e00-\u9fff]", json.dumps(examples, ensure_ascii=False)), file


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, name in DEFINITIONS if file != "content.json"])
def test_an_object_is_closed_unless_it_is_open_by_design(file: str, name: str) -> None:
    open_by_design = {"Metadata", "OptionalMetadata", "ErrorDetails", "AckEvent", "SendCommands"}
    schema = FILES[file]["$defs"][name]
    if "object" in schema.get("type", ()):
        assert (schema.get("additionalProperties") is False) is (name not in open_by_design)


def test_answers_are_complete_but_for_a_few_named_fields() -> None:
    optional = {
        "User": {"email"},
        "Conversation": {"membership"},
        "ConversationSettings": {"isFrozen", "slowModeSeconds", "historyForNewcomers"},
        "Notification": {"preview"},
        "ErrorDetails": {"fields", "resetAt"},
        "ErrorEvent": {"details"},
        "ResumedConversation": {"truncatedBefore", "reason", "membership"},
        "DisconnectingEvent": {"reconnectAfterMs"},
        "ServerFrame": {"id"},
    }
    for file in ("objects.json", "platform.json", "errors.json", "events.json", "log.json"):
        for name, schema in FILES[file]["$defs"].items():
            may_be_missing = set(schema.get("properties", ())) - set(schema.get("required", ()))
            assert may_be_missing == optional.get(name, set()), name


@pytest.mark.parametrize("file", ["requests.json", "commands.json"])
def test_an_optional_field_of_a_request_may_be_null(file: str) -> None:
    for name, schema in FILES[file]["$defs"].items():
        for field in set(schema.get("properties", ())) - set(schema.get("required", ())):
            sample = {**schema["examples"][0], field: None}
            assert _pointers(name, sample) == [], (name, field)


@pytest.mark.parametrize("file", ["requests.json", "commands.json"])
def test_a_required_field_of_a_request_may_be_neither_null_nor_missing(file: str) -> None:
    checked = 0
    for name, schema in FILES[file]["$defs"].items():
        for field in schema.get("required", ()):
            example = schema["examples"][0]
            assert _pointers(name, {**example, field: None})[0] == f"/{field}", (name, field)
            without = {key: value for key, value in example.items() if key != field}
            assert "" in _pointers(name, without), (name, field)
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("base", ["Uuid", "ExternalId", "AnyId", "HttpUrl", "Metadata", "Role"])
def test_the_optional_form_of_a_type_is_that_type_or_null(base: str) -> None:
    rules = {key: value for key, value in SCHEMAS[base].items() if key not in {"description", "examples"}}
    expected = {**rules, "type": [rules["type"], "null"]}
    if "enum" in rules:
        expected["enum"] = [*rules["enum"], None]
    optional = {k: v for k, v in SCHEMAS[f"Optional{base}"].items() if k not in {"description", "examples"}}
    assert optional == expected


# --- Indexes ---


def test_an_error_code_has_a_status_and_an_explanation() -> None:
    for code, error in ERRORS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert set(error) == {"status", "retryable", "title", "description"}, code
        assert type(error["status"]) is int, code
        assert 400 <= error["status"] <= 599, code
        assert type(error["retryable"]) is bool, code
        assert error["title"], code
        assert error["description"].endswith("."), code
    assert SCHEMAS["ErrorCode"]["enum"] == list(ERRORS)


@pytest.mark.parametrize(
    ("status", "codes"),
    [
        (400, "acting_user_required invalid_json bad_request unknown_type malformed_frame"),
        (401, "api_key_required invalid_api_key token_required invalid_token token_expired not_authenticated"),
        (401, "platform_token_required invalid_platform_token"),
        (403, "tenant_inactive scope_missing permission_denied origin_not_allowed user_inactive not_a_participant"),
        (404, "not_found user_not_found conversation_not_found message_not_found tenant_not_found"),
        (409, "conflict idempotency_conflict id_conflict subdomain_taken already_authenticated"),
        (410, "cursor_expired"),
        (413, "payload_too_large frame_too_large"),
        (422, "validation_failed invalid_cursor page_too_deep plan_not_found"),
        (429, "message_quota_exceeded user_quota_exceeded rate_limited too_many_frames slow_mode"),
        (500, "internal_error"),
        (503, "service_unavailable"),
    ],
)
def test_an_error_of_the_contract_keeps_its_status(status: int, codes: str) -> None:
    assert {code: ERRORS[code]["status"] for code in codes.split()} == dict.fromkeys(codes.split(), status)


def test_only_these_errors_pass_by_themselves() -> None:
    retryable = [code for code, error in ERRORS.items() if error["retryable"]]
    limits = "connection_quota_exceeded rate_limited slow_mode too_many_connections too_many_frames"
    assert sorted(retryable) == sorted([*limits.split(), "resume_in_progress", "service_unavailable"])


def test_close_codes_say_whether_to_reconnect() -> None:
    reconnect = {code: close["reconnect"] for code, close in CLOSE_CODES.items()}
    assert [code for code in reconnect if reconnect[code]] == ["1012", "4001", "4008", "4010", "4029"]
    assert [code for code in reconnect if not reconnect[code]] == ["4003", "4011", "4013"]
    assert SCHEMAS["CloseCode"]["enum"] == [int(code) for code in CLOSE_CODES]
    for close in CLOSE_CODES.values():
        assert set(close) == {"name", "reconnect", "description"}


def test_the_commands_of_the_contract_are_indexed() -> None:
    expected = """
        authenticate join_conversation leave_conversation typing_start typing_stop send_message edit_message
        delete_message add_reaction remove_reaction mark_read mark_delivered resume set_presence ping
    """
    assert list(COMMANDS) == expected.split()
    assert {name: command["event"] for name, command in COMMANDS.items() if command["event"]} == {
        "authenticate": "authenticated",
        "join_conversation": "joined_conversation",
        "leave_conversation": "left_conversation",
        "resume": "resumed",
        "ping": "pong",
    }


def test_a_command_names_existing_schemas() -> None:
    for name, command in COMMANDS.items():
        assert command["description"]
        assert command["schema"] == "".join(word.capitalize() for word in name.split("_")) + "Command"
        assert command["schema"] in FILES["commands.json"]["$defs"]
        assert command["ack"] in SCHEMAS
        if command["event"]:
            assert EVENTS[command["event"]]["schema"] == command["ack"]


def test_the_events_of_the_contract_are_indexed() -> None:
    expected: dict[Any, str] = {
        True: """
            new_message message_updated message_deleted reaction_added reaction_removed message_pinned message_unpinned
            conversation_updated participant_added participant_removed participant_updated event_hidden
        """,
        "resume": (
            "conversation_created conversation_removed user_blocked user_unblocked membership_updated unread_updated "
            "conversation_read"
        ),
        False: """
            authenticated joined_conversation left_conversation pong ack error resumed user_typing user_presence
            conversation_delivered disconnecting
        """,
    }
    durability = {name: durable for durable, names in expected.items() for name in names.split()}
    assert {name: event["durable"] for name, event in EVENTS.items()} == durability


def test_an_event_names_its_schema_and_a_durable_one_has_a_place_in_the_log() -> None:
    for name, event in EVENTS.items():
        assert set(event) == {"schema", "durable", "description"}, name
        assert event["schema"] == "".join(word.capitalize() for word in name.split("_")) + "Event"
        properties = SCHEMAS[event["schema"]]["properties"]
        if event["durable"] is True:
            place = {"conversationId", "conversationExternalId", "seq"}
            assert place <= set(properties), name
            assert name == "event_hidden" or "timestamp" in properties, name


def test_the_server_frame_holds_each_event_to_its_schema() -> None:
    assert SCHEMAS["ServerFrame"]["properties"]["type"]["enum"] == list(EVENTS)
    for name, event in EVENTS.items():
        data = SCHEMAS[event["schema"]]["examples"][0]
        frame = {"type": name, "data": data}
        if name == "ack":
            assert _pointers("ServerFrame", frame) == [""]
            frame["id"] = 7
        elif name != "error":
            assert _pointers("ServerFrame", {**frame, "id": 7}) == ["/id"]
        assert _pointers("ServerFrame", frame) == []
        if name != "ack":
            assert _pointers("ServerFrame", {**frame, "data": {**data, "surplus": 1}}) == ["/data"], name


def test_the_readme_shows_the_catalogue() -> None:
    spec = importlib.util.spec_from_file_location("protocol_render", FOLDER / "render.py")
    assert spec is not None
    assert spec.loader is not None
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert render.render(readme) == readme, "run: python docs/protocol/render.py"
    for name in (*FILES, *ERRORS, *CLOSE_CODES, *COMMANDS, *EVENTS):
        assert name in readme, name
    with pytest.raises(ValueError, match="errors"):
        render.render(readme.replace("<!-- errors: end -->", ""))


# --- Single values ---

VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "Uuid": ([UUID], ["", UUID.upper(), UUID[:-1], UUID + "0", UUID.replace("-", ""), f"{UUID}\n", 7, None]),
    "ExternalId": (
        ["a", "用" * 255, "a b/c%?#", "😀" * 255, "O'Brien; --"],
        ["", "x" * 256, "a\nb", "a\n", "\x00", "\x7f", "\x85", "\x1f", 5, None, ["a"]],
    ),
    "AnyId": ([UUID, "用户"], ["", "x" * 256, "a\tb", 5, None]),
    "Timestamp": (
        ["2025-10-29T08:15:30.120Z", "2024-02-29T23:59:59.999Z"],
        [
            "2025-10-29T08:15:30Z",
            "2025-10-29T08:15:30.12Z",
            "2025-10-29T08:15:30.120000Z",
            "2025-10-29T08:15:30.120+00:00",
            "2025-10-29 08:15:30.120Z",
            "2025-13-29T08:15:30.120Z",
            "2025-10-32T08:15:30.120Z",
            "2025-10-29T24:00:00.000Z",
            "٢٠٢٥-10-29T08:15:30.120Z",
            1761725730,
        ],
    ),
    "RequestTime": (
        ["2025-10-29T08:15:30Z", "2025-10-29t08:15:30.1z", "2025-10-29T16:15:30.123456789+08:00"],
        ["2025-10-29", "2025-10-29T08:15:30", "2025-10-29T08:15Z", "2025-10-29T08:15:30+24:00", "", 0, None],
    ),
    "Seq": ([0, 1, 2**53 - 1], [-1, 1.5, 2**53, 10**30, "1", True, None]),
    "HttpUrl": (
        ["http://a", "https://例え.jp/发票.pdf?x=1#y", "HTTPS://cdn.example.com:8443/a"],
        [
            "",
            "javascript:alert(1)",
            "ftp://a/b",
            "//a/b",
            "https://",
            "https:///b",
            "https://a b",
            "https://a/\n",
            "http://" + "a" * 2048,
        ],
    ),
    "Subdomain": (["a", "gold-mall", "7", "a" * 63], ["", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "商城", "a\n"]),
    "PlanType": (["basic", "pro-2026"], ["", "Basic", "-x", "a" * 65, "a b"]),
    "Role": (["owner", "admin", "member", "observer"], ["guest", "", None]),
    "SendableType": (["text", "custom"], ["system", "Text", "", None]),
    "ReactionName": (["👍", "thumbs_up", "x" * 64], ["", "a b", "x" * 65, "\u0000", "a\u3000b"]),
    "FrameId": (["a", "x" * 64, 0, -7, 2**53 - 1], ["", "x" * 65, 1.5, 2**53, True, None, {}]),
    "OptionalEmail": (["a@b", "王@例え.jp", "", None], ["a", "@b", "a@", "a b@c", "a@b@c", "a@b\n", "a@" + "b" * 253]),
    "OptionalDisplayName": (["王芳", "", None, "x" * 255], ["x" * 256, "a\nb", 5]),
    "OptionalAvatarUrl": (["https://a/b.png", "", None], ["a.png", "data:image/png;base64,AA", " "]),
    "Origin": (
        ["https://shop.example.com", "http://localhost:3000"],
        ["https://a/", "*", "shop.example.com", "https://a/b"],
    ),
}


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        pytest.param(name, value, valid, id=f"{name}-{'good' if valid else 'bad'}-{number}")
        for name, both in VALUES.items()
        for valid, values in zip((True, False), both, strict=True)
        for number, value in enumerate(values)
    ],
)
def test_a_value_is_judged_alike_by_both_libraries(name: str, value: Any, valid: bool) -> None:
    assert _validator(name).is_valid(value) is valid
    # Python's `$` matches before a final newline too, so there the reference is the laxer one.
    if not (isinstance(value, str) and value.endswith("\n")):
        assert _reference_validator(name).is_valid(value) is valid


# --- Requests ---

TEXT = {"conversationId": "c", "type": "text", "content": {"text": "你好"}}


def _send(kind: str, content: Any) -> dict[str, Any]:
    return {"conversationId": "c", "type": kind, "content": content}


GOOD: list[tuple[str, Any]] = [
    ("SendMessage", {**TEXT, "content": {"text": "字" * 20_000}}),
    ("SendMessage", {**TEXT, "mentions": [f"u{n}" for n in range(100)], "silent": True}),
    ("SendMessage", {**TEXT, "content": {"text": "a", "format": "markdown"}}),
    ("SendMessage", _send("image", {"url": "https://a/b.png", "fileId": None})),
    ("SendMessage", _send("file", {"fileId": UUID, "url": None})),
    ("SendMessage", _send("audio", {"fileId": UUID, "url": "https://a/b.ogg"})),
    ("SendMessage", _send("location", {"latitude": -90, "longitude": 180, "title": None})),
    ("SendMessage", _send("custom", {})),
    ("SendMessage", _send("custom", {"text": 7, "deep": [{"a": None}]})),
    ("CreateConversation", {"type": "channel"}),
    ("CreateConversation", {"type": "group", "participantIds": [f"u{n}" for n in range(10_000)]}),
    ("UpsertUsers", {"users": [{"externalUserId": f"u{n}"} for n in range(100)]}),
    ("UpdateTenant", {"settings": {"maxUsers": None}}),
    ("MarkRead", {"seq": 0}),
    ("ResumeCommand", {"conversations": {}}),
    ("AuthenticateCommand", {}),
    ("ClientFrame", {"type": "ping", "data": None, "id": None}),
    ("OpenEventStream", {"conversations": None, "lookingAt": None}),
    ("PollEvents", {"conversations": {}, "state": None, "lookingAt": None, "presence": None, "waitSeconds": None}),
    ("SendCommands", [{"type": "no such command"}] * 20),
]

# Each body has one fault; the pointer is where the client is told to look.
BAD: list[tuple[str, Any, str]] = [
    ("SendMessage", [], ""),
    ("SendMessage", None, ""),
    ("SendMessage", {**TEXT, "colour": "red"}, ""),
    ("SendMessage", {**TEXT, "conversationId": ""}, "/conversationId"),
    ("SendMessage", {**TEXT, "conversationId": 7}, "/conversationId"),
    ("SendMessage", {**TEXT, "conversationId": "a\nb"}, "/conversationId"),
    ("SendMessage", {**TEXT, "senderId": "x" * 256}, "/senderId"),
    ("SendMessage", {**TEXT, "type": "system"}, "/type"),
    ("SendMessage", {**TEXT, "type": "sticker"}, "/type"),
    ("SendMessage", {**TEXT, "type": ["text"]}, "/type"),
    ("SendMessage", {**TEXT, "content": "你好"}, "/content"),
    ("SendMessage", {**TEXT, "content": {}}, "/content"),
    ("SendMessage", {**TEXT, "content": {"text": ""}}, "/content/text"),
    ("SendMessage", {**TEXT, "content": {"text": None}}, "/content/text"),
    ("SendMessage", {**TEXT, "content": {"text": "字" * 20_001}}, "/content/text"),
    ("SendMessage", {**TEXT, "replyToId": "not-a-uuid"}, "/replyToId"),
    ("SendMessage", {**TEXT, "clientMessageId": ""}, "/clientMessageId"),
    ("SendMessage", {**TEXT, "clientMessageId": "x" * 256}, "/clientMessageId"),
    ("SendMessage", {**TEXT, "clientMessageId": 12}, "/clientMessageId"),
    ("SendMessage", {**TEXT, "metadata": []}, "/metadata"),
    ("SendMessage", {**TEXT, "mentions": "wang"}, "/mentions"),
    ("SendMessage", {**TEXT, "mentions": ["a", "a"]}, "/mentions"),
    ("SendMessage", {**TEXT, "mentions": [f"u{n}" for n in range(101)]}, "/mentions"),
    ("SendMessage", {**TEXT, "mentions": ["a", ""]}, "/mentions/1"),
    ("SendMessage", {**TEXT, "silent": "yes"}, "/silent"),
    ("SendMessage", _send("image", {}), "/content"),
    ("SendMessage", _send("image", {"url": None}), "/content"),
    ("SendMessage", _send("video", {"url": None, "fileId": None}), "/content/fileId"),
    ("SendMessage", _send("file", {"fileId": "1"}), "/content/fileId"),
    ("SendMessage", _send("image", {"url": "javascript:alert(1)"}), "/content/url"),
    ("SendMessage", _send("audio", {"url": "https://a/" + "x" * 2040}), "/content/url"),
    ("SendMessage", _send("video", {"url": "https://a/b", "size": -1}), "/content/size"),
    ("SendMessage", _send("location", {"latitude": 31}), "/content"),
    ("SendMessage", _send("location", {"latitude": 90.01, "longitude": 0}), "/content/latitude"),
    ("SendMessage", _send("location", {"latitude": 0, "longitude": -180.5}), "/content/longitude"),
    ("SendMessage", _send("location", {"latitude": "31", "longitude": 0}), "/content/latitude"),
    ("SendMessage", _send("custom", [1]), "/content"),
    ("SendMessageCommand", {**TEXT, "senderId": "wang-fang"}, ""),
    ("SendMessageCommand", {**TEXT, "content": {"text": ""}}, "/content/text"),
    ("CreateConversation", {"type": "room"}, "/type"),
    ("CreateConversation", {"type": "group", "title": "x" * 256}, "/title"),
    ("CreateConversation", {"type": "group", "participantIds": "a"}, "/participantIds"),
    ("CreateConversation", {"type": "group", "participantIds": ["a", "a"]}, "/participantIds"),
    ("CreateConversation", {"type": "group", "participantIds": [f"u{n}" for n in range(10_001)]}, "/participantIds"),
    ("CreateConversation", {"type": "group", "participantIds": [None]}, "/participantIds/0"),
    ("CreateConversation", {"type": "group", "externalId": ""}, "/externalId"),
    ("CreateConversation", {"type": "group", "metadata": "x"}, "/metadata"),
    ("CreateConversation", {"type": "group", "settings": {}}, ""),
    ("UpdateConversation", {"title": 5}, "/title"),
    ("UpdateConversation", {"type": "group"}, ""),
    ("UpsertUser", {"externalUserId": "a\x00"}, "/externalUserId"),
    ("UpsertUser", {"externalUserId": "a", "avatarUrl": "a.png"}, "/avatarUrl"),
    ("UpsertUser", {"externalUserId": "a", "email": "nobody"}, "/email"),
    ("UpsertUser", {"externalUserId": "a", "displayName": "x" * 256}, "/displayName"),
    ("UpsertUser", {"externalUserId": "a", "isActive": True}, ""),
    ("UpsertUsers", {"users": []}, "/users"),
    ("UpsertUsers", {"users": [{"externalUserId": f"u{n}"} for n in range(101)]}, "/users"),
    ("UpsertUsers", {"users": [{"externalUserId": "a"}, {"externalUserId": ""}]}, "/users/1/externalUserId"),
    ("UpsertUsers", {"users": [{"externalUserId": "a", "role": "x"}]}, "/users/0"),
    ("UpdateUser", {"externalUserId": "b"}, ""),
    ("UpdateUser", {"metadata": 1}, "/metadata"),
    ("CreateToken", {"expiresInSeconds": 59}, "/expiresInSeconds"),
    ("CreateToken", {"expiresInSeconds": 2_592_001}, "/expiresInSeconds"),
    ("CreateToken", {"expiresInSeconds": "60"}, "/expiresInSeconds"),
    ("CreateToken", {"expiresInSeconds": 60.5}, "/expiresInSeconds"),
    ("CreateToken", {"expiresIn": 60}, ""),
    ("AddParticipants", {"participantIds": []}, "/participantIds"),
    ("AddParticipants", {"participantIds": [f"u{n}" for n in range(1_001)]}, "/participantIds"),
    ("AddParticipants", {"participantIds": ["a"], "role": "guest"}, "/role"),
    ("AddParticipants", {"participantIds": ["a"], "showHistory": 1}, "/showHistory"),
    ("UpdateParticipant", {"role": "king"}, "/role"),
    ("UpdateParticipant", {"role": "admin", "userId": "a"}, ""),
    ("EditMessage", {"content": "x"}, "/content"),
    ("EditMessage", {"content": {}, "type": "text"}, ""),
    ("EditMessage", {"content": {}, "mentions": ["a", "a"]}, "/mentions"),
    ("ChangeSettings", {"membershipMessages": "yes"}, "/membershipMessages"),
    ("ForwardMessage", {"conversationId": ""}, "/conversationId"),
    ("ForwardMessage", {"conversationId": "a", "mentions": []}, ""),
    ("AddReaction", {"name": ""}, "/name"),
    ("AddReaction", {"name": "x" * 65}, "/name"),
    ("AddReaction", {"name": "a b"}, "/name"),
    ("MarkUnread", {"messageId": "1"}, "/messageId"),
    ("ChangeMembership", {"mutedUntil": "tomorrow"}, "/mutedUntil"),
    ("ChangeMembership", {"pinned": 1}, "/pinned"),
    ("ChangeMembership", {"role": "owner"}, ""),
    ("UpdateConversation", {"settings": {"slowModeSeconds": -1}}, "/settings"),
    ("MarkRead", {"seq": -1}, "/seq"),
    ("MarkRead", {"seq": 10**30}, "/seq"),
    ("MarkRead", {"seq": 1, "at": 2}, ""),
    ("CreateTenant", {"name": "", "subdomain": "a", "planType": "pro"}, "/name"),
    ("CreateTenant", {"name": "a", "subdomain": "Not A Label", "planType": "pro"}, "/subdomain"),
    ("CreateTenant", {"name": "a", "subdomain": "a" * 64, "planType": "pro"}, "/subdomain"),
    ("CreateTenant", {"name": "a", "subdomain": "a", "planType": 3}, "/planType"),
    ("CreateTenant", {"name": "a", "subdomain": "a", "planType": "pro", "status": "active"}, ""),
    ("UpdateTenant", {"name": ""}, "/name"),
    ("UpdateTenant", {"subdomain": "b"}, ""),
    ("UpdateTenant", {"settings": []}, "/settings"),
    ("UpdateTenant", {"settings": {"maxUsers": -1}}, "/settings/maxUsers"),
    ("UpdateTenant", {"settings": {"maxCats": 1}}, "/settings"),
    ("UpdateTenant", {"settings": {"allowedOrigins": ["*"]}}, "/settings/allowedOrigins/0"),
    ("CreateKey", {"kind": "master", "name": "a"}, "/kind"),
    ("CreateKey", {"kind": "secret", "name": ""}, "/name"),
    ("CreateKey", {"kind": "secret", "name": "a", "scopes": ["everything!"]}, "/scopes/0"),
    ("CreateKey", {"kind": "secret", "name": "a", "expiresAt": "tomorrow"}, "/expiresAt"),
    ("CreateKey", {"kind": "secret", "name": "a", "key": "mc_sk_mine"}, ""),
    ("AuthenticateCommand", {"token": 5}, "/token"),
    ("AuthenticateCommand", {"token": "a", "tenant": "b"}, ""),
    ("JoinConversationCommand", {"conversationId": ["c"]}, "/conversationId"),
    ("LeaveConversationCommand", {"conversationId": "c", "force": True}, ""),
    ("TypingStartCommand", {"conversationId": ""}, "/conversationId"),
    ("TypingStopCommand", {"conversationId": {}}, "/conversationId"),
    ("EditMessageCommand", {"messageId": UUID, "content": {}, "type": "text"}, ""),
    ("DeleteMessageCommand", {"messageId": "1"}, "/messageId"),
    ("AddReactionCommand", {"messageId": UUID, "name": ""}, "/name"),
    ("RemoveReactionCommand", {"messageId": UUID, "name": "a b"}, "/name"),
    ("MarkReadCommand", {"conversationId": "c", "seq": "3"}, "/seq"),
    ("MarkDeliveredCommand", {"conversationId": "c", "seq": -1}, "/seq"),
    ("ResumeCommand", {"conversations": []}, "/conversations"),
    ("ResumeCommand", {"conversations": {"c": -1}}, "/conversations/c"),
    ("SetPresenceCommand", {"status": "busy"}, "/status"),
    ("PingCommand", {"a": 1}, ""),
    ("ClientFrame", {"type": ""}, "/type"),
    ("ClientFrame", {"type": "ping", "data": []}, "/data"),
    ("ClientFrame", {"type": "ping", "id": ""}, "/id"),
    ("ClientFrame", {"type": "ping", "id": 1.5}, "/id"),
    ("ClientFrame", {"type": "ping", "more": 1}, ""),
    ("ClientFrame", "ping", ""),
    ("OpenEventStream", {"conversations": []}, "/conversations"),
    ("OpenEventStream", {"lookingAt": ["a", "a"]}, "/lookingAt"),
    ("PollEvents", {"conversations": {"c": -1}}, "/conversations/c"),
    ("PollEvents", {"conversations": {}, "waitSeconds": 26}, "/waitSeconds"),
    ("PollEvents", {"conversations": {}, "state": "{}"}, "/state"),
    ("PollEvents", {"conversations": {}, "presence": "busy"}, "/presence"),
    ("SendCommands", [], ""),
    ("SendCommands", "ping", ""),
    ("SendCommands", [{"type": "ping"}] * 21, ""),
    ("SendCommands", [{"type": "ping"}, "ping"], "/1"),
]


@pytest.mark.parametrize(("name", "body"), GOOD)
def test_a_good_request_is_accepted(name: str, body: Any) -> None:
    assert _pointers(name, body) == []
    assert _reference_validator(name).is_valid(body)


@pytest.mark.parametrize(("name", "body", "pointer"), BAD)
def test_a_bad_request_is_refused_at_the_field_that_is_wrong(name: str, body: Any, pointer: str) -> None:
    assert _pointers(name, body) == [pointer]
    assert not _reference_validator(name).is_valid(body)


def test_every_request_and_command_has_a_bad_case() -> None:
    sent = {name for name, s in FILES["requests.json"]["$defs"].items() if "properties" in s} - {"TenantOverrides"}
    sent |= {command["schema"] for command in COMMANDS.values()}
    assert sent - {name for name, _, _ in BAD} == set()


# --- Answers ---


@pytest.mark.parametrize(
    ("name", "changes", "pointer"),
    [
        ("Message", {"content": {}}, "/content"),
        ("Message", {"deletedAt": "2025-10-29T08:17:45.000Z"}, "/content"),
        ("Message", {"type": "video"}, "/content"),
        ("Message", {"createdAt": "2025-10-29T08:15:30Z"}, "/createdAt"),
        ("Message", {"seq": 0}, "/seq"),
        ("Message", {"status": "lost"}, "/status"),
        ("Message", {"secret": 1}, ""),
        ("User", {"presence": "online"}, "/presence"),
        ("Conversation", {"participantIds": ["wang-fang"]}, "/participantIds/0"),
        ("CreatedTenant", {"apiKey": "mc_pk_x"}, "/apiKey"),
        ("Error", {"code": "made_up"}, "/code"),
        ("Error", {"details": None}, "/details"),
        ("Failure", {"success": True}, "/success"),
        ("NewMessageEvent", {"seq": 0}, "/seq"),
        ("UserPresenceEvent", {"status": "unknown"}, "/status"),
    ],
)
def test_a_wrong_answer_is_noticed(name: str, changes: dict[str, Any], pointer: str) -> None:
    assert _pointers(name, {**SCHEMAS[name]["examples"][0], **changes}) == [pointer]


def test_an_event_may_have_lost_its_message() -> None:
    for name in ("NewMessageEvent", "MessageUpdatedEvent", "MessageDeletedEvent", "MessagePinnedEvent"):
        assert _pointers(name, {**SCHEMAS[name]["examples"][0], "message": None}) == []


def test_a_truncated_resume_says_from_where_and_why() -> None:
    assert _pointers("ResumedConversation", {"seq": 9, "complete": False}) == [""]
    assert (
        _pointers("ResumedConversation", {"seq": 9, "complete": False, "truncatedBefore": 4, "reason": "retention"})
        == []
    )
