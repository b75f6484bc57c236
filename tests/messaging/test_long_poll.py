"""`/events?wait=`: who waits holds nothing, hears of what comes, and is let go. Through the server's own handler."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection
from django.utils import timezone

from messagecore import http, waiting
from messagecore.http import ThreadedHandler
from messagecore.waiting import WaitingRoom
from realtime.database import READERS, _readers
from tenants import feed
from tenants.models import ApiKey
from tenants.services.authentication import forget_cached_credentials
from tenants.services.keys import revoke_api_key
from tests.accounts import Account, draft, drop_account, open_test_account


class Request:
    """One GET of the feed, as the server hands it over; `leave` is the client going away."""

    def __init__(self, handler: ThreadedHandler, key: str, **query: Any) -> None:
        self.messages: list[dict[str, Any]] = []
        self._left = asyncio.Event()
        text = "&".join(f"{name}={value}" for name, value in query.items())
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/v1/events",
            "raw_path": b"/api/v1/events",
            "query_string": text.encode(),
            "headers": [(b"x-api-key", key.encode()), (b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
        }
        incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> dict[str, Any]:
            message = next(incoming, None)
            if message is None:
                await self._left.wait()
                return {"type": "http.disconnect"}
            return message

        async def send(message: dict[str, Any]) -> None:
            self.messages.append(message)

        self.task = asyncio.ensure_future(handler(scope, receive, send))

    def leave(self) -> None:
        self._left.set()

    @property
    def is_answered(self) -> bool:
        return bool(self.messages)

    async def answer(self) -> Any:
        async with asyncio.timeout(40):
            await self.task
        return json.loads(self.messages[1]["body"])

    async def status(self) -> int:
        await self.answer()
        return int(self.messages[0]["status"])


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> WaitingRoom:
    """The process's waiting room, new for this test, which looks around often."""
    made = WaitingRoom()
    monkeypatch.setattr(http, "waiting_room", lambda: made)
    monkeypatch.setattr(waiting, "LOOK_EVERY_S", 0.02)
    return made


@pytest.fixture
async def handler(committed_tenant: Account, settings: Any, room: WaitingRoom) -> AsyncIterator[ThreadedHandler]:
    """With one thread for requests: what holds it holds everything."""
    settings.WEB_THREADS = 1
    handler = ThreadedHandler()
    yield handler
    await asyncio.to_thread(_end_threads, handler)


def _end_threads(handler: ThreadedHandler) -> None:
    """Closes each thread's connection, so that the tenant can be dropped, and ends the threads that are the test's."""
    together = threading.Barrier(READERS)

    def close_reader() -> None:
        together.wait(10)
        connection.close()

    closed = [_readers().submit(close_reader) for _ in range(READERS)]
    closed.append(handler._threads.submit(lambda: connection.close()))  # noqa: PLW0108 - that thread's own connection
    for one in closed:
        one.result(10)
    handler._threads.shutdown()


async def run(work: Callable[[], Any]) -> Any:
    """On a thread of its own, with a connection that it does not leave behind."""

    def whole() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return await sync_to_async(whole, thread_sensitive=False)()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is nobody's to announce
            await asyncio.sleep(0.01)


class Scene:
    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.ada = tenant.user()
        self.room = tenant.conversation(self.ada)
        tenant.message(self.room, self.ada, "before")
        self.end: str = tenant.api.get("/events").pagination["nextCursor"]

    def say(self, text: str) -> None:
        answer = self.tenant.api.post("/messages/send", draft(self.room, self.ada, text))
        assert answer.status == 200, answer.body


@pytest.fixture
async def scene(committed_tenant: Account) -> Scene:
    made: Scene = await run(lambda: Scene(committed_tenant))
    return made


def texts(body: Any) -> list[str]:
    return [item["data"]["message"]["content"]["text"] for item in body["data"]]


