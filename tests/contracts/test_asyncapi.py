"""The AsyncAPI document: valid 3.0, whole, and made of the very definitions that the socket's frames are held to."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from django.test import Client

from messagecore.kernel import catalogue, validation
from messagecore.kernel.errors import ValidationFailed
from realtime.commands import HANDLERS
from realtime.protocol import frames

OFFICIAL = Path(__file__).parent / "asyncapi" / "3.0.0.json"
COMMANDS = sorted({"authenticate", *HANDLERS})
EVENTS = sorted(catalogue.events())
ANSWERS = {"ack", "error"}

# What draft 7, which AsyncAPI builds on, and draft 2020-12 understand alike.
SHARED_KEYWORDS = {
    *("type", "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum"),
    *("properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"),
    *("items", "minItems", "maxItems", "uniqueItems", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref"),
    *("title", "description", "examples", "default"),
}


@cache
def document() -> dict[str, Any]:
    response = Client().get("/api/asyncapi/")
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(response.content)
    return found


def messages() -> dict[str, Any]:
    found: dict[str, Any] = document()["components"]["messages"]
    return found


@cache
def _validator(message: str) -> jsonschema_rs.Draft7Validator:
    """For the payload of a message, its references resolved inside the document."""
    schema = {"allOf": [messages()[message]["payload"]], "components": document()["components"]}
    return jsonschema_rs.Draft7Validator(schema, validate_formats=True)


def _problems(message: str, frame: Any) -> list[str]:
    return [error.message for error in _validator(message).iter_errors(frame)]


def _nodes(value: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, part in value.items():
            yield from _nodes(part, f"{path}/{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _nodes(part, f"{path}/{number}")


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and those inside it."""
    if isinstance(schema, dict):
        yield schema
        for key, part in schema.items():
            if key == "properties":
                for inner in part.values():
                    yield from _schemas(inner)
            elif key in {"allOf", "anyOf", "oneOf"}:
                for inner in part:
                    yield from _schemas(inner)
            elif key not in {"examples", "enum", "const", "default"}:
                yield from _schemas(part)


def _refs(operation: dict[str, Any]) -> set[str]:
    prefix = "#/channels/socket/messages/"
    assert all(message["$ref"].startswith(prefix) for message in operation["messages"])
    return {message["$ref"].removeprefix(prefix) for message in operation["messages"]}


# --- the document -----------------------------------------------------------------------------------------------------


def test_it_is_valid_by_the_official_schema() -> None:
    official = jsonschema_rs.Draft7Validator(json.loads(OFFICIAL.read_text("utf-8")))
    assert [error.message for error in official.iter_errors(document())] == []
    broken = {**document(), "operations": {"ping": {**document()["operations"]["ping"], "action": "shout"}}}
    assert not official.is_valid(broken), "the official schema judges"


def test_every_reference_leads_somewhere() -> None:
    checked = 0
    for path, node in _nodes(document()):
        if isinstance(node.get("$ref"), str):
            target: Any = document()
            for part in node["$ref"].removeprefix("#/").split("/"):
                assert part in target, f"{path}: {node['$ref']}"
                target = target[part]
            checked += 1
    assert checked > 200


def test_it_has_the_commands_of_the_server_and_every_event_and_nothing_else() -> None:
    received = {name for name, operation in document()["operations"].items() if operation["action"] == "receive"}
    sent = {name for name, operation in document()["operations"].items() if operation["action"] == "send"}
    assert sorted(received) == COMMANDS
    assert sorted(sent) == EVENTS
    assert set(messages()) == {*COMMANDS, *EVENTS} - {"ack"} | {f"{name}.ack" for name in COMMANDS}
    types = {name: message["payload"]["properties"]["type"]["const"] for name, message in messages().items()}
    assert types == {name: "ack" if name.endswith(".ack") else name for name in messages()}


