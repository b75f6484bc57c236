"""uvicorn's HTTP protocol, held to what streams need, and telling of the process's end while there is time to answer.
Loaded before Django is."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WIRE_KEY = "messagecore.wire"
"""In a scope's `extensions`: the Wire of the request's connection."""

GIVE_UP_AFTER_S = 3.0
"""After the end of a stream, what the client did not take by then is thrown away."""

DEAD_AFTER_MS = 40_000
"""What a stream's client does not acknowledge for so long, it will not: with a heartbeat every 15 s a client that
vanished is noticed within a minute."""

_endings: list[Callable[[], None]] = []


def before_shutdown(act: Callable[[], None]) -> None:
    """Calls `act`, on the loop and once for each open connection, when the process was told to end: before it waits
    for what is under way. The lifespan's own end comes after that."""
    _endings.append(act)


class Wire(Protocol):
    """A request's connection, as far as ASGI does not let one at it."""

    def notice_a_dead_peer(self) -> None: ...
    def hurry(self) -> None: ...
    def give_up_soon(self) -> None: ...
    def abort(self) -> None: ...


class HttpTransport(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {WIRE_KEY: self}

    def shutdown(self) -> None:
        for act in _endings:
            act()
        super().shutdown()

    def notice_a_dead_peer(self) -> None:
        """Lets TCP give up on a peer that acknowledges nothing, where the system knows how: by itself it would try for
        a quarter of an hour."""
        found = self.transport.get_extra_info("socket")
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if found is not None and option is not None:
            with suppress(OSError):  # it is gone
                found.setsockopt(socket.IPPROTO_TCP, option, DEAD_AFTER_MS)

    def hurry(self) -> None:
        """From now on nobody waits for the peer to read."""
        self.flow.resume_writing()

    def give_up_soon(self) -> None:
        self.loop.call_later(GIVE_UP_AFTER_S, self.transport.abort)

    def abort(self) -> None:
        self.transport.abort()
