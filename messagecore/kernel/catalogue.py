"""The protocol catalogue (docs/protocol): schemas, events, commands, error codes, loaded once and shared by all."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """What errors.json says of a code."""

    code: str
    status: int
    retryable: bool
    title: str
    description: str


@cache
def documents() -> Mapping[str, Schema]:
    """The files as they are, by name."""
    folder = Path(settings.PROTOCOL_DIR)
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


@cache
def definitions() -> Mapping[str, Schema]:
    """Every `$defs` entry of every file in one namespace; references read `#/$defs/Name`.

    Raises ValueError if two files define the same name.
    """
    merged: dict[str, Schema] = {}
    for name, document in documents().items():
        for key, schema in document.get("$defs", {}).items():
            if key in merged:
                raise ValueError(f"{name} defines {key} again")
            merged[key] = rewrite_references(schema, lambda target: f"#/$defs/{target}")
    return merged


def rewrite_references(schema: Any, to: Callable[[str], str]) -> Any:
    """A copy of `schema` whose `$ref`s point where `to(definition name)` says."""
    if isinstance(schema, dict):
        return {
            key: to(value.rsplit("/", 1)[-1])
            if key == "$ref" and isinstance(value, str)
            else rewrite_references(value, to)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [rewrite_references(item, to) for item in schema]
    return schema


@cache
def errors() -> Mapping[str, ErrorEntry]:
    entries = documents()["errors.json"]["x-errors"]
    return {
        code: ErrorEntry(code, entry["status"], entry["retryable"], entry["title"], entry["description"])
        for code, entry in entries.items()
    }


def error(code: str) -> ErrorEntry:
    """Raises KeyError for a code that the catalogue does not know: write it there first."""
    return errors()[code]


@cache
def commands() -> Mapping[str, Schema]:
    """Socket commands by type: `{schema, event?, description}`."""
    index: Mapping[str, Schema] = documents()["commands.json"]["x-commands"]
    return index


@cache
def events() -> Mapping[str, Schema]:
    """Socket events by type: `{schema, durable, description}`."""
    index: Mapping[str, Schema] = documents()["events.json"]["x-events"]
    return index


@cache
def close_codes() -> Mapping[int, Schema]:
    """Why the server closes a socket, by code: `{name, reconnect, description}`."""
    index: Mapping[str, Schema] = documents()["errors.json"]["x-close-codes"]
    return {int(code): entry for code, entry in index.items()}
