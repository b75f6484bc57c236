"""uvicorn's WebSocket protocol, held to what we promise of sockets: a client that does not read or does not answer is
let go of in time, nothing that a client sends is an exception in the log, and every close says why."""

import asyncio
import random
import struct
from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, Frame, Opcode

from realtime.protocol import frames
from realtime.protocol.closing import CloseCode

FINISH_WITHIN_S = 5.0
"""When the process ends: a command that is being done has this long."""

GIVE_UP_AFTER_S = 3.0
"""After a close, what the client did not take by then is thrown away."""

TOO_BIG = 1009


SCOPE_KEY = "messagecore.socket"
"""In a scope's `extensions`: the SocketTransport of the connection, for who writes past ASGI's `send`."""

RECONNECTS_PER_SECOND = 500
"""How fast the clients of a process that ends are told to come back to the others."""


class SocketTransport(WebSocketsSansIOProtocol):
    """Knows ASGI messages with `urgent`: they do not wait for the client to read what came before."""

    _giving_up: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue: Any = Inbox()

    def write_now(self, texts: Sequence[str]) -> bool:
        """Writes text frames at once, unless the client is behind or gone: then False, and nothing was done."""
        if self.disconnected or self.close_sent or not self.writable.is_set():
            return False
        if self.conn.extensions:
            for text in texts:
                self.conn.send_text(text.encode())
            self.transport.write(b"".join(self.conn.data_to_send()))
        elif len(texts) == 1:
            self.transport.write(_serialized(texts[0]))
        else:
            self.transport.write(b"".join(map(_text, texts)))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated and not data.partition(b"\r\n")[0].isascii():
            self._refuse_handshake()  # uvicorn would raise on such an address
        elif self.conn.parser_exc is None:
            super().data_received(data)

    async def send(self, message: Any) -> None:
        if message.pop("urgent", False):
            self.writable.set()
        await super().send(message)
        if message["type"] == "websocket.accept":
            # Nobody asks for the handshake again, and idle connections are many.
            del self.request, self.response

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = cast("dict[str, Any]", self.scope["extensions"])
        extensions[SCOPE_KEY] = self
        await super().run_asgi()
        self._give_up_soon()

    def shutdown(self) -> None:
        """The process is to end: the application finishes what it is doing, says so to the client, and closes. What
        takes too long is closed without it."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()
        elif self._giving_up is None:
            spread_ms = 1000 * len(self.connections) // RECONNECTS_PER_SECOND
            after_ms = random.randint(0, max(1000, spread_ms))  # noqa: S311 - to spread clients
            self.queue.put_nowait({"type": "websocket.restarting", "reconnect_after_ms": after_ms})
            self._giving_up = self.loop.call_later(FINISH_WITHIN_S, self._close_unfinished)

    def _close_unfinished(self) -> None:
        self._giving_up = None
        if not self.close_sent and not self.disconnected:
            super().shutdown()
        self._give_up_soon()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # With its buffers full a dead client would otherwise be kept until TCP gives up, a quarter of an hour later.
        self._give_up_soon()

    def send_receive_event_to_app(self) -> None:
        """Text that is not UTF-8 goes to the application as the bytes that it is, to be answered like any other
        malformed frame."""
        if self.curr_msg_data_type == "text":
            data = b"".join(self.frames)
            try:
                data.decode()
            except UnicodeDecodeError:
                self.curr_msg_data_type = "bytes"
            self.frames = [data]
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """A message above the limit is told to be one, and what still comes of it is read and thrown away: a client
        that is busy sending would lose our answer if we closed on it."""
        assert self.conn.close_sent is not None
        if self.conn.close_sent.code != TOO_BIG:
            super().handle_parser_exception()
            self._give_up_soon()
            return
        self.conn.data_to_send()
        reason = "frame too large"
        self.transport.write(_text(frames.error(frames.FrameTooLarge(), None)))
        self.transport.write(_text(frames.disconnecting(CloseCode.BAD_FRAMES, reason)))
        self.transport.write(Frame(Opcode.CLOSE, Close(CloseCode.BAD_FRAMES, reason).serialize()).serialize(mask=False))
        self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.BAD_FRAMES, "reason": reason})
        self.close_timer = self.loop.call_later(GIVE_UP_AFTER_S, self.transport.close)

    def _refuse_handshake(self) -> None:
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.transport.close()

    def _give_up_soon(self) -> None:
        if not self.disconnected and self._giving_up is None:
            self._giving_up = self.loop.call_later(GIVE_UP_AFTER_S, self.transport.abort)


class Inbox:
    """asyncio.Queue as far as it is needed here, for one reader, without its four deques."""

    __slots__ = ("_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._waiter: asyncio.Future[None] | None = None

    def put_nowait(self, message: Any) -> None:
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Any:
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.pop(0)

    def empty(self) -> bool:
        return not self._messages


_last_serialized = ("", b"")


def _serialized(frame: str) -> bytes:
    """An event goes to many sockets, one after the other: the bytes of the last frame are kept."""
    global _last_serialized  # noqa: PLW0603 - a cache of one
    if _last_serialized[0] is not frame:
        _last_serialized = (frame, _text(frame))
    return _last_serialized[1]


def _text(frame: str) -> bytes:
    """A whole, unmasked text frame (RFC 6455, 5.2). `Frame.serialize` says the same in five times the time."""
    data = frame.encode()
    length = len(data)
    if length < 126:
        head = struct.pack("!BB", 0x81, length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x81, 126, length)
    else:
        head = struct.pack("!BBQ", 0x81, 127, length)
    return head + data
