"""Frames: `{"type", "data", "id"?}` as JSON text, held to the catalogue in both directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from messagecore.kernel import catalogue, validation, wire
from messagecore.kernel.errors import FieldError, InvalidJson, Refusal, ValidationFailed

FrameId = str | int | None


class MalformedFrame(Refusal):
    code = "malformed_frame"


class UnknownType(Refusal):
    code = "unknown_type"


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
        raise FrameRefused(refusal, None) from None
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


def _id_of(value: Any) -> FrameId:
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str | int) and not isinstance(found, bool) and len(str(found)) <= 64 else None


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
