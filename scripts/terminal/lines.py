"""A frame as one line: time, direction, type, id, seq, and the gist of its data."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prompt_toolkit.utils import get_cwidth

from scripts.terminal.link import Answered, Lost
from scripts.terminal.protocol import Frame, durable_events

SENT, RECEIVED, LOCAL = "→", "←", "·"
TYPE_WIDTH = 20
MOST_POSITIONS = 5

_GREY, _RED, _GREEN, _YELLOW, _BLUE, _CYAN = 90, 31, 32, 33, 34, 36
_KEPT_OF_SECRETS = 10

# Told elsewhere in the line, or of no use to whoever watches.
_LEFT_OUT = {"seq", "timestamp", "conversationExternalId", "externalUserId"}


def wants_colour(*, terminal: bool, env: Mapping[str, str] = os.environ) -> bool:
    """As people who set NO_COLOR, and terminals that have none, expect."""
    return terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


@dataclass(frozen=True, slots=True)
class Style:
    """How lines look. `width` cuts them, in cells of a terminal; None leaves them whole."""

    colour: bool = False
    full: bool = False
    width: int | None = None

    def sent(self, frame: Frame, now: datetime) -> str:
        return self._frame(SENT, _BLUE, _without_secrets(frame), None, now)

    def received(self, frame: Frame, answered: Answered | None, now: datetime) -> str:
        kind = frame["type"]
        colour = {"ack": _GREEN, "error": _RED, "disconnecting": _YELLOW}.get(
            kind, _CYAN if kind in durable_events() else 0
        )
        return self._frame(RECEIVED, colour, frame, answered, now)

    def note(self, text: str, now: datetime, *, bad: bool = False) -> str:
        """What the client itself has to say."""
        return self._line(LOCAL, _RED if bad else _GREY, printable(text), now, cut=False)

    def lost(self, lost: Lost, now: datetime) -> str:
        if lost.code is None:
            said = f"no connection: {lost.problem}"
        else:
            reason = f" ({lost.reason})" if lost.reason else ""
            said = f"closed {lost.code.code} {lost.code.name}{reason}: {lost.code.meaning}"
        then = "Not reconnecting." if lost.retry_in_s is None else f"Reconnecting in {lost.retry_in_s:.1f} s."
        return self._line(
            "✗", _YELLOW if lost.retry_in_s is not None else _RED, printable(f"{said} {then}"), now, cut=False
        )

    def _frame(self, arrow: str, colour: int, frame: Frame, answered: Answered | None, now: datetime) -> str:
        parts = [printable(str(frame.get("type", "?"))).ljust(TYPE_WIDTH)]
        if "id" in frame:
            parts.append(f"id={printable(_json(frame['id']))}")
        data = frame.get("data")
        if isinstance(data, dict) and isinstance(data.get("seq"), int):
            parts.append(f"seq={data['seq']}")
        if answered is not None:
            parts.append(f"{answered.type} {answered.seconds * 1000:.1f} ms")
        if self.full:
            line = self._line(arrow, colour, " ".join(parts), now)
            return f"{line}\n{printable(_json(frame))}"
        return self._line(arrow, colour, " ".join([*parts, gist(frame)]).rstrip(), now)

    def _line(self, mark: str, colour: int, text: str, now: datetime, *, cut: bool = True) -> str:
        clock = f"{now:%H:%M:%S}.{now.microsecond // 1000:03}"
        if cut and self.width is not None:
            text = _cut(text, self.width - len(clock) - 3)
        if not self.colour:
            return f"{clock} {mark} {text}"
        return f"\033[{_GREY}m{clock}\033[0m \033[{colour}m{mark} {text}\033[0m"


def gist(frame: Frame) -> str:
    """What somebody who watches wants to know of a frame, without line breaks or control characters."""
    data = frame.get("data")
    if not isinstance(data, dict):
        return "" if data is None else printable(_json(data))
    if frame.get("type") == "error":
        return printable(_error(data))
    message = data.get("message") if isinstance(data.get("message"), dict) else data
    if isinstance(data.get("conversations"), dict):
        return printable(_positions(data["conversations"]))
    if isinstance(message, dict) and isinstance(message.get("content"), dict) and "sender" in message:
        return printable(_message(message))
    return printable(" ".join(_pairs(data)))


def _message(message: Frame) -> str:
    sender = message["sender"] or {}
    text = message["content"].get("text")
    said = _json(text) if isinstance(text, str) else f"{message.get('type')} {_json(message['content'])}"
    where = message.get("conversationExternalId") or message.get("conversationId")
    name = sender.get("displayName") or sender.get("externalUserId") or "somebody"
    return f"{name}: {said} in={where} messageId={message.get('id')}"


def _positions(conversations: Frame) -> str:
    """Of `resume`, where the values are seqs, and of what came of it."""
    shown = []
    for name, value in list(conversations.items())[:MOST_POSITIONS]:
        if not isinstance(value, dict):
            shown.append(f"{name}={_json(value)}")
        elif value.get("complete"):
            shown.append(f"{name}={value.get('seq')} complete")
        else:
            start = f", begins at {value['truncatedBefore']}" if "truncatedBefore" in value else ""
            shown.append(f"{name}={value.get('seq')} {value.get('reason')}{start}")
    more = len(conversations) - len(shown)
    return "; ".join([*shown, f"and {more} more"] if more else shown) or "nothing"


def _error(data: Frame) -> str:
    details = data.get("details") or {}
    fields = [f"{field['pointer']} {field['message']}" for field in details.get("fields", ())]
    others = [f"{key}={_json(value)}" for key, value in details.items() if key != "fields"]
    again = "retryable" if data.get("retryable") else ""
    return " ".join(filter(None, [f"{data.get('code')}: {data.get('message')}", "; ".join(fields), *others, again]))


def _pairs(data: Frame) -> Iterator[str]:
    for key, value in data.items():
        if key == "conversationId":
            yield f"in={data.get('conversationExternalId') or value}"
        elif key == "userId":
            yield f"user={data.get('externalUserId') or value}"
        elif key not in _LEFT_OUT and value is not None:
            yield f"{key}={value if isinstance(value, str) and value.isalnum() else _json(value)}"


def _without_secrets(frame: Frame) -> Frame:
    if frame.get("type") != "authenticate" or not isinstance(frame.get("data"), dict):
        return frame
    shown = {
        key: f"{value[:_KEPT_OF_SECRETS]}…" if key in {"apiKey", "token"} and isinstance(value, str) else value
        for key, value in frame["data"].items()
    }
    return {**frame, "data": shown}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def printable(text: str) -> str:
    """The text with what could move the cursor, or turn the reading direction, written as an escape: other people's
    words reach this terminal."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _cut(text: str, cells: int) -> str:
    if get_cwidth(text) <= cells:
        return text
    used, kept = 1, []  # one for the ellipsis
    for character in text:
        used += get_cwidth(character)
        if used > cells:
            break
        kept.append(character)
    return "".join([*kept, "…"])
