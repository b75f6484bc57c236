"""The AsyncAPI 3.0 document of the socket, made from the definitions that its frames are held to.

It describes the server, as AsyncAPI 3 wants it: a command is an operation that *receives*, an event one that *sends*.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from messagecore.kernel import catalogue, wire
from messagecore.kernel.api import components
from messagecore.kernel.api.components import pointer_to, reference
from messagecore.kernel.api.operations import ApiView
from realtime.commands import HANDLERS

Document = dict[str, Any]

VERSION = "3.0.0"
CHANNEL = "socket"
ANSWERS = ("ack", "error")
"""The events that carry a command's id back."""

_EXAMPLE_ID = "7f3a-1"


class AsyncApiRenderer(BaseRenderer):
    media_type = f"application/vnd.aai.asyncapi+json;version={VERSION}"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return wire.dumps(data)


class AsyncApiView(ApiView):
    """GET /api/asyncapi/, for anybody, as /api/schema/ is. The server that it names is the one that was asked."""

    renderer_classes = [AsyncApiRenderer]

    def get(self, request: Request) -> Response:
        filename = f"{settings.SPECTACULAR_SETTINGS['TITLE']}.asyncapi.json"
        return Response(
            {**document(), "servers": _servers(request)},
            headers={"Content-Disposition": f'inline; filename="{filename}"'},
        )


@cache
def document() -> Document:
    """All of it but `servers`; read it, do not change it."""
    commands = {name: entry for name, entry in catalogue.commands().items() if name in {"authenticate", *HANDLERS}}
    messages = _messages(commands)
    payloads = [message["payload"] for message in messages.values()]
    return {
        "asyncapi": VERSION,
        "info": {
            "title": f"{settings.SPECTACULAR_SETTINGS['TITLE']}: the socket",
            "version": settings.SPECTACULAR_SETTINGS["VERSION"],
            "description": _DESCRIPTION,
            "tags": [{"name": name, "description": words} for name, words in _TAGS.items()],
        },
        "defaultContentType": "application/json",
        "channels": {
            CHANNEL: _channel("/ws", "The socket.", messages),
            "bareHost": _channel(
                "/",
                "The same socket, for clients that connect to a bare host. Its operations are those of `socket`.",
                messages,
            ),
        },
        "operations": _operations(commands),
        "components": {
            "schemas": {
                name: _for_draft_7(schema)
                for name, schema in components.schemas_behind(components.names_in(payloads)).items()
            },
            "messages": messages,
            "messageTraits": {
                "command": {
                    "tags": [{"name": "commands"}],
                    "correlationId": {"$ref": "#/components/correlationIds/frameId"},
                },
                "answer": {
                    "tags": [{"name": "answers"}],
                    "correlationId": {"$ref": "#/components/correlationIds/frameId"},
                },
                "event": {"tags": [{"name": "events"}]},
            },
            "correlationIds": {
                "frameId": {
                    "location": "$message.payload#/id",
                    "description": catalogue.definitions()["FrameId"]["description"],
                }
            },
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


_DESCRIPTION = """\
One WebSocket brings a user everything that happens in their conversations, and takes their commands.

- A frame is one JSON text, `{"type": …, "data": {…}, "id"?: …}`. A command with an `id` is answered by an `ack` or an
  `error` that carries the same id; one without is answered by its event, where it has one, and an `error` without id.
- The first frame is `authenticate`, unless the handshake's headers or query say who is calling. Further commands may
  follow at once: they are handled in order.
- Durable events (`x-durable: true`) have a `seq` in their conversation: 1, 2, 3 …. On one connection a client sees them
  in order, without a gap or a repeat.
- Operations are told from the server's side: a client sends what is received here, and receives what is sent.
"""

_TAGS = {
    "commands": "What clients send.",
    "answers": "What a command is answered with; it carries the command's id.",
    "events": "What the server sends.",
    "durable": "Events of a conversation's log, each with its `seq`.",
}

_IN_THE_FRAME = "In the `authenticate` frame, the first one. "
_IN_A_HEADER = "In a header of the handshake, for clients that can set one. "
_IN_THE_QUERY = "In the handshake's query. Proxies log addresses: prefer the frame. "

_SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    # AsyncAPI's words for credentials that the protocol itself carries, rather than the handshake.
    "keyInFrame": {
        "type": "apiKey",
        "in": "user",
        "description": f"{_IN_THE_FRAME}`data.apiKey`: {components.KEY_DESCRIPTION}.",
    },
    "tokenInFrame": {
        "type": "apiKey",
        "in": "password",
        "description": f"{_IN_THE_FRAME}`data.token`: {components.TOKEN_DESCRIPTION.lower()}.",
    },
    "keyInHeader": {
        "type": "httpApiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": f"{_IN_A_HEADER}{components.KEY_DESCRIPTION}",
    },
    "tokenInHeader": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": f"{_IN_A_HEADER}{components.TOKEN_DESCRIPTION}.",
    },
    "keyInQuery": {
        "type": "httpApiKey",
        "in": "query",
        "name": "apiKey",
        "description": f"{_IN_THE_QUERY}{components.KEY_DESCRIPTION}",
    },
    "tokenInQuery": {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": f"{_IN_THE_QUERY}{components.TOKEN_DESCRIPTION}.",
    },
}


