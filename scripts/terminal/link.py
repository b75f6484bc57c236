"""The connection: opened, kept, opened again with what was missed, until it is closed or told to stay away."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.protocol import State

from scripts.launcher.failures import LauncherError
from scripts.terminal.account import Account, Unreachable, refused
from scripts.terminal.positions import Positions
from scripts.terminal.protocol import CloseCode, Frame, close_code

OPEN_WITHIN_S = 10.0
CLOSE_WITHIN_S = 2.0
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
AFTER_TOO_FAST_S = 10.0
TOO_FAST, TOKEN_EXPIRED = 4029, 4010

_random = random.SystemRandom()

Draw = Callable[[float, float], float]
"""A random number between two."""


class NotConnected(Exception):
    """There is no open connection to send on; nothing went out."""


class Uncertain(NotConnected):
    """The connection broke meanwhile: the server may have got the frame or not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that waits for its answer."""

    type: str
    sent_at: float


@dataclass(frozen=True, slots=True)
class Answered:
    """Which command a frame answers, and how long that took."""

    type: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A connection that ended, or could not be had (`problem`), and when the next is tried; None: no more."""

    code: CloseCode | None
    reason: str
    problem: str
    retry_in_s: float | None
    unanswered: dict[Any, str]


class Watcher(Protocol):
    """What the link tells of what happens, as it happens."""

    def sent(self, frame: Frame) -> None: ...

    def received(self, text: str, frame: Frame | None, answered: Answered | None) -> None:
        """`frame` is None for a text that is none."""

    def opened(self) -> None: ...

    def lost(self, lost: Lost) -> None: ...


def wait_before_retry(
    failures: int, *, draw: Draw = _random.uniform, told_ms: int | None = None, code: int = 0
) -> float:
    """Seconds before the next try: what the server told, else full jitter below a bound that doubles."""
    if told_ms is not None and failures == 0:
        return told_ms / 1000  # drawn by the server, which spreads its clients
    jitter = draw(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 10)))
    return jitter + (AFTER_TOO_FAST_S if code == TOO_FAST else 0)