def test_both_addresses_carry_every_message() -> None:
    channels = document()["channels"]
    assert {name: channel["address"] for name, channel in channels.items()} == {"socket": "/ws", "bareHost": "/"}
    for channel in channels.values():
        assert channel["messages"] == {name: {"$ref": f"#/components/messages/{name}"} for name in messages()}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_how_it_is_answered(command: str) -> None:
    operation = document()["operations"][command]
    entry = catalogue.commands()[command]
    assert _refs(operation) == {command}
    event = {entry["event"]} if entry["event"] else set()
    assert _refs(operation["reply"]) == {f"{command}.ack", "error", *event}
    ack = messages()[f"{command}.ack"]["payload"]["properties"]
    assert ack["data"] == {"$ref": f"#/components/schemas/{entry['ack']}"}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_says_whether_it_is_durable(event: str) -> None:
    operation = document()["operations"][event]
    assert operation["x-durable"] == catalogue.events()[event]["durable"]
    assert ({"name": "durable"} in operation["tags"]) is (catalogue.events()[event]["durable"] is True)
    assert _refs(operation) == ({f"{name}.ack" for name in COMMANDS} if event == "ack" else {event})


def test_commands_and_answers_carry_the_frame_id_and_events_do_not() -> None:
    identified = {name for name, message in messages().items() if "id" in message["payload"]["properties"]}
    assert identified == {*COMMANDS, "error"} | {f"{name}.ack" for name in COMMANDS}
    traits = document()["components"]["messageTraits"]
    correlated = {
        name
        for name, message in messages().items()
        if "correlationId" in traits[message["traits"][0]["$ref"].rpartition("/")[2]]
    }
    assert correlated == identified
    assert document()["components"]["correlationIds"]["frameId"]["location"] == "$message.payload#/id"


def test_every_close_code_is_described() -> None:
    codes = catalogue.documents()["errors.json"]["x-close-codes"]
    for channel in document()["channels"].values():
        assert channel["x-close-codes"] == codes
        rows = [line for line in channel["description"].splitlines() if line.startswith(("| 1", "| 4"))]
        expected = [
            f"| {code} | {'yes' if entry['reconnect'] else 'no'} | `{entry['name']}`: {entry['description']} |"
            for code, entry in codes.items()
        ]
        assert rows == expected


def test_the_ways_to_authenticate_are_described() -> None:
    schemes = document()["components"]["securitySchemes"]
    places = {(scheme["type"], scheme.get("in", ""), scheme.get("name", "")) for scheme in schemes.values()}
    assert places == {
        ("apiKey", "user", ""),
        ("apiKey", "password", ""),
        ("httpApiKey", "header", "X-API-Key"),
        ("http", "", ""),
        ("httpApiKey", "query", "apiKey"),
        ("httpApiKey", "query", "token"),
    }
    (server,) = document()["servers"].values()
    assert [scheme["$ref"].rpartition("/")[2] for scheme in server["security"]] == list(schemes)
    for channel in document()["channels"].values():
        bindings = channel["bindings"]["ws"]
        assert set(bindings["query"]["properties"]) == {"apiKey", "token"}
        assert set(bindings["headers"]["properties"]) == {"X-API-Key", "Authorization"}


# --- the payloads -----------------------------------------------------------------------------------------------------


def _as_in_the_catalogue(schema: Any) -> Any:
    """Undoes what the document does for readers of draft 7, and where its references point."""
    if isinstance(schema, dict):
        parts = {key: _as_in_the_catalogue(part) for key, part in schema.items()}
        if isinstance(parts.get("$ref"), str):
            return {**parts, "$ref": parts["$ref"].replace("#/components/schemas/", "#/$defs/")}
        every = parts.get("allOf", [])
        if every and set(every[-1]) == {"$ref"} and len(parts) > 1 and "type" not in parts:
            rest = {key: part for key, part in parts.items() if key != "allOf"}
            before = {"allOf": every[:-1]} if every[:-1] else {}
            return {**rest, **before, **every[-1]}
        return parts
    return [_as_in_the_catalogue(part) for part in schema] if isinstance(schema, list) else schema


def test_the_schemas_are_the_definitions_that_frames_are_held_to() -> None:
    described = document()["components"]["schemas"]
    assert {name: _as_in_the_catalogue(schema) for name, schema in described.items()} == {
        name: catalogue.definitions()[name] for name in described
    }
    data = {catalogue.commands()[name]["schema"] for name in COMMANDS}
    data |= {catalogue.commands()[name]["ack"] for name in COMMANDS}
    data |= {entry["schema"] for name, entry in catalogue.events().items() if name != "ack"}
    assert data <= set(described)


def test_the_schemas_mean_the_same_in_draft_7() -> None:
    parts = list(document()["components"]["schemas"].values())
    parts += [message["payload"] for message in messages().values()]
    seen = 0
    for schema in (node for part in parts for node in _schemas(part)):
        assert set(schema) <= SHARED_KEYWORDS
        assert "$ref" not in schema or set(schema) == {"$ref"}, "draft 7 overlooks what stands beside a reference"
        assert not isinstance(schema.get("items"), list)
        seen += 1
    assert seen > 500


