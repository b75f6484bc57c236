"""`scripts/chat` as a developer meets it: piped and at a terminal, over a restart of the server, and refused."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scripts.launcher.home import ROOT
from tests.e2e.client import Frame, World, eventually
from tests.e2e.cluster import Cluster, Server, free_port

pytestmark = pytest.mark.e2e

WITHIN_S = 40


@dataclass
class Chat:
    """A running `scripts/chat`."""

    process: asyncio.subprocess.Process
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def frame(self, type_: str, data: Any = None, **more: Any) -> None:
        await self.write(json.dumps({"type": type_, "data": data or {}, **more}))

    def frames(self, type_: str | None = None) -> list[Frame]:
        """Of the raw output; a line that is no frame fails here."""
        frames = [json.loads(line) for line in self.output]
        return [frame for frame in frames if type_ in {None, frame["type"]}]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        async def ask() -> bool:
            return bool(condition())

        try:
            await eventually(ask, bool, WITHIN_S)
        except AssertionError:
            raise AssertionError(f"{what}; it said {self.output[-20:]} and {self.errors[-20:]}") from None

    async def end(self, *, by_input: bool = True) -> int:
        """Closes the input; returns the exit code."""
        if by_input:
            assert self.process.stdin is not None
            self.process.stdin.close()
        async with asyncio.timeout(WITHIN_S):
            code = await self.process.wait()
            await asyncio.gather(*self.readers)
        assert "Traceback" not in "\n".join(self.errors)
        return code


StartChat = Callable[..., Awaitable[Chat]]


def environment(home: Path, **env: str) -> dict[str, str]:
    """What a developer's shell has, and nothing of the tests' own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MESSAGECORE_HOME": str(home),
        "MESSAGECORE_VENV": sys.prefix,
        "LANG": "C.UTF-8",
        **env,
    }


@pytest.fixture
async def start_chat(tmp_path: Path) -> AsyncIterator[StartChat]:
    running: list[Chat] = []

    async def start(*arguments: str, **env: str) -> Chat:
        process = await asyncio.create_subprocess_exec(
            ROOT / "scripts" / "chat",
            *arguments,
            env=environment(tmp_path, **env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            limit=2**26,
        )
        chat = Chat(process)
        for stream, lines in ((process.stdout, chat.output), (process.stderr, chat.errors)):
            assert stream is not None
            chat.readers.append(asyncio.create_task(_read(stream, lines)))
        running.append(chat)
        return chat

    yield start
    for chat in running:
        with suppress(ProcessLookupError):
            chat.process.kill()
        await chat.process.wait()


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode().rstrip("\n"))


def access(world: World, user: Frame, server: int = 0, **claims: Any) -> dict[str, str]:
    return {
        "MESSAGECORE_URL": world.servers[server].url,
        "MESSAGECORE_API_KEY": world.tenant.publishable_key,
        "MESSAGECORE_TOKEN": world.tenant.token(user["externalUserId"], **claims),
    }


def message(conversation: str, text: str) -> dict[str, Any]:
    return {"conversationId": conversation, "type": "text", "content": {"text": text}}


# --- raw --------------------------------------------------------------------------------------------------------------


async def test_frames_go_in_and_come_out(world: World, start_chat: StartChat) -> None:
    anna, ben = await world.users("anna", "ben")
    conversation = await world.conversation(anna, ben)
    other = await world.socket(ben)
    chat = await start_chat("--raw", **access(world, anna))
    await chat.frame("send_message", message(conversation, "你好 👋"), id="a")
    await chat.frame("ping", id="b")
    await chat.write("not a frame")
    await chat.write("")
    await chat.frame("join_conversation", {"conversationId": "nowhere"}, id=True)
    assert await chat.end() == 0
    assert chat.errors == []
    frames = chat.frames()
    assert frames[0]["type"] == "authenticated"
    assert frames[0]["data"]["userId"] == anna["id"]
    assert [frame["id"] for frame in chat.frames("ack")] == ["a", "b"]
    assert chat.frames("ack")[0]["data"]["content"] == {"text": "你好 👋"}
    assert [frame["data"]["code"] for frame in chat.frames("error")] == ["malformed_frame", "malformed_frame"]
    arrived = await other.expect("new_message", conversationId=conversation)
    assert arrived["data"]["message"]["id"] == chat.frames("ack")[0]["data"]["id"]