_CLOSE_CODES_HEAD = (
    "A socket that the server closes is closed with one of these codes, after `disconnecting`.",
    "",
    "| code | reconnect | meaning |",
    "| --- | --- | --- |",
)


def _servers(request: HttpRequest | Request) -> Document:
    return {
        "here": {
            "host": request.get_host(),
            "protocol": "wss" if request.is_secure() else "ws",
            "title": "The server that this document came from",
            "description": "It wants both a key (of either kind) and a user token, in the same place or not.",
            "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY_SCHEMES],
            "externalDocs": {
                "description": "The REST API beside the socket",
                "url": request.build_absolute_uri("/api/docs/"),
            },
        }
    }


def _channel(address: str, summary: str, messages: Iterable[str]) -> Document:
    credentials = catalogue.definitions()["AuthenticateCommand"]["properties"]
    key, token = ({"type": "string", "maxLength": credentials[name]["maxLength"]} for name in ("apiKey", "token"))
    rows = [
        f"| {code} | {'yes' if entry['reconnect'] else 'no'} | `{entry['name']}`: {entry['description']} |"
        for code, entry in catalogue.close_codes().items()
    ]
    return {
        "address": address,
        "summary": summary,
        "description": "\n".join([*_CLOSE_CODES_HEAD, *rows]),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": {"apiKey": key, "token": token}},
                "headers": {
                    "type": "object",
                    "properties": {"X-API-Key": key, "Authorization": {"type": "string", "pattern": "^Bearer "}},
                },
                "bindingVersion": "0.1.0",
            }
        },
        "x-close-codes": {str(code): entry for code, entry in catalogue.close_codes().items()},
    }


# --- messages -------------------------------------------------------------------------------------------------------


def _messages(commands: Mapping[str, Document]) -> Document:
    """By the type of the frame; acks, whose data is the command's, by `<command>.ack`."""
    messages = {name: _command(name, entry) for name, entry in commands.items()}
    messages |= {_ack_of(name): _ack(name, entry) for name, entry in commands.items()}
    return messages | {name: _event(name, entry) for name, entry in catalogue.events().items() if name != "ack"}


def _ack_of(command: str) -> str:
    return f"{command}.ack"


def _command(name: str, entry: Document) -> Document:
    """As `realtime.protocol.frames.parse` takes it: an id or data that is null counts as left out, and data that is
    left out as `{}`."""
    definition = catalogue.definitions()[entry["schema"]]
    envelope = catalogue.definitions()["ClientFrame"]["properties"]
    required = ["type"]
    data: Document = reference(entry["schema"])
    if definition.get("required"):
        required.append("data")
    else:
        data = {"anyOf": [data, {"type": "null"}], "description": envelope["data"]["description"]}
    frame_id = _for_draft_7(catalogue.rewrite_references(envelope["id"], pointer_to))
    payload = _frame(name, required=required, data=data, id=frame_id)
    frames = [{"type": name, "id": _EXAMPLE_ID, "data": data} for data in definition["examples"]]
    return _message(name, entry["description"], "command", payload, frames)