async def test_who_waits_hears_of_what_comes(handler: ThreadedHandler, scene: Scene, room: WaitingRoom) -> None:
    waiting = Request(handler, scene.tenant.secret_key, after=scene.end, wait=25)
    await until(lambda: room._waiters)
    assert not waiting.is_answered
    await run(lambda: scene.say("hello"))
    body = await waiting.answer()
    assert texts(body) == ["hello"]
    assert body["pagination"] == {"nextCursor": body["data"][0]["cursor"], "hasMore": False}
    assert not room._waiters
    assert not room._parties


async def test_what_is_there_is_answered_at_once(handler: ThreadedHandler, scene: Scene, room: WaitingRoom) -> None:
    assert texts(await Request(handler, scene.tenant.secret_key, wait=25).answer()) == ["before"]
    latest = await Request(handler, scene.tenant.secret_key, after="latest", wait=25).answer()
    assert (latest["data"], latest["pagination"]["nextCursor"]) == ([], scene.end)
    assert room._looking is None


async def test_nothing_comes_and_the_time_is_over(handler: ThreadedHandler, scene: Scene) -> None:
    began = time.monotonic()
    body = await Request(handler, scene.tenant.secret_key, after=scene.end, wait=1).answer()
    assert time.monotonic() - began >= 1
    assert body == {"success": True, "data": [], "pagination": {"nextCursor": scene.end, "hasMore": False}}


async def test_who_waits_holds_no_thread(handler: ThreadedHandler, scene: Scene, room: WaitingRoom) -> None:
    """Twenty of them beside the only thread, which answers others."""
    everyone = [Request(handler, scene.tenant.secret_key, after=scene.end, wait=25) for _ in range(20)]
    await until(lambda: len(room._waiters) == 20)
    assert texts(await Request(handler, scene.tenant.secret_key).answer()) == ["before"]
    await run(lambda: scene.say("to all"))
    assert [texts(await one.answer()) for one in everyone] == [["to all"]] * 20


