"""One client's socket as the hub sees it: who it is, what it listens to, and its bounded way out."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from messagecore.kernel import metrics
from realtime.protocol import frames
from tenants.cards import TenantCard

Send = Callable[[dict[str, Any]], Awaitable[None]]

TOO_SLOW = 4008
CLOSE_WITHIN_S = 5.0
"""What is queued has this long to go out before a close; a client that does not read does not hold us up."""


class Connection:
    """Frames go out in the order in which they were put in, by a task of its own, so that a slow reader delays
    nobody. When the queue is full, ephemeral frames are dropped; a durable frame too many closes the connection
    with 4008, and the client comes back and resumes."""

    def __init__(self, connection_id: str, send: Send, *, max_frames: int, max_bytes: int) -> None:
        self.id = connection_id
        self.tenant: TenantCard | None = None
        self.user_id: UUID | None = None
        self.external_user_id = ""
        self.key_id: UUID | None = None
        self.token_issued_at: datetime | None = None
        self.conversations: set[UUID] = set()
        self.looking_at: set[UUID] = set()
        # Where each conversation stood that the user was taken out of since: what is older is not news.
        self.departures: dict[UUID, int] = {}
        # Conversations whose events wait until the client says from where it wants them; None: nothing waits.
        self.held_back: set[UUID] | None = None
        # While the hub reads the memberships: what hints said of them in that moment, by the seq of its event.
        self.meanwhile: dict[UUID, int] | None = None
        # Whose messages this user does not want to see.
        self.blocked: frozenset[UUID] = frozenset()
        # Set when nothing more will be written; whoever owns the socket may let it go.
        self.ended = asyncio.Event()
        self._send = send
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._queue: deque[tuple[str, bool]] = deque()
        self._queued_bytes = 0
        self._ephemeral_frames = 0
        self._held: list[str] | None = []
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._hurry: asyncio.TimerHandle | None = None
        self._hurrying: asyncio.Task[None] | None = None

    @property
    def is_closing(self) -> bool:
        return self._closing is not None

    def start(self) -> None:
        self._writer = asyncio.get_running_loop().create_task(self._write())

    def deliver(self, frame: str, *, ephemeral: bool = False) -> None:
        """Queues an event. Events that come before `open` wait for it, so that `authenticated` is the first frame."""
        if self._held is not None:
            if not ephemeral:
                self._held.append(frame)
        else:
            self.put(frame, ephemeral=ephemeral)

    def open(self, first: str) -> None:
        """Lets events through, behind `first`."""
        held, self._held = self._held or [], None
        for frame in (first, *held):
            self.put(frame)

    def put(self, frame: str, *, ephemeral: bool = False) -> None:
        """Queues a frame whatever was opened: answers to commands go this way."""
        if self._closing is not None:
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

    def has_room_for(self, frame: str) -> bool:
        """Whether a frame that can wait should go in now: below half of what closes the connection."""
        if not self._queue:
            return True
        return 2 * len(self._queue) < self._max_frames and 2 * (self._queued_bytes + len(frame)) <= self._max_bytes

    async def drained(self) -> None:
        """Returns when the client has taken most of what was queued, or the connection ends."""
        while self._closing is None and (
            4 * len(self._queue) >= self._max_frames or 4 * self._queued_bytes >= self._max_bytes
        ):
            self._sent.clear()
            await self._sent.wait()

    def disconnect(self, code: int, reason: str, *, reconnect: bool) -> None:
        """Tells the client why, behind what is queued, and closes. The first one wins."""
        if self._closing is None:
            self._append(frames.disconnecting(code, reason, reconnect=reconnect))
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
        self._queue.clear()
        self._sent.set()
        self.ended.set()

    def _is_full(self, frame: str) -> bool:
        return len(self._queue) >= self._max_frames or self._queued_bytes + len(frame) > self._max_bytes

    def _append(self, frame: str, *, ephemeral: bool = False) -> None:
        self._queue.append((frame, ephemeral))
        self._queued_bytes += len(frame)
        self._ephemeral_frames += ephemeral
        self._wake.set()

    def _drop_ephemeral(self) -> None:
        metrics.FRAMES_DROPPED.inc(self._ephemeral_frames)
        self._queue = deque(entry for entry in self._queue if not entry[1])
        self._queued_bytes = sum(len(frame) for frame, _ in self._queue)
        self._ephemeral_frames = 0

    def _overflow(self) -> None:
        """What is queued would come with a hole behind it; the client gets it all when it resumes."""
        self._queue.clear()
        self._queued_bytes = self._ephemeral_frames = 0
        self._append(frames.disconnecting(TOO_SLOW, _TOO_SLOW_REASON, reconnect=True))
        self._close(TOO_SLOW, _TOO_SLOW_REASON, within_s=0)

    def _close(self, code: int, reason: str, *, within_s: float) -> None:
        # A control frame holds 125 bytes, two of them the code.
        self._closing = (code, reason.encode()[:123].decode(errors="ignore"))
        self._wake.set()
        self._sent.set()
        self._hurry = asyncio.get_running_loop().call_later(within_s, self._stop_waiting)

    def _stop_waiting(self) -> None:
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
        self.ended.set()

    async def _write(self) -> None:
        with suppress(Exception):  # the transport's word for a socket that is gone; each server has its own
            while True:
                while self._queue:
                    await self._send({"type": "websocket.send", "text": self._take()})
                if self._closing is not None:
                    code, reason = self._closing
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
                    break
                self._wake.clear()
                await self._wake.wait()
        self.ended.set()

    def _take(self) -> str:
        frame, ephemeral = self._queue.popleft()
        self._queued_bytes -= len(frame)
        self._ephemeral_frames -= ephemeral
        self._sent.set()
        return frame


_TOO_SLOW_REASON = "too slow: reconnect and resume"