def _ack(name: str, entry: Document) -> Document:
    payload = _frame("ack", required=["type", "id", "data"], data=reference(entry["ack"]), id=reference("FrameId"))
    examples = catalogue.definitions()[entry["ack"]]["examples"]
    frames = [{"type": "ack", "id": _EXAMPLE_ID, "data": data} for data in examples]
    summary = f"`{name}` succeeded, and what it did is durable."
    return _message("ack", summary, "answer", payload, frames)


def _event(name: str, entry: Document) -> Document:
    examples = catalogue.definitions()[entry["schema"]]["examples"]
    data = reference(entry["schema"])
    if name in ANSWERS:
        payload = _frame(name, required=["type", "data"], data=data, id=reference("FrameId"))
        frames = [{"type": name, "id": _EXAMPLE_ID, "data": data} for data in examples]
        return _message(name, entry["description"], "answer", payload, frames)
    payload = _frame(name, required=["type", "data"], data=data)
    frames = [{"type": name, "data": data} for data in examples]
    return _message(name, entry["description"], "event", payload, frames) | {"x-durable": entry["durable"]}


def _frame(type_: str, *, required: list[str], **properties: Any) -> Document:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": {"type": {"const": type_}, **properties},
    }


def _message(name: str, summary: str, trait: str, payload: Document, frames: list[Document]) -> Document:
    return {
        "name": name,
        "summary": summary,
        "payload": payload,
        "examples": [{"name": f"{name}-{number}", "payload": frame} for number, frame in enumerate(frames, 1)],
        "traits": [{"$ref": f"#/components/messageTraits/{trait}"}],
    }


# --- operations -----------------------------------------------------------------------------------------------------


def _operations(commands: Mapping[str, Document]) -> Document:
    described = {name: _receiving(name, entry) for name, entry in commands.items()}
    for name, entry in catalogue.events().items():
        messages = [_ack_of(command) for command in commands] if name == "ack" else [name]
        tags = ["answers" if name in ANSWERS else "events"] + (["durable"] if entry["durable"] is True else [])
        described[name] = _operation("send", entry["description"], messages, tags) | {"x-durable": entry["durable"]}
    return described


def _receiving(name: str, entry: Document) -> Document:
    answers = [_ack_of(name), "error", *([entry["event"]] if entry["event"] else [])]
    reply = {"channel": {"$ref": f"#/channels/{CHANNEL}"}, "messages": list(_in_channel(answers))}
    return _operation("receive", entry["description"], [name], ["commands"]) | {"reply": reply}


def _operation(action: str, summary: str, messages: Iterable[str], tags: Iterable[str]) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{CHANNEL}"},
        "summary": summary,
        "tags": [{"name": tag} for tag in tags],
        "messages": list(_in_channel(messages)),
    }


def _in_channel(messages: Iterable[str]) -> Iterator[dict[str, str]]:
    for name in messages:
        yield {"$ref": f"#/channels/{CHANNEL}/messages/{name}"}


def _for_draft_7(schema: Any) -> Any:
    """The schema as readers of draft 7, which AsyncAPI builds on, take it to mean what it means in draft 2020-12:
    they overlook what stands beside a `$ref`, so the reference moves into an `allOf`."""
    if isinstance(schema, dict):
        parts = {key: _for_draft_7(value) for key, value in schema.items()}
        if isinstance(parts.get("$ref"), str) and len(parts) > 1:
            target = parts.pop("$ref")
            parts["allOf"] = [*parts.get("allOf", ()), {"$ref": target}]
        return parts
    if isinstance(schema, list):
        return [_for_draft_7(item) for item in schema]
    return schema