async def test_every_answer_comes_before_the_end(world: World, start_chat: StartChat) -> None:
    (anna,) = await world.users("anna")
    conversation = await world.conversation(anna)
    chat = await start_chat("--raw", **access(world, anna))
    for number in range(60):
        await chat.frame("send_message", message(conversation, f"{number}"), id=number)
    assert await chat.end() == 0
    assert [frame["id"] for frame in chat.frames("ack")] == list(range(60))
    assert [frame["data"]["content"]["text"] for frame in chat.frames("ack")] == [f"{number}" for number in range(60)]


async def test_it_stays_when_it_is_to_follow(world: World, start_chat: StartChat) -> None:
    anna, ben = await world.users("anna", "ben")
    conversation = await world.conversation(anna, ben)
    chat = await start_chat("--raw", "--follow", "--conversation", conversation, **access(world, anna))
    assert chat.process.stdin is not None
    chat.process.stdin.close()
    await chat.until(lambda: chat.frames("joined_conversation"), "it joined")
    socket = await world.socket(ben)
    await socket.say(conversation, "still there?")
    await chat.until(lambda: chat.frames("new_message"), "it hears")
    assert chat.process.returncode is None
    chat.process.terminate()
    await chat.end(by_input=False)


async def test_a_reader_that_goes_away_ends_it_in_silence(world: World, tmp_path: Path) -> None:
    (anna,) = await world.users("anna")
    process = await asyncio.create_subprocess_shell(
        f"yes '{json.dumps({'type': 'ping'})}' | {ROOT / 'scripts' / 'chat'} --raw | head -n 2",
        env=environment(tmp_path, **access(world, anna)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(WITHIN_S):
        output, errors = await process.communicate()
    assert [json.loads(line)["type"] for line in output.splitlines()] == ["authenticated", "pong"]
    assert errors == b""


async def test_it_comes_back_with_what_it_missed_when_the_server_is_killed(
    make_cluster: Callable[..., Cluster], make_world: Callable[[Cluster], Awaitable[World]], start_chat: StartChat
) -> None:
    cluster = make_cluster(servers=2)
    world = await make_world(cluster)
    anna, ben = await world.users("anna", "ben")
    conversation = await world.conversation(anna, ben)
    there = await world.socket(ben, server=1)
    chat = await start_chat("--raw", "--conversation", conversation, **access(world, anna))
    await chat.until(lambda: chat.frames("joined_conversation"), "it joined")
    await there.say(conversation, "before")
    await chat.until(lambda: chat.frames("new_message"), "it hears")
    server: Server = cluster.servers[0]
    server.kill()
    await chat.until(lambda: any("closed 1006 abnormal" in line for line in chat.errors), "it notices")
    await there.say(conversation, "while it was away 1")
    await there.say(conversation, "while it was away 2")
    # Typed while there is nobody to say it to: it waits.
    await chat.frame("send_message", message(conversation, "waited"), id=1)
    server.start().wait_until_up()
    await chat.until(lambda: chat.frames("resumed"), "it resumes")
    await chat.until(lambda: len(chat.frames("joined_conversation")) == 2, "it looks at the conversation again")
    await there.say(conversation, "after")
    await chat.until(lambda: len(chat.frames("new_message")) == 5, "it has everything")
    assert await chat.end() == 0
    durable = [(frame["data"]["seq"], frame["type"]) for frame in chat.frames() if "seq" in frame["data"]]
    messages = [seq for seq, type_ in durable if type_ == "new_message"]
    assert messages == list(range(messages[0], messages[0] + 5))
    texts = [frame["data"]["message"]["content"]["text"] for frame in chat.frames("new_message")]
    assert texts[:3] == ["before", "while it was away 1", "while it was away 2"]
    assert sorted(texts[3:]) == ["after", "waited"]
    assert [frame["data"]["content"]["text"] for frame in chat.frames("ack")] == ["waited"]
    assert len(chat.frames("authenticated")) == 2
    (resumed,) = chat.frames("resumed")
    assert resumed["data"]["conversations"][conversation]["complete"] is True


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", [("--raw",), ()])
async def test_a_wrong_key_is_told_to_a_stranger(world: World, start_chat: StartChat, face: tuple[str, ...]) -> None:
    (anna,) = await world.users("anna")
    wrong = access(world, anna) | {"MESSAGECORE_API_KEY": "mc_pk_" + "x" * 38}
    chat = await start_chat(*face, **wrong)
    assert await chat.end() == 1
    said = "\n".join(chat.errors)
    assert "✗ The server refused: Invalid API key (invalid_api_key)." in said
    assert "Look at --key or MESSAGECORE_API_KEY" in said


@pytest.mark.parametrize("face", [("--raw",), ()])
async def test_an_expired_token_is_told(world: World, start_chat: StartChat, face: tuple[str, ...]) -> None:
    (anna,) = await world.users("anna")
    chat = await start_chat(*face, **access(world, anna, exp=1_700_000_000, iat=1_600_000_000))
    assert await chat.end() == 1
    assert "(token_expired)" in "\n".join(chat.errors)
    assert "Start again with a new --token" in "\n".join(chat.errors)


async def test_a_token_that_expires_meanwhile_ends_it_with_words(world: World, start_chat: StartChat) -> None:
    (anna,) = await world.users("anna")
    ends = datetime.now(UTC) + timedelta(seconds=6)
    fixed = await start_chat("--raw", "--follow", **access(world, anna, exp=ends))
    assert await fixed.end() == 1
    assert [frame["data"]["code"] for frame in fixed.frames("disconnecting")] == [4010]
    assert "Start again with a new --token" in "\n".join(fixed.errors)


@pytest.mark.parametrize("face", [("--raw",), ()])
async def test_nobody_at_the_address_is_told(start_chat: StartChat, face: tuple[str, ...]) -> None:
    port = free_port()
    chat = await start_chat(*face, "--url", f"http://127.0.0.1:{port}", "--key", "mc_pk_x", "--token", "t")
    assert await chat.end() == 1
    said = "\n".join(chat.errors)
    assert f"✗ http://127.0.0.1:{port} cannot be reached: " in said
    assert "Is it running? scripts/up starts one here" in said


async def test_what_is_not_messagecore_is_told(start_chat: StartChat) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            await writer.drain()
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        given = ("--url", f"http://127.0.0.1:{port}", "--key", "mc_pk_x", "--token", "t")
        plain = await start_chat(*given)
        raw = await start_chat("--raw", *given)
        assert [await plain.end(), await raw.end()] == [1, 1]
    assert "but not as MessageCore does" in "\n".join(plain.errors)
    assert "it answers 200 to a WebSocket" in "\n".join(raw.errors)


async def test_nothing_started_is_told(start_chat: StartChat) -> None:
    chat = await start_chat()
    assert await chat.end() == 1
    assert "Nothing has been started here" in chat.errors[0]
    assert "Run scripts/up in another terminal" in chat.errors[1]


async def test_an_unknown_user_is_told(world: World, start_chat: StartChat) -> None:
    given = {"MESSAGECORE_URL": world.servers[0].url, "MESSAGECORE_API_KEY": world.tenant.secret_key}
    chat = await start_chat("--user", "nobody / here?", **given)
    assert await chat.end() == 1
    assert "(user_not_found)" in "\n".join(chat.errors)


# --- with somebody at it ----------------------------------------------------------------------------------------------


async def test_a_secret_key_speaks_for_whom_it_is_told(world: World, start_chat: StartChat) -> None:
    anna, ben = await world.users("anna", "ben")
    conversation = await world.conversation(anna, ben, title="Order\x1b[2J")
    url, key = world.servers[0].url, world.tenant.secret_key
    chat = await start_chat("--url", url, "--key", key, "--user", anna["externalUserId"])
    for line in (
        "too early",
        f"/join {conversation}",
        "hello",
        "//slash",
        "/react 99 👍",
        "/read",
        "/ping",
        "/conversations",
        '/frame {"type": "nope", "id": "x"}',
        "/join nowhere",
        "/quit",
        "never read",
    ):
        await chat.write(line)
    assert await chat.end() == 0
    assert chat.errors == []
    said = "\n".join(chat.output)
    for pattern in (
        r"· You are in no conversation: /join ID enters one",
        r"→ join_conversation +id=1 ",
        r"← ack +id=1 join_conversation \d+\.\d ms ",
        r"→ send_message +id=2 ",
        r'← ack +id=2 seq=\d+ send_message \d+\.\d ms .*"hello"',
        r'← new_message +seq=\d+ .*"hello"',
        r'← new_message +seq=\d+ .*"/slash"',
        r"· No message with seq 99",
        r"← ack +id=5 ping \d+\.\d ms",
        r"^\* \S+  group, seq \d+, 0 unread  Order\\u001b\[2J$",
        r'← error +id="x" nope \d+\.\d ms unknown_type',
        r"← error +id=6 join_conversation .* conversation_not_found",
        r"· Not in nowhere\. /conversations lists",
    ):
        assert re.search(pattern, said, re.MULTILINE), f"{pattern} in\n{said}"
    assert "never read" not in said
    assert key not in said
    assert "\x1b" not in said
    assert [entry["content"]["text"] for entry in await history(world, conversation)] == ["hello", "/slash"]


async def history(world: World, conversation: str) -> list[Frame]:
    page = await world.rest()("GET", f"/messages/conversations/{conversation}")
    messages: list[Frame] = page["messages"]
    return messages


async def test_a_message_whose_answer_was_lost_is_stored_once(
    make_cluster: Callable[..., Cluster], make_world: Callable[[Cluster], Awaitable[World]], start_chat: StartChat
) -> None:
    cluster = make_cluster(servers=2)
    world = await make_world(cluster)
    (anna,) = await world.users("anna")
    conversation = await world.conversation(anna)
    chat = await start_chat("--conversation", conversation, **access(world, anna))
    await chat.write("one")
    await chat.until(lambda: any("new_message" in line for line in chat.output), "it is heard")
    server = cluster.servers[0]
    server.process.send_signal(signal.SIGSTOP)  # it takes the frame and says nothing any more
    await chat.write("two")
    await chat.until(lambda: any("→ send_message" in line and "two" in line for line in chat.output), "it is sent")
    server.kill()
    server.start().wait_until_up()
    await chat.until(lambda: any("← ack" in line and "two" in line for line in chat.output), "it is acknowledged")
    assert await chat.end() == 0
    said = "\n".join(chat.output)
    assert "is sent again after reconnecting" in said
    assert "Reconnecting in" in said
    assert [entry["content"]["text"] for entry in await history(world, conversation)] == ["one", "two"]


class Terminal:
    """A pseudo-terminal with `scripts/chat` in it."""

    def __init__(self, home: Path, *arguments: str, **env: str) -> None:
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        environment_ = environment(home, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", COLUMNS="100", LINES="40", **env)
        self.process = subprocess.Popen(
            [ROOT / "scripts" / "chat", *arguments],
            env=environment_,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.raw = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    async def until(self, text: str) -> None:
        async def look() -> bool:
            with suppress(BlockingIOError, OSError):  # nothing yet; or closed by the other side
                while chunk := os.read(self.master, 65_536):
                    self.raw += chunk
            return text in self.raw.decode("utf-8", "replace")

        try:
            await eventually(look, bool, WITHIN_S)
        except AssertionError:
            raise AssertionError(f"{text!r} in {self.raw.decode('utf-8', 'replace')}") from None

    async def ended(self) -> int:
        async with asyncio.timeout(WITHIN_S):
            while self.process.poll() is None:
                await self.until("")
                await asyncio.sleep(0.05)
        return self.process.returncode


async def test_somebody_chats_at_a_terminal(world: World, tmp_path: Path) -> None:
    anna, ben = await world.users("anna", "ben")
    conversation = await world.conversation(anna, ben)
    other = await world.socket(ben)
    terminal = Terminal(tmp_path, "--conversation", conversation, **access(world, anna))
    try:
        await terminal.until("← ack")
        terminal.type("你好\r")
        arrived = await other.expect("new_message", conversationId=conversation)
        assert arrived["data"]["message"]["content"] == {"text": "你好"}
        await other.say(conversation, "hi there")
        await terminal.until('"hi there"')
        terminal.type("/help\r")
        await terminal.until("/react MESSAGE NAME")
        terminal.type("/quit\r")
        assert await terminal.ended() == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)
    said = terminal.raw.decode("utf-8", "replace")
    assert "\x1b[36m← new_message" in said, "durable events are coloured"
    assert "Traceback" not in said


@pytest.mark.parametrize("key", ["\x04", "\x03"])
async def test_a_key_leaves_the_terminal(world: World, tmp_path: Path, key: str) -> None:
    (anna,) = await world.users("anna")
    terminal = Terminal(tmp_path, **access(world, anna))
    try:
        await terminal.until("authenticated")
        await terminal.until("\x1b[?2004h")  # the prompt is there
        terminal.type(key)
        assert await terminal.ended() == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)
    assert "Traceback" not in terminal.raw.decode("utf-8", "replace")
