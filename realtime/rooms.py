"""What a process keeps of the conversations and users that have sockets here; the hub acts on it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from realtime import typing
from realtime.connection import Connection
from realtime.protocol.hints import EventHint
from tenants.cards import TenantCard

MAX_OVERHEARD = 20_000


@dataclass(slots=True, eq=False)
class Room:
    """A conversation with local members. Invariants: every listener was told everything up to `cursor` that it should
    know; every other member is in `apart`, with the seq up to which it holds everything (below the cursor: it is being
    caught up; above: its view begins there; or it is held back); `waiting` holds events that came before their turn."""

    id: UUID
    external_id: str | None
    cursor: int
    listeners: set[Connection] = field(default_factory=set)
    apart: dict[Connection, int] = field(default_factory=dict)
    onlookers: set[Connection] = field(default_factory=set)
    waiting: dict[int, EventHint] = field(default_factory=dict)
    behind: int = 0
    filling: asyncio.Task[None] | None = None
    typists: typing.Typists = field(default_factory=typing.Typists)

    @property
    def has_members(self) -> bool:
        return bool(self.listeners or self.apart)

    def forget(self, connection: Connection) -> None:
        """Takes a connection out of every role."""
        self.listeners.discard(connection)
        self.apart.pop(connection, None)
        self.onlookers.discard(connection)

    def close(self) -> None:
        """Ends what the room has running."""
        self.typists.clear()
        if self.filling is not None:
            self.filling.cancel()


class Overheard:
    """How far the logs of conversations without a room were heard of lately: whoever opens a room next, having read
    the database a moment ago, learns from it what was committed since. Bounded: what is old or too much is forgotten,
    and the regular comparison finds it."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._now: dict[UUID, int] = {}
        self._before: dict[UUID, int] = {}

    def note(self, conversation_id: UUID, seq: int) -> None:
        if len(self._now) >= MAX_OVERHEARD:
            self.age()
        if seq > self._now.get(conversation_id, 0):
            self._now[conversation_id] = seq

    def last_seq(self, conversation_id: UUID) -> int:
        """0 for what was not heard of."""
        return max(self._now.get(conversation_id, 0), self._before.get(conversation_id, 0))

    def age(self) -> None:
        """What was noted before the last call but one is forgotten."""
        self._before, self._now = self._now, {}


@dataclass(slots=True, eq=False)
class LocalTenant:
    """A tenant with sockets in this process."""

    card: TenantCard
    rooms: dict[UUID, Room] = field(default_factory=dict)
    users: dict[UUID, set[Connection]] = field(default_factory=dict)
    by_external_id: dict[str, UUID] = field(default_factory=dict)
    overheard: Overheard = field(default_factory=Overheard)
    mending: set[UUID] = field(default_factory=set)
    # When hints last said whom a user blocks (the loop's clock): what was read of the database before is older.
    blocks_changed_at: dict[UUID, float] = field(default_factory=dict)

    @property
    def connections(self) -> Iterable[Connection]:
        return (connection for connections in self.users.values() for connection in connections)

    def set_blocked(self, user_id: UUID, blocked: frozenset[UUID], *, read_at: float) -> None:
        """What the database said, unless a hint has said something since it was asked."""
        if self.blocks_changed_at.get(user_id, 0.0) < read_at:
            self.blocks_changed_at.pop(user_id, None)
            for connection in self.users.get(user_id, ()):
                connection.blocked = blocked

    def drop(self, room: Room) -> None:
        room.close()
        del self.rooms[room.id]
        if room.external_id is not None and self.by_external_id.get(room.external_id) == room.id:
            del self.by_external_id[room.external_id]
