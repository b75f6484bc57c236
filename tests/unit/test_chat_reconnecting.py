"""What the link of `scripts/chat` makes of what a server does to it, over real sockets on this machine."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from scripts.launcher.failures import LauncherError
from scripts.terminal.account import Account
from scripts.terminal.link import Answered, Link, Lost, NotConnected
from scripts.terminal.protocol import Frame
from tests.e2e.client import eventually

Script = Callable[[ServerConnection], Awaitable[None]]

AUTHENTICATED = {"type": "authenticated", "data": {"userId": "u", "heartbeatSeconds": 25}}
WITHIN_S = 20


@dataclass
class Seen:
    """A watcher that remembers."""

    sent_frames: list[Frame] = field(default_factory=list)
    frames: list[Frame | None] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    losses: list[Lost] = field(default_factory=list)
    openings: int = 0

    def sent(self, frame: Frame) -> None:
        self.sent_frames.append(frame)

    def received(self, text: str, frame: Frame | None, answered: Answered | None) -> None:
        self.frames.append(frame)
        if answered is not None:
            assert answered.seconds >= 0
            self.answers.append(answered.type)

    def opened(self) -> None:
        self.openings += 1

    def lost(self, lost: Lost) -> None:
        self.losses.append(lost)


@dataclass(frozen=True, slots=True)
class Renewing(Account):
    """Makes tokens t1, t2 … without a server to ask."""

    made: list[str] = field(default_factory=list)

    async def get_token(self) -> str:
        self.made.append(f"t{len(self.made) + 1}")
        return self.made[-1]


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[str]:
    """A server whose nth connection is treated as the nth script says, and that hangs up on any beyond."""
    waiting = list(scripts)

    async def handle(socket: ServerConnection) -> None:
        if not waiting:
            socket.transport.abort()
            return
        with suppress(ConnectionClosed):
            await waiting.pop(0)(socket)

    async with serve(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
    assert waiting == [], "every connection was made"


async def hear(socket: ServerConnection) -> Frame:
    frame: Frame = json.loads(await socket.recv())
    return frame


async def say(socket: ServerConnection, type_: str, **data: Any) -> None:
    await socket.send(json.dumps({"type": type_, "data": data}))


async def welcome(socket: ServerConnection) -> Frame:
    """Returns the data of `authenticate`."""
    frame = await hear(socket)
    assert frame["type"] == "authenticate"
    assert "id" not in frame
    await socket.send(json.dumps(AUTHENTICATED))
    data: Frame = frame["data"]
    return data


def leaving(code: int, *, after: Script = welcome, **told: Any) -> Script:
    """Closes with a code, announced if something is told."""

    async def script(socket: ServerConnection) -> None:
        await after(socket)
        if told:
            await say(socket, "disconnecting", code=code, **told)
        await socket.close(code, "because")

    return script


async def until_the_client_leaves(socket: ServerConnection) -> None:
    await welcome(socket)
    await socket.wait_closed()


def link_to(url: str, seen: Seen, **more: Any) -> Link:
    account = Account(url=url, key="mc_pk_x", token="t", **more)
    return Link(account, seen, draw=lambda least, _: least)


async def until(condition: Callable[[], bool]) -> None:
    async def ask() -> bool:
        return condition()

    await eventually(ask, bool, WITHIN_S)


async def finish(link: Link, condition: Callable[[], bool]) -> None:
    """Runs until the condition holds, then closes; the link must end by that."""
    running = asyncio.create_task(link.run())
    await until(lambda: condition() or running.done())
    assert condition(), running
    async with asyncio.timeout(WITHIN_S):
        await link.close()
        await running


async def test_it_comes_back_when_the_server_says() -> None:
    seen = Seen()
    script = leaving(1012, reason="restart", reconnect=True, reconnectAfterMs=37)
    async with scripted(script, until_the_client_leaves) as url:
        await finish(link_to(url, seen), lambda: seen.openings == 2)
    (lost,) = seen.losses
    assert lost.code is not None
    assert (lost.code.code, lost.code.name, lost.reason, lost.retry_in_s) == (1012, "service_restart", "because", 0.037)


async def test_it_resumes_from_what_it_holds_and_looks_where_it_looked() -> None:
    async def first(socket: ServerConnection) -> None:
        await welcome(socket)
        await say(socket, "conversation_created", conversation={"id": "new", "lastSeq": 1})
        await say(socket, "joined_conversation", conversationId="a", lastSeq=4)
        await say(socket, "joined_conversation", conversationId="b", lastSeq=7)
        await say(socket, "left_conversation", conversationId="b")
        await say(socket, "new_message", conversationId="a", seq=5, message=None)
        await socket.close(1001)

    heard: list[Frame] = []

    async def second(socket: ServerConnection) -> None:
        heard.extend([await hear(socket) for _ in range(3)])
        await socket.send(json.dumps(AUTHENTICATED))
        await socket.wait_closed()

    seen = Seen()
    async with scripted(first, second) as url:
        await finish(link_to(url, seen), lambda: seen.openings == 2)
    assert heard == [
        {"type": "authenticate", "data": {"apiKey": "mc_pk_x", "token": "t"}},
        {"type": "resume", "data": {"conversations": {"new": 1, "a": 5, "b": 7}}},
        {"type": "join_conversation", "data": {"conversationId": "a"}},
    ]


@pytest.mark.parametrize("code", [4003, 4011, 4013])
async def test_it_stays_away_when_it_is_told_to(code: int) -> None:
    seen = Seen()
    async with scripted(leaving(code)) as url:
        with pytest.raises(LauncherError, match=rf"closed the connection for good: {code} .* \(because\)") as raised:
            await link_to(url, seen).run()
    assert raised.value.hint == seen.losses[0].code.meaning  # type: ignore[union-attr]
    assert seen.losses[0].retry_in_s is None


async def test_the_frame_before_the_close_has_the_last_word() -> None:
    seen = Seen()
    async with scripted(leaving(1012, reason="no", reconnect=False)) as url:
        with pytest.raises(LauncherError, match="for good: 1012"):
            await link_to(url, seen).run()


async def test_a_refusal_is_told_by_its_error() -> None:
    async def refuse(socket: ServerConnection) -> None:
        await hear(socket)
        await say(socket, "error", code="invalid_token", message="Invalid user token", retryable=False)
        await socket.close(4003)

    with pytest.raises(LauncherError, match=r"Invalid user token \(invalid_token\)"):
        async with scripted(refuse) as url:
            await link_to(url, Seen()).run()


async def test_an_expired_token_is_renewed_where_that_can_be_done() -> None:
    tokens: list[str] = []

    async def expire(socket: ServerConnection) -> None:
        tokens.append((await welcome(socket))["token"])
        await say(socket, "disconnecting", code=4010, reason="expired", reconnect=True)
        await socket.close(4010)

    async def stay(socket: ServerConnection) -> None:
        tokens.append((await welcome(socket))["token"])
        await socket.wait_closed()

    seen = Seen()
    async with scripted(expire, stay) as url:
        account = Renewing(url=url, key="mc_pk_x", user="u", minting_key="mc_sk_x")
        await finish(Link(account, seen, draw=lambda least, _: least), lambda: seen.openings == 2)
    assert tokens == ["t1", "t2"]
    async with scripted(expire) as url:
        with pytest.raises(LauncherError, match="The token has expired"):
            await link_to(url, Seen()).run()


async def test_it_goes_on_trying_while_nobody_answers() -> None:
    async def vanish(socket: ServerConnection) -> None:
        await welcome(socket)
        socket.transport.abort()

    seen = Seen()
    async with scripted(vanish) as url:
        link = link_to(url, seen)
        running = asyncio.create_task(link.run())
        await until(lambda: bool(seen.losses))
    # The server has gone altogether now.
    known = len(seen.losses)
    await until(lambda: len(seen.losses) >= known + 3)
    assert all(lost.code is None and lost.problem for lost in seen.losses[known + 1 :])
    with pytest.raises(NotConnected):
        await link.send({"type": "ping"})
    await link.close()
    async with asyncio.timeout(WITHIN_S):
        await running
    assert seen.losses[0].code is not None
    assert seen.losses[0].code.code == 1006


async def test_closing_does_not_wait_for_the_next_try() -> None:
    seen = Seen()
    script = leaving(1012, reason="restart", reconnect=True, reconnectAfterMs=3_600_000)
    async with scripted(script) as url:
        await finish(link_to(url, seen), lambda: bool(seen.losses))
    assert seen.losses[0].retry_in_s == 3600


async def test_commands_without_an_answer_are_named_when_the_connection_breaks() -> None:
    async def swallow(socket: ServerConnection) -> None:
        await welcome(socket)
        frame = await hear(socket)
        await socket.send(json.dumps({"type": "ack", "id": frame["id"], "data": {}}))
        await hear(socket)
        await socket.close(1001)

    seen = Seen()
    async with scripted(swallow, until_the_client_leaves) as url:
        link = link_to(url, seen)

        async def ask() -> None:
            await link.until_over_or_ready()
            await link.send({"type": "ping", "id": "answered"})
            await link.send({"type": "mark_read", "id": 2, "data": {}})

        asking = asyncio.create_task(ask())
        await finish(link, lambda: seen.openings == 2)
        await asking
    assert seen.answers == ["ping"]
    assert [lost.unanswered for lost in seen.losses] == [{2: "mark_read"}]


async def test_settling_waits_for_the_resume_and_survives_a_server_that_does_not_know_it() -> None:
    async def old(socket: ServerConnection) -> None:
        await welcome(socket)
        assert (await hear(socket))["type"] == "resume"
        ping = await hear(socket)
        await socket.send(json.dumps({"type": "ack", "id": ping["id"], "data": {}}))
        await asyncio.sleep(0.1)
        assert not settled
        await say(socket, "error", code="unknown_type", message="Unknown frame type", retryable=False)
        await socket.wait_closed()

    settled: list[bool] = []
    seen = Seen()
    async with scripted(old) as url:
        link = link_to(url, seen)
        link.positions.begin("a", 1)

        async def settle() -> None:
            await link.settle()
            settled.append(True)

        settling = asyncio.create_task(settle())
        await finish(link, lambda: bool(settled))
        await settling
    kinds = [frame and frame["type"] for frame in seen.frames]
    assert kinds == ["authenticated", "error"], "nobody is shown the ping that settled it"
    assert [frame["type"] for frame in seen.sent_frames] == ["authenticate", "resume"]


async def test_settling_begins_anew_on_a_new_connection() -> None:
    async def hang_up(socket: ServerConnection) -> None:
        await welcome(socket)
        assert (await hear(socket))["type"] == "ping"
        await socket.close(1001)

    async def answer(socket: ServerConnection) -> None:
        await welcome(socket)
        ping = await hear(socket)
        await socket.send(json.dumps({"type": "ack", "id": ping["id"], "data": {}}))
        await socket.wait_closed()

    seen = Seen()
    async with scripted(hang_up, answer) as url:
        link = link_to(url, seen)
        settling = asyncio.create_task(link.settle())
        await finish(link, settling.done)
        settling.result()
    assert seen.openings == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "7",
        "null",
        "{}",
        '{"type": "x"}',
        '{"type": 7, "data": {}}',
        '{"type": "pong", "data": 7}',
        '{"type": "ack", "id": [], "data": {}}',
        '{"type": "new_message", "data": {}}',
        '{"type": "new_message", "data": {"conversationId": [], "seq": "x"}}',
        '{"type": "resumed", "data": {"conversations": 7}}',
        pytest.param("[" * 100_000, id="deep"),
        b"\xff\x00",
    ],
)
async def test_what_is_no_frame_is_passed_on_as_such(text: str | bytes) -> None:
    async def talk(socket: ServerConnection) -> None:
        await welcome(socket)
        await socket.send(text)
        await say(socket, "pong")
        await socket.wait_closed()

    seen = Seen()
    async with scripted(talk) as url:
        await finish(link_to(url, seen), lambda: len(seen.frames) == 3)
    assert seen.frames[1] is None
    assert seen.frames[2] == {"type": "pong", "data": {}}
