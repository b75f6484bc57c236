"""Files through the server's own HTTP handler: in pieces, without a length, too large, cut off, slow."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.files.storage import storages
from django.db import connection

from messagecore.http import ThreadedHandler
from messaging.tasks import sweep_removals
from tests.accounts import Account
from tests.api import fits
from tests.files import stored
from tests.snapshots import contents

MIB = 1024 * 1024
PIECE = bytes(range(256)) * 256


class Client:
    """One request as a server hands it over: what the client sends when it is asked, and what it is sent."""

    def __init__(self, handler: ThreadedHandler, key: str) -> None:
        self.handler, self.key = handler, key
        self.received: list[dict[str, Any]] = []
        self.pieces_taken = 0
        self.taken_before_the_answer = 0
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.largest_piece = self.bytes_received = 0
        self.keeps = True
        self.opened = False

    async def ask(
        self, method: str, path: str, pieces: Iterable[bytes] = (), *, ends: str = "whole", **headers: str
    ) -> int | None:
        """The status of the answer, None if there is none. `ends`: `whole`, `cut` (the client goes away), `hangs`."""
        waiting = iter([*self._messages(pieces, ends)]) if not isinstance(pieces, Endless) else pieces.messages()

        async def receive() -> dict[str, Any]:
            self.pieces_taken += 1
            if not self.received:
                self.taken_before_the_answer += 1
            message = next(waiting, None)
            if message is None:
                await asyncio.sleep(3600)
            assert message is not None
            return message

        async def send(message: dict[str, Any]) -> None:
            self.opened = True
            await self.may_read.wait()
            body = message.get("body", b"")
            self.largest_piece = max(self.largest_piece, len(body))
            self.bytes_received += len(body)
            self.received.append(message if self.keeps else {**message, "body": b""})

        route, _, query = path.partition("?")
        named = {"x-api-key": self.key} | {name.replace("_", "-").lower(): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "method": method,
            "path": f"/api/v1{route}",
            "raw_path": f"/api/v1{route}".encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in (named | {"host": "localhost"}).items()],
            "client": ("127.0.0.1", 1),
        }
        await self.handler(scope, receive, send)
        return self.received[0]["status"] if self.received else None

    @staticmethod
    def _messages(pieces: Iterable[bytes], ends: str) -> Iterable[dict[str, Any]]:
        for piece in pieces:
            yield {"type": "http.request", "body": piece, "more_body": True}
        if ends == "cut":
            yield {"type": "http.disconnect"}
        elif ends == "whole":
            yield {"type": "http.request", "body": b"", "more_body": False}

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.received[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.received[1:])

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]

    def is_refused(self, code: str) -> None:
        assert not self.received[-1].get("more_body", False)
        fits("Failure", json.loads(self.body))
        assert json.loads(self.body)["error"]["code"] == code


class Endless:
    """A body that never ends; each piece is made when it is asked for."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count

    def messages(self) -> Iterable[dict[str, Any]]:
        made = 0
        while self.count is None or made < self.count:
            made += 1
            yield {"type": "http.request", "body": PIECE, "more_body": made != self.count}


@pytest.fixture
async def handler(committed_tenant: Account, folder: Path, settings: Any) -> AsyncIterator[ThreadedHandler]:
    """With one thread for requests: what holds it holds everything."""
    settings.WEB_THREADS = 1
    handler = ThreadedHandler()
    yield handler
    await sync_to_async(_end_threads, thread_sensitive=False)(handler)


def _end_threads(handler: ThreadedHandler) -> None:
    handler._threads.submit(lambda: connection.close()).result(10)  # noqa: PLW0108 - that thread's own connection
    for pool in (handler._threads, handler._files):
        pool.shutdown()


@pytest.fixture
def client(handler: ThreadedHandler, committed_tenant: Account) -> Client:
    return Client(handler, committed_tenant.secret_key)


def another(client: Client) -> Client:
    return Client(client.handler, client.key)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is nobody's to announce
            await asyncio.sleep(0.01)


async def state(account: Account) -> Any:
    def read() -> Any:
        try:
            return contents(account)
        finally:
            connection.close()

    return await sync_to_async(read, thread_sensitive=False)()


@pytest.mark.parametrize("pieces", [[b"x"], [b"", b"x", b""], [b"x"] * 1000, [PIECE] * 40, [PIECE * 30]])
async def test_a_body_in_pieces_without_a_length_is_taken(client: Client, folder: Path, pieces: list[bytes]) -> None:
    assert await client.ask("POST", "/files?name=a.bin", pieces) == 201
    whole = b"".join(pieces)
    assert client.data["sizeBytes"] == len(whole)
    assert [(folder / key).read_bytes() for key in stored(folder)] == [whole]
    reader = another(client)
    assert await reader.ask("GET", f"/files/{client.data['id']}/content") == 200
    assert reader.body == whole
    assert reader.headers["content-length"] == str(len(whole))
    assert reader.largest_piece <= 65_536


async def test_no_file_is_ever_whole_in_memory(client: Client, folder: Path) -> None:
    tracemalloc.start()
    try:
        assert await client.ask("POST", "/files", Endless(320)) == 201
        _, up = tracemalloc.get_traced_memory()
        reader = another(client)
        reader.keeps = False
        tracemalloc.reset_peak()
        assert await reader.ask("GET", f"/files/{client.data['id']}/content") == 200
        _, down = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.bytes_received == 20 * MIB
    assert up < 6 * MIB, "what Django itself takes at the first request is in it"
    assert down < 6 * MIB


