"""A connection as an event stream (Server-Sent Events): the socket's frames, one in each event's `data`."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from messagecore.kernel.api.later import Line
from realtime.connection import Connection
from realtime.fallback.house import house
from realtime.process import queued_bytes
from realtime.protocol import frames
from realtime.visit import Identified, Visit

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
HEARTBEAT_S = 15
"""Proxies commonly cut what was silent for 30 or 60 s."""

WRITE_WITHIN_S = 60.0
RECONNECT_AFTER_MS = (1000, 4000)
"""An `EventSource` that lost the connection comes back by itself, after a time in here that is its own."""

HEARTBEAT = ""
"""Stands for a comment among the frames of a stream, so that it keeps its place behind them."""


class StreamWriter:
    """A Connection's `send`, over a stream."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def send(self, message: dict[str, Any]) -> None:
        """Raises TimeoutError for a client that takes nothing for WRITE_WITHIN_S; it is cut off."""
        if message.get("urgent"):
            self._line.hurry()
        try:
            async with asyncio.timeout(WRITE_WITHIN_S):
                if message["type"] == "websocket.close":
                    await self._line.end()
                else:
                    text = message["text"]
                    await self._line.write(b":\n\n" if text == HEARTBEAT else f"data: {text}\n\n".encode())
        except TimeoutError:
            self._line.abort()
            raise


async def stream(who: Identified, held: Mapping[str, int] | None, looking_at: Sequence[str], line: Line) -> None:
    """Serves a connection until it ends on either side. `held`: resume, from there; `looking_at`: join.

    Raises TooManyConnections, ConnectionQuotaExceeded, RateLimited, ServiceUnavailable, DatabaseError before anything
    is sent.
    """
    house().check_opening(who.user_id)
    connection = Connection(
        house().new_connection_id(),
        StreamWriter(line).send,
        max_frames=settings.SOCKET_MAX_QUEUED_FRAMES,
        max_bytes=settings.SOCKET_MAX_QUEUED_BYTES,
        together=queued_bytes(),
    )
    visit = Visit(connection)
    with house().place(visit):
        try:
            opened = await visit.enter(who) | {"heartbeatSeconds": HEARTBEAT_S}
            await line.start_stream(HEADERS)
            await line.write(b"retry: %d\n\n" % random.randint(*RECONNECT_AFTER_MS))  # noqa: S311 - to spread clients
            connection.open(frames.event("authenticated", opened))
            if held is None:
                visit.hold_back()
            else:
                await visit.handle(frames.Frame("resume", {"conversations": dict(held)}, None))
            for any_id in looking_at:
                await visit.handle(frames.Frame("join_conversation", {"conversationId": any_id}, None))
            await _until_it_ends(connection, line)
        finally:
            await visit.leave()


async def _until_it_ends(connection: Connection, line: Line) -> None:
    """With a heartbeat now and then; what is behind others in the queue says as much."""
    ended: asyncio.Future[Any] = asyncio.ensure_future(connection.ended.wait())
    either = {ended, line.gone}
    try:
        while not (ended.done() or line.gone.done()):
            await asyncio.wait(either, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if not (ended.done() or line.gone.done()):
                connection.put(HEARTBEAT, ephemeral=True)
    finally:
        ended.cancel()
