"""Bringing a connection up to the present: what it missed of its conversations, read from their logs and written to it
in order, at the pace at which its client reads."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from messagecore.kernel import metrics
from messaging.queries.log import LogSpan
from messaging.services import reading
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_database_thread, read_in_turn
from realtime.protocol import frames
from realtime.protocol.closing import CloseCode
from realtime.protocol.hints import EventHint
from realtime.rooms import LocalTenant, Room
from tenants.cards import TenantCard

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
WRITTEN_TOGETHER = 64 * 1024
"""Characters of frames that go to the socket in one write: a system call for each would cost more than all the rest."""

FIRST_PAGE, LARGEST_PAGE, PAGE_CHARACTERS = 32, 2048, 4 * 1024 * 1024
"""Log entries read in one go, over all conversations: few at first, more while they all go out at once, and as many as
had so many characters if they are like the last ones. What a client does not take is thrown away and read again, so
that a reader who stops costs its bounded queue and no more."""


class Rooms(Protocol):
    """What the hub does for whoever is being caught up."""

    def place(self, tenant: LocalTenant, room: Room, connection: Connection, seq: int) -> None: ...
    def leave(
        self, tenant: LocalTenant, connection: Connection, conversation_id: UUID, frame: str, *, at_seq: int
    ) -> None: ...


class CatchUp:
    """One connection's: its rooms take turns, a page of entries at a time. A room's own events wait for it outside:
    the connection is in the room's `apart`, with the seq up to which it holds everything."""

    def __init__(self, rooms: Rooms, tenant: LocalTenant, connection: Connection) -> None:
        self._rooms = rooms
        self._tenant = tenant
        self._connection = connection
        self._turns: deque[Room] = deque()
        self.task: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._page = FIRST_PAGE
        self.truncated: dict[UUID, int] = {}
        """Conversations whose log's start moved beyond what was being read, by their new start."""
        self.confirmed: dict[UUID, int] = {}
        """Up to which seq of a conversation's log removals of this user are over: the database was asked later."""

    @property
    def is_idle(self) -> bool:
        return self.task is None

    def add(self, room: Room) -> None:
        """Brings the connection up to the room's cursor from where `room.apart` says that it is."""
        if room not in self._turns:
            self._turns.append(room)
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._run())

    def poke(self) -> None:
        """Somebody else moved the connection in a room, or took it out."""
        self._progress.set()

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self._progress.set()

    async def reached(self, targets: Mapping[UUID, int]) -> None:
        """Returns when the connection holds every conversation up to its target, or is out of it."""
        while not self._connection.is_closing and not all(
            self._holds(conversation_id, seq) for conversation_id, seq in targets.items()
        ):
            self._progress.clear()
            await self._progress.wait()

    def _holds(self, conversation_id: UUID, seq: int) -> bool:
        room = self._tenant.rooms.get(conversation_id)
        return room is None or room.apart.get(self._connection, room.cursor) >= seq

    async def _run(self) -> None:
        try:
            while self._turns and not self._connection.is_closing:
                await self._connection.drained()
                spans = self._next_spans()
                if spans:
                    await self._bring(spans)
        except Exception:
            logger.exception("a connection could not be brought up to the present")
            self._connection.disconnect(CloseCode.SERVICE_RESTART, "the server lost track: reconnect and resume")
        finally:
            self.task = None
            self._progress.set()

    def _next_spans(self) -> list[LogSpan]:
        """What to read next: each room's own next entries, as many as the page holds. Rooms that are done go."""
        spans: list[LogSpan] = []
        left = self._page
        for _ in range(len(self._turns)):
            room = self._turns.popleft()
            held = room.apart.get(self._connection)
            if held is None or held > room.cursor:
                continue
            if held == room.cursor:
                self._rooms.place(self._tenant, room, self._connection, held)
                continue
            self._turns.append(room)
            last = min(room.cursor, held + left)
            spans.append(LogSpan(room.id, held + 1, last))
            left -= last - held
            if left == 0:
                break
        self._progress.set()
        return spans

    async def _bring(self, spans: Sequence[LogSpan]) -> None:
        try:
            found = await read_in_turn(read_events, self._tenant.card, spans)
        except DatabaseError as error:
            logger.warning("a connection is not brought up yet: %s", error)
            await asyncio.sleep(RETRY_AFTER_S)
            return
        delivered = characters = 0
        for span in spans:
            events = found[span.conversation_id]
            room = self._tenant.rooms.get(span.conversation_id)
            if room is None or room.apart.get(self._connection) != span.first_seq - 1:
                continue  # left, or sent back, while the log was read
            if len(events) != span.last_seq - span.first_seq + 1:
                await self._skip_what_is_gone(room, span)
                continue
            delivered += (count := self._deliver(room, events))
            characters += sum(len(event.frame) for event in events)
            if count < len(events) and room.id in self._connection.conversations:
                self._page = max(FIRST_PAGE, delivered)
                return
        as_large = max(FIRST_PAGE, delivered * PAGE_CHARACTERS // max(1, characters))
        self._page = min(LARGEST_PAGE, self._page * 2, as_large)

    def _deliver(self, room: Room, events: Sequence[EventHint]) -> int:
        """Gives the connection the room's next events, as many as it has room for; how many. Those after its user's
        own removal are not theirs."""
        connection = self._connection
        together: list[str] = []
        size = count = 0
        for event in events:
            frame = shown(event, room, connection)
            if not connection.has_room_for(size + len(frame)):
                break
            together.append(frame)
            size += len(frame)
            count += 1
            removed = self._find_removal(room, event)
            if size >= WRITTEN_TOGETHER or removed is not None:
                self._hand_over(room, together, event.seq)
                together, size = [], 0
            if removed is not None:
                self._rooms.leave(self._tenant, connection, room.id, removed, at_seq=event.seq)
                return count
        if together:
            self._hand_over(room, together, events[count - 1].seq)
        return count

    def _hand_over(self, room: Room, together: Sequence[str], seq: int) -> None:
        self._connection.deliver_all(together)
        room.apart[self._connection] = seq
        metrics.DELIVERIES.labels("event").inc(len(together))

    def _find_removal(self, room: Room, event: EventHint) -> str | None:
        """The `conversation_removed` that follows, if the event ends the membership of the connection's user."""
        change = frames.find_membership_change(event.frame)
        if change is None or change.added or change.user_id != self._connection.user_id:
            return None
        is_over = event.seq <= self.confirmed.get(room.id, 0)
        return None if is_over else frames.conversation_removed(change.data)

    async def _skip_what_is_gone(self, room: Room, span: LogSpan) -> None:
        """Retention moved the log's start while it was read; nothing else makes a hole."""
        starts = await read_in_database_thread(reading.log_starts, self._tenant.card, [room.id])
        start = starts.get(room.id)
        if start is None:
            await asyncio.sleep(RETRY_AFTER_S)  # the conversation is gone, and its removal is on its way
            return
        if start <= span.first_seq:
            raise LookupError(f"the log of {room.id} has a hole after {span.first_seq - 1}")
        if room.apart.get(self._connection) == span.first_seq - 1:
            self.truncated[room.id] = start
            room.apart[self._connection] = min(start - 1, room.cursor)


def read_events(tenant: TenantCard, spans: Iterable[LogSpan]) -> dict[UUID, list[EventHint]]:
    """On a database thread: the entries of each span, encoded."""
    found = reading.read_log(tenant, list(spans))
    return {
        conversation_id: [
            EventHint(conversation_id, entry.seq, frames.event(entry.type, entry.data), entry.author_id)
            for entry in entries
        ]
        for conversation_id, entries in found.items()
    }


def shown(event: EventHint, room: Room, connection: Connection) -> str:
    """The event's frame as this connection may see it."""
    if connection.blocked and event.author_id in connection.blocked:
        return frames.event_hidden(room.id, room.external_id, event.seq)
    return event.frame
