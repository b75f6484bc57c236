"""One client's connection as the hub sees it: who it is, what it listens to, and its bounded way out."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from messagecore.kernel import metrics
from realtime.protocol import frames
from realtime.protocol.closing import CloseCode
from tenants.cards import TenantCard

Send = Callable[[dict[str, Any]], Awaitable[None]]
WriteNow = Callable[[Sequence[str]], bool]

CLOSE_WITHIN_S = 5.0
"""What is queued has this long to go out before a close; a client that does not read does not hold us up."""

SHARE_UNDER_PRESSURE = 32
"""When the queues of all connections together are too long, each may have this part of its own limit."""


class QueuedBytes:
    """What waits in all queues of a process. Past `limit` nobody is stopped at once: each has less room from then."""

    __slots__ = ("limit", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0

    @property
    def is_too_much(self) -> bool:
        return self.total > self.limit


class Connection:
    """Frames go out in the order in which they were put in. `write_now` takes one while the client keeps up; once it
    refuses, frames queue, and a task of its own sends them by `send` as the client reads: a slow reader delays nobody.
    When the queue is full, ephemeral frames are dropped; a durable frame too many closes the connection with 4008, and
    the client comes back and resumes. Idle, it has neither a queue nor a task: there are thousands of them."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_ended",
        "_ephemeral_frames",
        "_held",
        "_hurry",
        "_hurrying",
        "_is_over",
        "_max_bytes",
        "_max_frames",
        "_queue",
        "_queued_bytes",
        "_send",
        "_taken",
        "_together",
        "_write_now",
        "_writer",
        "blocked",
        "conversations",
        "departures",
        "external_user_id",
        "held_back",
        "id",
        "key_id",
        "looking_at",
        "meanwhile",
        "tenant",
        "token_issued_at",
        "user_id",
    )

    def __init__(
        self,
        connection_id: str,
        send: Send,
        *,
        max_frames: int,
        max_bytes: int,
        write_now: WriteNow | None = None,
        together: QueuedBytes | None = None,
    ) -> None:
        self.id = connection_id
        self.tenant: TenantCard | None = None
        self.user_id: UUID | None = None
        self.external_user_id = ""
        self.key_id: UUID | None = None
        self.token_issued_at: datetime | None = None
        # Keys alone, in order of coming in: with some dozens of them a dict takes half the memory of a set.
        self.conversations: dict[UUID, None] = {}
        self.looking_at: frozenset[UUID] = frozenset()
        # Where each conversation stood that the user was taken out of since: what is older is not news.
        self.departures: dict[UUID, int] = {}
        # Conversations whose events wait until the client says from where it wants them; None: nothing waits. With each
        # the frame that announces it, if the user came into it meanwhile.
        self.held_back: dict[UUID, str | None] | None = None
        # While the hub reads the memberships: what hints said of them in that moment, by the seq of its event.
        self.meanwhile: dict[UUID, int] | None = None
        # Whose messages this user does not want to see.
        self.blocked: frozenset[UUID] = frozenset()
        self._send = send
        self._write_now = write_now
        self._together = together
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._queue: deque[tuple[str, bool]] | None = None
        self._queued_bytes = 0
        self._ephemeral_frames = 0
        self._held: list[str] | None = []
        self._taken: asyncio.Event | None = None
        self._ended: asyncio.Event | None = None
        self._is_over = False
        self._closing: tuple[int, str] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._hurry: asyncio.TimerHandle | None = None
        self._hurrying: asyncio.Task[None] | None = None

    @property
    def is_closing(self) -> bool:
        return self._closing is not None

    @property
    def ended(self) -> asyncio.Event:
        """Set when nothing more will be written; whoever owns the socket may let it go."""
        if self._ended is None:
            self._ended = asyncio.Event()
            if self._is_over:
                self._ended.set()
        return self._ended

    def deliver(self, frame: str, *, ephemeral: bool = False) -> None:
        """Takes an event. Events that come before `open` wait for it, so that `authenticated` is the first frame."""
        if self._held is not None:
            if not ephemeral:
                self._held.append(frame)
        else:
            self.put(frame, ephemeral=ephemeral)

    def deliver_all(self, together: Sequence[str]) -> None:
        """Takes durable events, in order: one write while the client keeps up."""
        is_free = self._held is None and self._closing is None and self._writer is None
        if is_free and self._write_now is not None and self._write_now(together):
            return
        for frame in together:
            self.deliver(frame)

    def open(self, first: str) -> None:
        """Lets events through, behind `first`."""
        held, self._held = self._held or [], None
        for frame in (first, *held):
            self.put(frame)

    def put(self, frame: str, *, ephemeral: bool = False) -> None:
        """Takes a frame whatever was opened: answers to commands go this way."""
        if self._closing is not None:
            return
        if self._writer is None and self._write_now is not None and self._write_now((frame,)):
            return
        if self._is_full(frame) and not ephemeral and self._ephemeral_frames:
            self._drop_ephemeral()
        if self._is_full(frame):
            if ephemeral:
                metrics.FRAMES_DROPPED.inc()
            else:
                self._overflow()
            return
        self._append(frame, ephemeral=ephemeral)

    def has_room_for(self, size: int) -> bool:
        """Whether a frame that can wait should go in now: below half of what closes the connection."""
        if not self._queue:
            return True
        fits = 2 * (self._queued_bytes + size) <= self._max_bytes
        return fits and 2 * len(self._queue) < self._max_frames and not self._presses

    async def drained(self) -> None:
        """Returns when the client has taken most of what was queued, or the connection ends."""
        while self._closing is None and self._queue and self._is_far_from_drained(len(self._queue)):
            if self._taken is None:
                self._taken = asyncio.Event()
            self._taken.clear()
            await self._taken.wait()

    def disconnect(self, code: CloseCode, reason: str, *, reconnect_after_ms: int | None = None) -> None:
        """Tells the client why, behind what is queued, and closes. The first one wins."""
        if self._closing is None:
            said = frames.disconnecting(code, reason, reconnect_after_ms=reconnect_after_ms)
            self._append(said)
            self._close(code, reason, within_s=CLOSE_WITHIN_S)

    async def finish(self) -> None:
        """Ends the writer; the socket is gone."""
        self._closing = self._closing or (1000, "")
        if self._hurry is not None:
            self._hurry.cancel()
        tasks = [task for task in (self._hurrying, self._writer) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._forget_queue()
        self._end()

    @property
    def _presses(self) -> bool:
        return self._together is not None and self._together.is_too_much

    def _is_full(self, frame: str) -> bool:
        share = SHARE_UNDER_PRESSURE if self._presses else 1
        return (self._queue is not None and len(self._queue) * share >= self._max_frames) or (
            self._queued_bytes + len(frame)
        ) * share > self._max_bytes

    def _is_far_from_drained(self, length: int) -> bool:
        return 4 * length >= self._max_frames or 4 * self._queued_bytes >= self._max_bytes or self._presses

    def _append(self, frame: str, *, ephemeral: bool = False) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append((frame, ephemeral))
        self._count(len(frame))
        self._ephemeral_frames += ephemeral
        self._write_soon()

    def _count(self, size: int) -> None:
        self._queued_bytes += size
        if self._together is not None:
            self._together.total += size

    def _forget_queue(self) -> None:
        self._queue = None
        self._count(-self._queued_bytes)
        self._ephemeral_frames = 0
        self._say_taken()

    def _say_taken(self) -> None:
        if self._taken is not None:
            self._taken.set()

    def _drop_ephemeral(self) -> None:
        metrics.FRAMES_DROPPED.inc(self._ephemeral_frames)
        kept = deque(entry for entry in self._queue or () if not entry[1])
        self._count(sum(len(frame) for frame, _ in kept) - self._queued_bytes)
        self._queue = kept
        self._ephemeral_frames = 0

    def _overflow(self) -> None:
        """What is queued would come with a hole behind it; the client gets it all when it resumes."""
        self._forget_queue()
        self._append(frames.disconnecting(CloseCode.TOO_SLOW, _TOO_SLOW_REASON))
        self._close(CloseCode.TOO_SLOW, _TOO_SLOW_REASON, within_s=0)

    def _close(self, code: int, reason: str, *, within_s: float) -> None:
        # A control frame holds 125 bytes, two of them the code.
        self._closing = (code, reason.encode()[:123].decode(errors="ignore"))
        self._say_taken()
        self._write_soon()
        self._hurry = asyncio.get_running_loop().call_later(within_s, self._stop_waiting)

    def _stop_waiting(self) -> None:
        if not self._is_over:
            self._hurrying = asyncio.get_running_loop().create_task(self._close_now())

    async def _close_now(self) -> None:
        """Closes past a writer that waits for a client which does not read: the server's transport takes `urgent`
        messages whatever is still in its buffers, and gives up on the client soon after (realtime.transport)."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        assert self._closing is not None
        code, reason = self._closing
        with suppress(Exception):  # whatever the transport says of a socket that is gone
            if self._queue:
                await self._send({"type": "websocket.send", "text": self._queue[-1][0], "urgent": True})
            await self._send({"type": "websocket.close", "code": code, "reason": reason, "urgent": True})
        self._end()

    def _write_soon(self) -> None:
        if self._writer is None and not self._is_over:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Sends what is queued; and the close, if there is to be one."""
        try:
            while self._queue:
                await self._send({"type": "websocket.send", "text": self._take()})
            self._queue = None
            if self._closing is not None:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                self._end()
        except Exception:
            # The transport's word for a socket that is gone; each server has its own.
            self._closing = self._closing or (1006, "")
            self._forget_queue()
            self._end()
        finally:
            self._writer = None

    def _take(self) -> str:
        assert self._queue is not None
        frame, ephemeral = self._queue.popleft()
        self._count(-len(frame))
        self._ephemeral_frames -= ephemeral
        self._say_taken()
        return frame

    def _end(self) -> None:
        self._is_over = True
        if self._ended is not None:
            self._ended.set()


_TOO_SLOW_REASON = "too slow: reconnect and resume"
