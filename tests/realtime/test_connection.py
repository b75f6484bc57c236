"""A connection's way out: ordered, bounded, and never waiting for a client that does not read."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from messagecore.kernel import catalogue
from realtime import connection as module
from realtime.connection import Connection
from realtime.limits import TokenBucket
from realtime.protocol.closing import CloseCode
from realtime.typing import EXPIRES_AFTER_S, Typists


class Wire:
    """A transport that takes messages, or holds them up like a client that does not read. `urgent` ones pass."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.is_gone = False

    async def send(self, message: dict[str, Any]) -> None:
        if not message.get("urgent"):
            await self.reading.wait()
        if self.is_gone:
            raise RuntimeError("the socket is gone")
        self.sent.append(message)

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.sent if message["type"] == "websocket.send"]

    @property
    def closes(self) -> list[int]:
        return [message["code"] for message in self.sent if message["type"] == "websocket.close"]


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def connection(wire: Wire) -> Any:
    made = Connection("c", wire.send, max_frames=5, max_bytes=1000)
    yield made
    await made.finish()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_frames_go_out_in_order(connection: Connection, wire: Wire) -> None:
    connection.open("first")
    for number in range(4):
        connection.put(str(number))
    await settle()
    connection.put("4")
    await settle()
    assert wire.texts == ["first", "0", "1", "2", "3", "4"]


async def test_events_wait_until_it_is_opened(connection: Connection, wire: Wire) -> None:
    connection.deliver("early")
    connection.deliver("typing", ephemeral=True)
    connection.put("answer")
    await settle()
    assert wire.texts == ["answer"]
    connection.open("authenticated")
    connection.deliver("later")
    await settle()
    assert wire.texts == ["answer", "authenticated", "early", "later"]


async def test_ephemeral_frames_go_first(connection: Connection, wire: Wire) -> None:
    connection.open("first")
    await settle()
    wire.reading.clear()
    connection.put("held by the transport")
    await settle()
    for number in range(9):
        connection.put(f"typing {number}", ephemeral=True)
    for number in range(5):
        connection.put(f"durable {number}")
    connection.put("one more typing", ephemeral=True)
    assert not connection.is_closing
    wire.reading.set()
    await settle()
    assert wire.texts == ["first", "held by the transport", *(f"durable {number}" for number in range(5))]


@pytest.mark.parametrize(("frame", "fitting"), [("x", 5), ("x" * 300, 3)])
async def test_a_durable_frame_too_many_closes_with_4008(
    connection: Connection, wire: Wire, frame: str, fitting: int
) -> None:
    connection.open("first")
    await settle()
    wire.reading.clear()
    connection.put("held by the transport")
    await settle()
    for _ in range(fitting):
        connection.put(frame)
    assert not connection.is_closing
    connection.put(frame)
    assert connection.is_closing
    connection.put("too late")
    await asyncio.wait_for(connection.ended.wait(), 1)
    assert wire.texts[0] == "first"
    assert json.loads(wire.texts[1]) == {
        "type": "disconnecting",
        "data": {"code": 4008, "reason": "too slow: reconnect and resume", "reconnect": True},
    }
    assert wire.closes == [4008]
    assert len(wire.texts) == 2


async def test_the_first_close_wins_and_comes_behind_what_is_queued(connection: Connection, wire: Wire) -> None:
    connection.open("first")
    connection.put("second")
    connection.disconnect(CloseCode.TOKEN_EXPIRED, "the token has expired")
    connection.disconnect(CloseCode.REFUSED, "refused")
    connection.put("too late")
    await asyncio.wait_for(connection.ended.wait(), 1)
    assert wire.texts[:2] == ["first", "second"]
    assert [json.loads(text)["data"]["code"] for text in wire.texts[2:]] == [4010]
    assert wire.closes == [4010]


async def test_a_close_does_not_wait_for_a_client_that_does_not_read(
    connection: Connection, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_WITHIN_S", 0.01)
    wire.reading.clear()
    connection.open("first")
    await settle()
    connection.disconnect(CloseCode.TENANT_INACTIVE, "ü" * 100)
    await asyncio.wait_for(connection.ended.wait(), 1)
    assert wire.closes == [4011]
    assert len(wire.sent[-1]["reason"].encode()) <= 123


async def test_a_socket_that_is_gone_ends_the_writer(connection: Connection, wire: Wire) -> None:
    wire.is_gone = True
    connection.open("first")
    await asyncio.wait_for(connection.ended.wait(), 1)
    connection.put("harmless")
    connection.disconnect(CloseCode.REFUSED, "refused")
    await connection.finish()
    assert wire.sent == []


# --- clocks ---------------------------------------------------------------------------------------------------------


def test_a_bucket_refills_at_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("realtime.limits.time.monotonic", lambda: now)
    bucket = TokenBucket(rate=2, burst=3)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now = 100.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now = 1000.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


class ClockLoop(asyncio.SelectorEventLoop):
    """Its time goes when it is told to, whatever the machine is doing."""

    now = 0.0

    def time(self) -> float:
        return self.now

    async def pass_(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


def test_typing_is_shown_on_change_and_runs_out() -> None:
    async def work() -> None:
        clock = asyncio.get_running_loop()
        assert isinstance(clock, ClockLoop)
        shown: list[bool] = []
        typists, ann = Typists(), uuid4()
        typists.update(ann, is_typing=False, show=shown.append)
        assert shown == []
        for _ in range(3):
            typists.update(ann, is_typing=True, show=shown.append)
        assert shown == [True]
        await clock.pass_(EXPIRES_AFTER_S - 1)
        typists.update(ann, is_typing=True, show=shown.append)
        await clock.pass_(EXPIRES_AFTER_S - 1)
        assert shown == [True]
        await clock.pass_(2)
        assert shown == [True, False]
        typists.update(ann, is_typing=True, show=shown.append)
        typists.clear()
        await clock.pass_(EXPIRES_AFTER_S + 1)
        assert shown == [True, False, True]

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(work())


def test_the_close_codes_are_the_catalogues() -> None:
    listed = {code: (entry["name"], entry["reconnect"]) for code, entry in catalogue.close_codes().items()}
    assert {int(code): (code.name.lower(), code.reconnect) for code in CloseCode} == listed