class Link:
    """One user's place at the server. Commands of its own (`authenticate`, `resume`, rejoining) carry no id."""

    def __init__(self, account: Account, watcher: Watcher, *, draw: Draw = _random.uniform) -> None:
        self.account = account
        self.positions = Positions()
        self.looking: set[str] = set()
        self.ready = asyncio.Event()
        self._watcher = watcher
        self._draw = draw
        self._socket: ClientConnection | None = None
        self._asked: dict[Any, Asked] = {}
        self._resuming = False
        self._settling: str | None = None
        self._was_ready = False
        self._failures = 0
        self._told: Frame = {}
        self._refusal: Frame | None = None
        self._closing = asyncio.Event()
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Returns once `close` is called. Raises LauncherError when the first connection cannot be had, or the server
        says not to come back."""
        try:
            while not self._closing.is_set():
                code, reason, problem = await self._connection()
                if self._closing.is_set():
                    break
                wait_s = self._next_try(code)
                unanswered = {key: asked.type for key, asked in self._asked.items()}
                self._asked.clear()
                self._resuming = False
                self._watcher.lost(Lost(code, reason, problem, wait_s, unanswered))
                await self._notify()
                if wait_s is None:
                    raise self._end(code, reason)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), wait_s)
        finally:
            self._closing.set()
            await self._notify()

    async def send(self, frame: Frame) -> None:
        """Raises NotConnected, or Uncertain."""
        await self.send_text(json.dumps(frame, ensure_ascii=False), frame)

    async def send_text(self, text: str, frame: Frame | None) -> None:
        """`frame` is what the text says, where it says a frame. Raises as `send` does."""
        if self._socket is None or not self.ready.is_set():
            raise NotConnected
        await self._write(self._socket, text, frame)

    async def settle(self) -> None:
        """Returns when all that was sent is dealt with, and what `resume` asked for is here, or the link is over.

        The server deals with frames in their order: an answer to a last `ping`, which nobody is shown, comes behind
        those to all others.
        """
        while await self.until_over_or_ready():
            socket = self._socket
            self._settling = f"settle-{uuid4()}"
            if socket is not None:
                with suppress(ConnectionClosed):
                    await socket.send(json.dumps({"type": "ping", "id": self._settling}))
                if await self._settled_on(socket):
                    return

    async def _settled_on(self, socket: ClientConnection) -> bool:
        """Waits for the answer to the last ping; False when the connection is lost first."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._socket is not socket or not self._is_waiting())
        return not self._is_waiting()

    def _is_waiting(self) -> bool:
        """For the answer to the last ping, or, which may come behind it, to a `resume`."""
        by_hand = any(asked.type == "resume" for asked in self._asked.values())
        return self._settling is not None or self._resuming or by_hand

    async def close(self) -> None:
        self._closing.set()
        await self._notify()
        if self._socket is not None:
            with suppress(ConnectionClosed):
                await self._socket.close()

    async def until_over_or_ready(self) -> bool:
        """Whether frames can be sent; False when they never can any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closing.is_set() or self.ready.is_set())
        return not self._closing.is_set()

    # --- one connection ---------------------------------------------------------------------------------------------

    async def _connection(self) -> tuple[CloseCode | None, str, str]:
        """From opening to its end: how it was closed, or why it could not be had."""
        self._told, self._refusal = {}, None
        try:
            token = await self.account.get_token()
            socket = await connect(
                self.account.socket_url,
                max_size=None,
                open_timeout=OPEN_WITHIN_S,
                close_timeout=CLOSE_WITHIN_S,
                proxy=None if self.account.is_local else True,
            )
        except InvalidStatus as error:
            return self._not_had(f"it answers {error.response.status_code} to a WebSocket at {self.account.socket_url}")
        except (Unreachable, OSError, InvalidHandshake) as error:  # TimeoutError is an OSError
            return self._not_had(str(error) or type(error).__name__)
        self._socket = socket
        try:
            if self._closing.is_set():
                await socket.close()
            with suppress(NotConnected):
                await self._greet(socket, token)
            async for text in socket:
                await self._take(text if isinstance(text, str) else text.decode("utf-8", "replace"))
        except ConnectionClosed:
            pass
        finally:
            self._socket = None
            self.ready.clear()
            await self._notify()
            await socket.close()
        return close_code(socket.close_code or 1006), socket.close_reason or "", ""

    def _not_had(self, problem: str) -> tuple[None, str, str]:
        if not self._was_ready:
            raise LauncherError(
                f"{self.account.url} cannot be reached: {problem}.",
                hint="Is it running? scripts/up starts one here; --url names another.",
            )
        return None, "", problem

    async def _greet(self, socket: ClientConnection, token: str) -> None:
        await self._command(socket, "authenticate", {"apiKey": self.account.key, "token": token})
        held = self.positions.to_resume()
        if held:
            await self._command(socket, "resume", {"conversations": held})
        for conversation_id in sorted(self.looking):
            await self._command(socket, "join_conversation", {"conversationId": conversation_id})

    async def _command(self, socket: ClientConnection, type_: str, data: Frame) -> None:
        frame = {"type": type_, "data": data}
        await self._write(socket, json.dumps(frame, ensure_ascii=False), frame)

    async def _write(self, socket: ClientConnection, text: str, frame: Frame | None) -> None:
        frame_id = None if frame is None else frame.get("id")
        if socket.state is not State.OPEN:
            raise NotConnected
        if frame is not None:
            self._watcher.sent(frame)
            if isinstance(frame_id, str | int) and isinstance(frame.get("type"), str):
                self._asked[frame_id] = Asked(frame["type"], time.perf_counter())
            elif frame.get("type") == "resume":
                self._resuming = True
        try:
            await socket.send(text)
        except ConnectionClosed:
            raise Uncertain from None

    async def _take(self, text: str) -> None:
        frame = _frame_in(text)
        asked = None
        if frame is not None:
            frame_id = frame.get("id")
            if frame_id is not None and frame_id == self._settling:
                self._settling = None
                await self._notify()
                return
            if frame["type"] in {"ack", "error"}:
                asked = self._asked.pop(frame_id, None)
            try:
                self.positions.observe(frame, answers=asked.type if asked else None)
                self._note(frame, asked)
            except (KeyError, TypeError, AttributeError):
                frame = None  # its data is not what its type says
        answered = None if asked is None else Answered(asked.type, time.perf_counter() - asked.sent_at)
        self._watcher.received(text, frame, answered)
        if frame is not None and frame["type"] == "authenticated":
            self._failures, self._was_ready = 0, True
            self.ready.set()
            self._watcher.opened()
        await self._notify()

    def _note(self, frame: Frame, asked: Asked | None) -> None:
        kind, data = frame["type"], frame["data"]
        if kind == "ack" and asked is not None:
            kind = {"join_conversation": "joined_conversation", "leave_conversation": "left_conversation"}.get(
                asked.type, kind
            )
        if kind == "joined_conversation":
            self.looking.add(data["conversationId"])
        elif kind in {"left_conversation", "conversation_removed"}:
            self.looking.discard(data["conversationId"])
        elif kind == "resumed":
            self._resuming = False
        elif kind == "disconnecting":
            self._told = data
        elif kind == "error" and "id" not in frame:
            self._resuming = False  # a server that does not know how says so without an id
            if not self.ready.is_set():
                self._refusal = data

    def _next_try(self, code: CloseCode | None) -> float | None:
        number = 0 if code is None else code.code
        renewable = number == TOKEN_EXPIRED and self.account.can_renew
        told = self._told.get("reconnect", code is None or code.reconnect)
        if not (told and (number != TOKEN_EXPIRED or renewable)):
            return None
        wait_s = wait_before_retry(
            self._failures, draw=self._draw, told_ms=self._told.get("reconnectAfterMs"), code=number
        )
        self._failures += 1
        return wait_s

    def _end(self, code: CloseCode | None, reason: str) -> LauncherError:
        assert code is not None
        if code.code == TOKEN_EXPIRED:
            return refused("token_expired", "The token has expired", self.account)
        if self._refusal is not None:
            return refused(self._refusal["code"], self._refusal["message"], self.account)
        said = f" ({reason})" if reason else ""
        return LauncherError(
            f"The server closed the connection for good: {code.code} {code.name}{said}.", hint=code.meaning
        )

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _frame_in(text: str) -> Frame | None:
    """The server's frame in a text; None where there is none, as from a server that is not ours."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not (isinstance(read, dict) and isinstance(read.get("type"), str) and isinstance(read.get("data"), dict)):
        return None
    return read if isinstance(read.get("id"), str | int | None) else None
