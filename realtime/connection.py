"""One client's socket as the hub sees it: who it is, what it listens to, and its bounded way out."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from messagecore.kernel import metrics
from tenants.cards import TenantCard

Send = Callable[[dict[str, object]], Awaitable[None]]

TOO_SLOW = 4008


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
        # While the hub reads the memberships: the conversations that the user left in that moment.
        self.left_meanwhile: set[UUID] | None = None
        self._send = send
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._queue: deque[str] = deque()
        self._queued_bytes = 0
        self._held: list[str] | None = []
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._writer: asyncio.Task[None] | None = None

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
        if len(self._queue) >= self._max_frames or self._queued_bytes + len(frame) > self._max_bytes:
            if ephemeral:
                metrics.FRAMES_DROPPED.inc()
                return
            self._queue.clear()
            self.close(TOO_SLOW, "too slow: reconnect and resume")
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """Sends what is queued, then closes. The first close wins."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake.set()

    async def finish(self) -> None:
        """Ends the writer; the socket is gone."""
        self._closing = self._closing or (1000, "")
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            while self._queue:
                frame = self._queue.popleft()
                self._queued_bytes -= len(frame)
                await self._send({"type": "websocket.send", "text": frame})
            if self._closing is not None:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                return
            self._wake.clear()
            if not self._queue and self._closing is None:
                await self._wake.wait()
