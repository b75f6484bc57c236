"""Commands by POST: those of a user are done here, those about a stream by the process that has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import orjson

from messagecore.kernel import metrics
from messagecore.kernel.errors import Refusal, ServiceUnavailable
from messagecore.kernel.ids import find_uuid
from realtime.commands import OF_A_USER
from realtime.consumer import AlreadyAuthenticated, TooManyFrames
from realtime.fallback.exchange import Exchange
from realtime.fallback.house import house
from realtime.protocol import frames
from realtime.session import Errand
from realtime.visit import Identified, answered


class ConnectionNotFound(Refusal):
    code = "connection_not_found"


async def obey(who: Identified, commands: Sequence[Any], connection_id: str | None) -> list[Any]:
    """Does commands one after the other; an answer for each: the `ack` or `error` that the socket would give, or,
    without an `id`, its event, and an `ack` where it has none."""
    stream = _Stream(connection_id)
    return [orjson.Fragment(await _obey(who, command, stream)) for command in commands]


@dataclass(slots=True)
class _Stream:
    """The stream that commands are about."""

    connection_id: str | None
    is_silent: bool = False
    """Its process was asked, and did not answer: nobody waits for that again."""


async def _obey(who: Identified, command: Any, stream: _Stream) -> str:
    try:
        frame = frames.read(command)
    except frames.FrameRefused as refused:
        return frames.error(refused.refusal, refused.id)
    metrics.FRAMES_IN.labels(frame.type).inc()
    if not house().may_ask(who.caller.tenant.id, who.user_id):
        return frames.error(TooManyFrames(), frame.id)
    if frame.type == "authenticate":
        return frames.error(AlreadyAuthenticated(), frame.id)
    handler = OF_A_USER.get(frame.type)
    if handler is not None:
        errand = Errand(who.caller.tenant, who.user_id, who.external_user_id)
        return (await answered(frame, handler(errand, frame.data))).said
    try:
        return await _of_a_connection(who, frame, stream)
    except Refusal as refusal:
        return frames.error(refusal, frame.id)


async def _of_a_connection(who: Identified, frame: frames.Frame, stream: _Stream) -> str:
    connection = find_uuid(stream.connection_id or "")
    if connection is None:
        raise ConnectionNotFound
    if stream.is_silent:
        raise ServiceUnavailable
    process = str(connection)[-12:]
    request = {
        "connection": str(connection),
        "tenant": str(who.caller.tenant.id),
        "user": str(who.user_id),
        "frame": {"type": frame.type, "data": frame.data, "id": frame.id},
    }
    try:
        answer = await (perform(request) if process == house().process else exchange().ask(process, request))
    except ServiceUnavailable:
        stream.is_silent = True
        raise
    if answer["said"] is None:
        raise ConnectionNotFound
    said: str = answer["said"]
    return said


async def perform(request: dict[str, Any]) -> dict[str, Any]:
    """Here, where the stream is if it is anywhere; `said` is None where it is not, or is not this user's."""
    user = {"tenant_id": UUID(request["tenant"]), "user_id": UUID(request["user"])}
    visit = house().find(request["connection"], **user)
    if visit is None:
        return {"said": None}
    frame = frames.Frame(**request["frame"])
    return {"said": await visit.answer(frame)}


@cache
def exchange() -> Exchange:
    """This process's."""
    return Exchange(house().process, perform)
