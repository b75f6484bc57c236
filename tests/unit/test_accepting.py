"""Clients are taken in a few at a time, all of them, and whoever is there already has every turn between."""

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from messagecore import accepting
from messagecore.accepting import AT_ONCE, Listener, Loop


class Greeter(asyncio.Protocol):
    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Greeter.made += 1
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"hello " + data)
        self.transport.close()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    Greeter.made = 0
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work())


def connect(port: int, host: str = "127.0.0.1", *, says: bytes = b"you") -> socket.socket:
    client = socket.create_connection((host, port), timeout=10)
    client.sendall(says)
    return client


async def greeting(client: socket.socket) -> bytes:
    received = await asyncio.to_thread(client.recv, 100)
    client.close()
    return received


def test_a_crowd_is_taken_in_a_few_a_turn() -> None:
    async def work() -> None:
        listener = await Loop.create_server(asyncio.get_running_loop(), Greeter, "127.0.0.1", 0, backlog=256)  # type: ignore[arg-type]
        port = listener.sockets[0].getsockname()[1]
        clients = [connect(port) for _ in range(100)]  # they wait in the system's queue
        most = before = 0
        while Greeter.made < len(clients):
            await asyncio.sleep(0)
            most, before = max(most, Greeter.made - before), Greeter.made
        assert 1 <= most <= AT_ONCE
        assert [await greeting(client) for client in clients] == [b"hello you"] * 100
        listener.close()
        await listener.wait_closed()

    run(work)


def test_who_says_nothing_holds_up_nobody_and_is_let_go_at_the_end() -> None:
    async def work() -> None:
        listener = await asyncio.get_running_loop().create_server(Greeter, "127.0.0.1", 0, backlog=256)
        port = listener.sockets[0].getsockname()[1]
        silent = [await asyncio.to_thread(connect, port, says=b"") for _ in range(50)]
        silent.pop().close()
        client = await asyncio.to_thread(connect, port)
        assert await greeting(client) == b"hello you"
        await asyncio.to_thread(silent[0].sendall, b"late")
        assert await greeting(silent.pop(0)) == b"hello late"
        assert Greeter.made <= 3
        listener.close()
        assert [await greeting(client) for client in silent] == [b""] * 48

    run(work)


def test_closed_means_closed() -> None:
    async def work() -> None:
        listener = await asyncio.get_running_loop().create_server(Greeter, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            connect(port)

    run(work)


def test_an_address_in_use_is_an_error() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(Greeter, "127.0.0.1", 0)
        with pytest.raises(OSError, match="in use") as raised:
            await loop.create_server(Greeter, "127.0.0.1", listener.sockets[0].getsockname()[1])
        assert raised.value.errno == errno.EADDRINUSE
        listener.close()

    run(work)


def test_a_socket_of_the_parent_process_and_ipv6() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        listeners = [await loop.create_server(Greeter, sock=bound, backlog=16)]
        if socket.has_ipv6:
            listeners.append(await loop.create_server(Greeter, "::1", 0))
        for listener, host in zip(listeners, ("127.0.0.1", "::1"), strict=False):
            client = await asyncio.to_thread(connect, listener.sockets[0].getsockname()[1], host)
            assert await greeting(client) == b"hello you"
            listener.close()

    run(work)


class Scarce:
    """A listening socket of a process that has no file descriptors left, for a while."""

    def __init__(self, listening: socket.socket, errors: list[OSError]) -> None:
        self._listening = listening
        self._errors = errors

    def accept(self) -> Any:
        if self._errors:
            raise self._errors.pop()
        return self._listening.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


@pytest.mark.logs_errors
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED])
def test_who_cannot_be_taken_in_now_is_later(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PAUSE_S", 0.05)

    async def work() -> None:
        scarce: Any = Scarce(socket.create_server(("127.0.0.1", 0)), [OSError(error, "scarce") for _ in range(3)])
        listener = Listener(asyncio.get_running_loop(), scarce, Greeter)
        listener.start(16)
        client = await asyncio.to_thread(connect, scarce.getsockname()[1])
        assert await greeting(client) == b"hello you"
        listener.close()

    run(work)
