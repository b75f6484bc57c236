"""What the client takes from the catalogue's files: which events are durable, and what close codes mean."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from websockets.frames import CLOSE_CODE_EXPLANATIONS

from scripts.launcher.home import ROOT

Frame = dict[str, Any]


def _file(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "docs" / "protocol" / name).read_text(encoding="utf-8"))
    return read


@cache
def durable_events() -> frozenset[str]:
    """Those with a seq in their conversation's log."""
    return frozenset(name for name, entry in _file("events.json")["x-events"].items() if entry["durable"] is True)


@dataclass(frozen=True, slots=True)
class CloseCode:
    """Why a socket was closed, and whether a client is to come back."""

    code: int
    name: str
    meaning: str
    reconnect: bool


@cache
def close_code(code: int) -> CloseCode:
    """By the catalogue's table; one that it does not list is the network's or a proxy's, and clients come back."""
    entry = _file("errors.json")["x-close-codes"].get(str(code))
    if entry is not None:
        return CloseCode(code, entry["name"], entry["description"], entry["reconnect"])
    if code == 1006:
        return CloseCode(code, "abnormal", "The connection broke without a word.", True)
    return CloseCode(code, "other", f"{CLOSE_CODE_EXPLANATIONS.get(code, 'not a code of ours').capitalize()}.", True)
