"""uvicorn's WebSocket protocol, held to what we promise of sockets: a client that does not read or does not answer is
let go of in time, nothing that a client sends is an exception in the log, and every close says why."""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, Frame, Opcode

from realtime.protocol import frames

GIVE_UP_AFTER_S = 3.0
"""After a close, what the client did not take by then is thrown away."""

BAD_FRAMES, RESTARTING = 4013, 1012
TOO_BIG = 1009


class SocketTransport(WebSocketsSansIOProtocol):
    """Knows ASGI messages with `urgent`: they do not wait for the client to read what came before."""

    _giving_up: asyncio.TimerHandle | None = None

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

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._give_up_soon()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.transport.write(_text(frames.disconnecting(RESTARTING, "the server is restarting", reconnect=True)))
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
        self.transport.write(_text(frames.disconnecting(BAD_FRAMES, reason, reconnect=False)))
        self.transport.write(Frame(Opcode.CLOSE, Close(BAD_FRAMES, reason).serialize()).serialize(mask=False))
        self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": BAD_FRAMES, "reason": reason})
        self.close_timer = self.loop.call_later(GIVE_UP_AFTER_S, self.transport.close)

    def _refuse_handshake(self) -> None:
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.transport.close()

    def _give_up_soon(self) -> None:
        if not self.disconnected and self._giving_up is None:
            self._giving_up = self.loop.call_later(GIVE_UP_AFTER_S, self.transport.abort)


def _text(frame: str) -> bytes:
    return Frame(Opcode.TEXT, frame.encode()).serialize(mask=False)
