"""Taking clients in a few at a time. When thousands come at once, asyncio's servers accept all that the system holds
before anything else happens, and then read what all of them say; whoever is connected waits for seconds. Here the
others wait, in the system's queue and then without being read, for the next turns of the loop."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from messagecore.kernel.turns import Turns

logger = logging.getLogger(__name__)

AT_ONCE = 8
"""Connections accepted in one turn of the loop, and as many read for the first time: about 1 ms of work, and 5 ms for
their handshakes."""

PAUSE_S = 1.0
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener:
    """A listening socket: as much of an asyncio.Server as uvicorn asks for. For protocols in which clients speak first:
    a protocol is made when there is something to read."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self.sockets = [listening]
        self._loop = loop
        self._listening = listening
        self._make_protocol = make_protocol
        self._silent: set[socket.socket] = set()
        self._turns = Turns(AT_ONCE)
        self._opening: set[asyncio.Task[Any]] = set()
        self._again: asyncio.TimerHandle | None = None

    def start(self, backlog: int) -> None:
        self._listening.setblocking(False)
        self._listening.listen(backlog)
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._listening.fileno() != -1:
            self._loop.remove_reader(self._listening)
            self._listening.close()
        for client in self._silent:
            self._loop.remove_reader(client)
            client.close()
        self._silent.clear()

    async def wait_closed(self) -> None:
        """Who was accepted is waited for by uvicorn itself."""

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # gone before its turn
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                logger.error("no client can be taken in for %.0f s: %s", PAUSE_S, error)
                self._loop.remove_reader(self._listening)
                self._again = self._loop.call_later(PAUSE_S, self._loop.add_reader, self._listening, self._accept)
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._silent.add(accepted)
            self._loop.add_reader(accepted, self._hear, accepted)

    def _hear(self, accepted: socket.socket) -> None:
        """There is something to read, or the client is gone."""
        self._loop.remove_reader(accepted)
        self._silent.discard(accepted)
        opening = self._loop.create_task(self._open(accepted))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        await self._turns.mine()
        if self._listening.fileno() == -1:
            accepted.close()
            return
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, accepted)
        except OSError as error:
            accepted.close()
            logger.info("a client was gone before it was taken in: %s", error)


class Loop(uvloop.Loop):
    """uvloop's, listening with a Listener. What uvicorn is told to run on (messagecore.server)."""

    async def create_server(  # type: ignore[override]  # as uvicorn calls it, and for plain TCP
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: socket.socket | None = None,
        ssl: None = None,
        backlog: int = 100,
    ) -> Listener:
        """Raises OSError where the address cannot be had."""
        assert ssl is None, "TLS ends in front of us"
        if sock is None:
            family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
            sock = socket.create_server((host or "", port or 0), family=family, backlog=backlog)
        listener = Listener(self, sock, protocol_factory)
        listener.start(backlog)
        return listener