async def test_a_length_over_the_limit_is_refused_before_anything_is_read(
    client: Client, folder: Path, committed_tenant: Account
) -> None:
    before = await state(committed_tenant)
    assert await client.ask("POST", "/files", Endless(), content_length=str(25 * MIB + 1)) == 413
    assert client.taken_before_the_answer == 0
    client.is_refused("payload_too_large")
    assert client.headers["connection"] == "close"
    assert client.pieces_taken * len(PIECE) <= 33 * MIB, "a client that goes on sending is not listened to for ever"
    assert (await state(committed_tenant), stored(folder)) == (before, [])


async def test_a_body_over_the_limit_is_refused_whatever_its_length_says(
    client: Client, folder: Path, committed_tenant: Account
) -> None:
    before = await state(committed_tenant)
    assert await client.ask("POST", "/files", Endless(401), content_length="7") == 413
    client.is_refused("payload_too_large")
    endless = another(client)
    assert await endless.ask("POST", "/files", Endless()) == 413
    endless.is_refused("payload_too_large")
    assert (await state(committed_tenant), stored(folder)) == (before, [])
    exact = another(client)
    assert await exact.ask("POST", "/files", Endless(400)) == 201
    assert exact.data["sizeBytes"] == 25 * MIB


@pytest.mark.parametrize("length", ["-1", "x", "", "9" * 30, "1e3"])
async def test_a_length_that_is_none_is_no_fault(client: Client, folder: Path, length: str) -> None:
    assert await client.ask("POST", "/files", [b"x"], content_length=length) in {201, 400, 413}


@pytest.mark.parametrize("pieces", [[], [b"x"], [PIECE] * 40])
async def test_an_upload_that_is_cut_off_leaves_nothing(
    client: Client, folder: Path, committed_tenant: Account, pieces: list[bytes]
) -> None:
    before = await state(committed_tenant)
    assert await client.ask("POST", "/files", pieces, ends="cut", content_length=str(10 * MIB)) is None
    assert client.received == []
    assert (await state(committed_tenant), stored(folder)) == (before, [])
    assert client.handler._uploads == 0


async def test_an_upload_that_stalls_is_given_up(client: Client, folder: Path, settings: Any) -> None:
    settings.UPLOAD_IDLE_SECONDS = 0.1
    assert await client.ask("POST", "/files", [PIECE] * 9, ends="hangs") == 400
    client.is_refused("bad_request")
    assert client.headers["connection"] == "close"
    assert stored(folder) == []


async def test_slow_clients_hold_no_thread(client: Client, folder: Path, settings: Any) -> None:
    settings.MAX_UPLOADS_AT_ONCE = 2
    slow = [another(client) for _ in range(2)]
    uploads = [asyncio.create_task(one.ask("POST", "/files", [PIECE] * 9, ends="hangs")) for one in slow]
    await until(lambda: client.handler._uploads == 2)
    refused = another(client)
    assert await refused.ask("POST", "/files", [b"x"]) == 503
    refused.is_refused("service_unavailable")
    other = another(client)
    async with asyncio.timeout(20):
        assert await other.ask("GET", "/usage") == 200
    for upload in uploads:
        upload.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)
    assert client.handler._uploads == 0

    assert await client.ask("POST", "/files", [PIECE] * 40) == 201
    readers = [another(client) for _ in range(8)]
    for reader in readers:
        reader.may_read.clear()
    downloads = [asyncio.create_task(one.ask("GET", f"/files/{client.data['id']}/content")) for one in readers]
    again = another(client)
    async with asyncio.timeout(20):
        assert await again.ask("GET", "/usage") == 200
    assert not any(download.done() for download in downloads)
    for reader in readers:
        reader.may_read.set()
    assert await asyncio.gather(*downloads) == [200] * 8
    assert {reader.body for reader in readers} == {PIECE * 40}


async def test_a_reader_that_goes_away_closes_the_file(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await client.ask("POST", "/files", [PIECE] * 40) == 201
    opened: list[Any] = []
    backend = storages["default"]
    open_as_before = backend.open

    def remember(*arguments: Any) -> Any:
        opened.append(open_as_before(*arguments))
        return opened[-1]

    monkeypatch.setattr(backend, "open", remember)
    reader = another(client)
    reader.may_read.clear()
    download = asyncio.create_task(reader.ask("GET", f"/files/{client.data['id']}/content"))
    await until(lambda: opened)
    download.cancel()
    await asyncio.gather(download, return_exceptions=True)
    assert [file.closed for file in opened] == [True]


async def test_deleting_while_somebody_reads_takes_nothing_from_them(client: Client, folder: Path) -> None:
    assert await client.ask("POST", "/files", [PIECE] * 40) == 201
    reader = another(client)
    reader.may_read.clear()
    download = asyncio.create_task(reader.ask("GET", f"/files/{client.data['id']}/content"))
    await until(lambda: reader.opened)
    assert await another(client).ask("DELETE", f"/files/{client.data['id']}") == 200

    def sweep() -> None:
        sweep_removals()
        connection.close()

    await sync_to_async(sweep, thread_sensitive=False)()
    assert stored(folder) == []
    reader.may_read.set()
    assert await download == 200
    assert reader.body == PIECE * 40