async def test_everyone_who_waits_is_looked_after_by_one_statement(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = feed.find_ahead

    def counting(positions: Any) -> Any:
        asked.append(len(positions))
        return real(positions)

    monkeypatch.setattr(feed, "find_ahead", counting)
    everyone = [Request(handler, scene.tenant.secret_key, after=scene.end, wait=25) for _ in range(10)]
    await until(lambda: len(room._waiters) == 10)
    asked.clear()
    await until(lambda: len(asked) >= 3)
    assert set(asked) == {1}, "they all wait behind the same place"
    room.close()
    assert [await one.answer() for one in everyone] == [await everyone[0].answer()] * 10


async def test_another_tenants_event_wakes_nobody(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom, committed_tenant: Account
) -> None:
    other = await run(open_test_account)
    try:
        theirs = await run(lambda: Scene(other))
        waiting = Request(handler, scene.tenant.secret_key, after=scene.end, wait=25)
        await until(lambda: room._waiters)
        (waiter,) = room._waiters
        hears = Request(handler, other.secret_key, after=theirs.end, wait=25)
        await until(lambda: len(room._waiters) == 2)
        await run(lambda: theirs.say("theirs"))
        assert texts(await hears.answer()) == ["theirs"]
        assert room._waiters == {waiter}
        assert not waiter.outcome.done()
        waiting.leave()
        await waiting.task
    finally:
        await run(lambda: drop_account(other))


async def test_a_client_that_goes_away_is_forgotten(handler: ThreadedHandler, scene: Scene, room: WaitingRoom) -> None:
    waiting = Request(handler, scene.tenant.secret_key, after=scene.end, wait=25)
    await until(lambda: room._waiters)
    waiting.leave()
    async with asyncio.timeout(10):
        await waiting.task
    assert waiting.messages == []
    assert not room._waiters
    assert not room._parties
    await until(lambda: room._looking is None)


async def test_the_end_of_the_process_answers_all_and_keeps_nobody(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom
) -> None:
    everyone = [Request(handler, scene.tenant.secret_key, after=scene.end, wait=25) for _ in range(5)]
    await until(lambda: len(room._waiters) == 5)
    room.close()
    empty = {"success": True, "data": [], "pagination": {"nextCursor": scene.end, "hasMore": False}}
    assert [await one.answer() for one in everyone] == [empty] * 5
    assert await Request(handler, scene.tenant.secret_key, after=scene.end, wait=25).answer() == empty
    assert not room._waiters


@pytest.mark.parametrize("limit", ["MAX_WAITING", "MAX_WAITING_OF_A_PARTY"])
async def test_there_are_only_so_many_places(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(waiting, limit, 2)
    first = [Request(handler, scene.tenant.secret_key, after=scene.end, wait=25) for _ in range(2)]
    await until(lambda: len(room._waiters) == 2)
    third = await Request(handler, scene.tenant.secret_key, after=scene.end, wait=25).answer()
    assert third["data"] == []
    first[0].leave()
    await until(lambda: len(room._waiters) == 1)
    fourth = Request(handler, scene.tenant.secret_key, after=scene.end, wait=25)
    await until(lambda: len(room._waiters) == 2)
    await run(lambda: scene.say("hello"))
    assert [texts(await one.answer()) for one in (first[1], fourth)] == [["hello"]] * 2


async def test_a_key_that_is_revoked_meanwhile_learns_nothing(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom
) -> None:
    key = await run(lambda: scene.tenant.key(name="short-lived"))
    waiting = Request(handler, key, after=scene.end, wait=25)
    await until(lambda: room._waiters)

    def revoke_and_say() -> None:
        revoke_api_key(key=ApiKey.objects.get(name="short-lived", tenant_id=scene.tenant.id), now=timezone.now())
        forget_cached_credentials()
        scene.say("secret")

    await run(revoke_and_say)
    body = await waiting.answer()
    assert (waiting.messages[0]["status"], body["error"]["code"]) == (401, "invalid_api_key")


async def test_a_database_that_fails_for_a_moment_is_no_end(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [DatabaseError("gone"), DatabaseError("gone again")]
    real = feed.find_ahead

    def failing(positions: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(positions)

    monkeypatch.setattr(feed, "find_ahead", failing)
    waiting = Request(handler, scene.tenant.secret_key, after=scene.end, wait=25)
    await until(lambda: room._waiters)
    await run(lambda: scene.say("hello"))
    assert texts(await waiting.answer()) == ["hello"]
    assert failures == []


@pytest.mark.logs_errors
async def test_a_fault_in_looking_is_logged_and_no_end(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Exception] = [ValueError("a fault of ours")]
    real = feed.find_ahead

    def failing(positions: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(positions)

    monkeypatch.setattr(feed, "find_ahead", failing)
    waiting = Request(handler, scene.tenant.secret_key, after=scene.end, wait=25)
    await until(lambda: room._waiters)
    await run(lambda: scene.say("hello"))
    assert texts(await waiting.answer()) == ["hello"]


async def test_a_reader_who_never_stops_waiting_misses_nothing(
    handler: ThreadedHandler, scene: Scene, room: WaitingRoom
) -> None:
    """Request after request while others write: everything once, in order."""
    texts_said = [f"number {number}" for number in range(30)]

    def write() -> None:
        for text in texts_said:
            scene.say(text)

    writing = asyncio.ensure_future(run(write))
    seen: list[str] = []
    cursor = scene.end
    async with asyncio.timeout(60):
        while len(seen) < len(texts_said):
            body = await Request(handler, scene.tenant.secret_key, after=cursor, wait=25, limit=7).answer()
            seen += texts(body)
            cursor = body["pagination"]["nextCursor"]
    await writing
    assert seen == texts_said


async def test_a_refused_request_does_not_wait(handler: ThreadedHandler, scene: Scene, room: WaitingRoom) -> None:
    assert await Request(handler, scene.tenant.secret_key, after="nonsense", wait=25).status() == 422
    assert await Request(handler, "mc_sk_nonsense", wait=25).status() == 401
    assert not room._waiters