@pytest.mark.parametrize("name", sorted(messages()))
def test_every_message_has_examples_that_fit(name: str) -> None:
    examples = messages()[name]["examples"]
    assert examples
    for example in examples:
        assert _problems(name, example["payload"]) == []


def _takes(text: str) -> bool:
    try:
        frames.parse(text)
    except frames.FrameRefused:
        return False
    return True


def _sends(frame: Any, command: str | None) -> bool:
    """As the end-to-end client judges what it gets."""
    try:
        validation.validate("ServerFrame", frame)
        if command is not None:
            validation.validate(catalogue.commands()[command]["ack"], frame["data"])
    except ValidationFailed:
        return False
    return True


def _variants(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The frame, and what clumsy or hostile peers make of it."""
    without_id = {key: value for key, value in frame.items() if key != "id"}
    yield frame
    yield without_id
    for frame_id in (None, "", "x", "x" * 64, "x" * 65, 0, -1, 2**53 - 1, 2**53, 1.5, True, [], {}):
        yield {**frame, "id": frame_id}
    yield {key: value for key, value in frame.items() if key != "data"}
    yield {**without_id, "more": 1}
    for data in (None, [], "data", {}, {**frame["data"], "more": 1}, {**frame["data"], "conversationId": 7}):
        yield {**frame, "data": data}
    for key in frame["data"]:
        yield {**frame, "data": {**frame["data"], key: None}}
        yield {**frame, "data": {name: value for name, value in frame["data"].items() if name != key}}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_exactly_as_it_is_taken(name: str) -> None:
    judged = set()
    for example in messages()[name]["examples"]:
        for frame in _variants(example["payload"]):
            taken = _takes(json.dumps(frame))
            assert (_problems(name, frame) == []) is taken, frame
            judged.add(taken)
    assert judged == {True, False}


@pytest.mark.parametrize("name", sorted(set(messages()) - set(COMMANDS)))
def test_an_event_is_described_exactly_as_the_clients_of_the_tests_judge_it(name: str) -> None:
    command = name.removesuffix(".ack") if name.endswith(".ack") else None
    judged = set()
    for example in messages()[name]["examples"]:
        for frame in _variants(example["payload"]):
            sent = _sends(frame, command)
            assert (_problems(name, frame) == []) is sent, frame
            judged.add(sent)
    assert judged == {True, False}


# --- how it is served -------------------------------------------------------------------------------------------------


def test_it_is_served_as_the_openapi_document_is() -> None:
    headers = {"HTTP_ORIGIN": "https://shop.example.com"}
    ours, theirs = (Client().get(path, **headers) for path in ("/api/asyncapi/", "/api/schema/"))
    assert ours["Content-Type"] == "application/vnd.aai.asyncapi+json;version=3.0.0"
    assert ours["Content-Disposition"] == 'inline; filename="MessageCore.asyncapi.json"'
    varying = {"Content-Type", "Content-Disposition", "Content-Length", "X-Request-Id", "Vary"}
    served = [{key: value for key, value in answer.items() if key not in varying} for answer in (ours, theirs)]
    assert served[0] == served[1]
    assert served[0]["Access-Control-Allow-Origin"] == "*"
    for accept in ("text/html", "application/yaml", "*/*"):
        assert (
            Client().get("/api/asyncapi/", headers={"Accept": accept}).content == Client().get("/api/asyncapi/").content
        )
    refused = Client().post("/api/asyncapi/")
    assert (refused.status_code, refused.json()["error"]["code"]) == (405, "method_not_allowed")


def test_it_names_the_server_that_was_asked() -> None:
    plain = Client().get("/api/asyncapi/", headers={"Host": "localhost:8123"}).json()["servers"]["here"]
    assert (plain["protocol"], plain["host"]) == ("ws", "localhost:8123")
    assert plain["externalDocs"]["url"] == "http://localhost:8123/api/docs/"
    secure = Client().get("/api/asyncapi/", secure=True).json()["servers"]["here"]
    assert secure["protocol"] == "wss"


def test_the_docs_page_links_it() -> None:
    assert "(/api/asyncapi/)" in Client().get("/api/schema/").json()["info"]["description"]
