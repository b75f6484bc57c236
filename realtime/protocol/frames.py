"""Frames: `{"type", "data", "id"?}` as JSON text, held to the catalogue in both directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from messagecore.kernel import catalogue, validation, wire
from messagecore.kernel.errors import FieldError, InvalidJson, Refusal, ValidationFailed
from realtime.protocol.closing import CloseCode

FrameId = str | int | None


class MalformedFrame(Refusal):
    code = "malformed_frame"


class UnknownType(Refusal):
    code = "unknown_type"


class FrameTooLarge(Refusal):
    code = "frame_too_large"


@dataclass(frozen=True, slots=True)
class Frame:
    """A command as a client sent it; `data` is valid for its type, nulls at its top removed."""

    type: str
    data: dict[str, Any]
    id: FrameId


@dataclass(frozen=True, slots=True)
class FrameRefused(Exception):
    """A frame that is not a command. `id` is its id where one could be read, so that the error finds its sender."""

    refusal: Refusal
    id: FrameId

    @property
    def is_malformed(self) -> bool:
        """Whether it counts towards the limit of malformed frames; a well-formed frame with wrong data does not."""
        return isinstance(self.refusal, MalformedFrame)


def parse(text: str) -> Frame:
    """The command in `text`. Raises FrameRefused."""
    try:
        value = wire.loads(text)
    except InvalidJson as refusal:
        raise FrameRefused(MalformedFrame(refusal.message), None) from None
    except ValidationFailed as refusal:
        raise FrameRefused(refusal, find_id(text)) from None
    return read(value)


def read(value: Any) -> Frame:
    """The command in parsed JSON. Raises FrameRefused."""
    try:
        validation.validate("ClientFrame", value)
    except ValidationFailed as refusal:
        raise FrameRefused(MalformedFrame(details=refusal.details), _id_of(value)) from None
    frame_id: FrameId = value.get("id")
    command = catalogue.commands().get(value["type"])
    if command is None:
        raise FrameRefused(UnknownType(), frame_id)
    data = value.get("data")
    if data is None:
        data = {}
    try:
        validation.validate(command["schema"], data)
    except ValidationFailed as refusal:
        fields = [FieldError(f"/data{field.pointer}", field.message) for field in refusal.fields]
        raise FrameRefused(ValidationFailed(fields), frame_id) from None
    return Frame(value["type"], validation.without_nulls(data), frame_id)


def find_id(text: str) -> FrameId:
    """The id in a frame that is refused whatever else it says; None where none can be read. Cheaper than `parse`."""
    try:
        return _id_of(orjson.loads(text))
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None


def _id_of(value: Any) -> FrameId:
    """The frame's id, if it is one that an answer may carry back."""
    found = value.get("id") if isinstance(value, dict) else None
    if isinstance(found, str) and 1 <= len(found) <= 64:
        return found
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**53:
        return found
    return None


def event(type_: str, data: Mapping[str, Any]) -> str:
    """An event's frame. Encoded once; the same text goes to every socket."""
    return wire.dumps({"type": type_, "data": data}).decode()


def ack(frame_id: FrameId, data: Mapping[str, Any]) -> str:
    return wire.dumps({"type": "ack", "id": frame_id, "data": data}).decode()


def error(refusal: Refusal, frame_id: FrameId) -> str:
    frame: dict[str, Any] = {
        "type": "error",
        "data": {
            "code": refusal.code,
            "message": refusal.message,
            "retryable": refusal.retryable,
            "details": refusal.details,
        },
    }
    if frame_id is not None:
        frame["id"] = frame_id
    return wire.dumps(frame).decode()


def disconnecting(code: CloseCode, reason: str, *, reconnect_after_ms: int | None = None) -> str:
    data: dict[str, Any] = {"code": int(code), "reason": reason, "reconnect": code.reconnect}
    if reconnect_after_ms is not None:
        data["reconnectAfterMs"] = reconnect_after_ms
    return event("disconnecting", data)


def event_hidden(conversation_id: UUID, external_id: str | None, seq: int) -> str:
    """Stands in for an event that its reader may not see."""
    data = {"conversationId": str(conversation_id), "conversationExternalId": external_id, "seq": seq}
    return event("event_hidden", data)


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """What a durable event of a log says of who is in the conversation."""

    user_id: UUID
    added: bool
    data: Mapping[str, Any]


_MEMBERSHIP_EVENTS = tuple(f'{{"type":"{name}"' for name in ("participant_added", "participant_removed"))


def find_membership_change(frame: str) -> MembershipChange | None:
    """What an event's frame, as `event` wrote it, changes in who is in; None for every other frame, at the cost of
    looking at its first letters, and for a user who is gone."""
    if not frame.startswith(_MEMBERSHIP_EVENTS):
        return None
    read = orjson.loads(frame)
    user_id = read["data"]["userId"]
    return None if user_id is None else MembershipChange(UUID(user_id), read["type"].endswith("added"), read["data"])


def conversation_removed(data: Mapping[str, Any]) -> str:
    """The frame for whom a `participant_removed` is about, from its data."""
    names = ("conversationId", "conversationExternalId", "reason", "timestamp")
    return event("conversation_removed", {name: data[name] for name in names})
