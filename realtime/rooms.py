"""What a process keeps of the conversations and users that have sockets here; the hub acts on it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from realtime import typing
from realtime.connection import Connection
from realtime.limits import TokenBucket, tenant_bucket, user_bucket
from realtime.presence.told import Told
from realtime.protocol.hints import EventHint
from tenants.cards import TenantCard

MAX_OVERHEARD = 20_000


@dataclass(slots=True, eq=False)
class Room:
    """A conversation with local members. Invariants: every listener was told everything up to `cursor` that it should
    know; every other member is in `apart`, with the seq up to which it holds everything (below the cursor: it is being
    caught up; above: its view begins there; or it is held back); `waiting` holds events that came before their turn.
    There are many rooms: most have no onlookers and nobody who types, and hold no tables for them."""

    id: UUID
    external_id: str | None
    cursor: int
    listeners: set[Connection] = field(default_factory=set)
    apart: dict[Connection, int] = field(default_factory=dict)
    onlookers: set[Connection] | frozenset[Connection] = frozenset()
    waiting: dict[int, EventHint] = field(default_factory=dict)
    behind: int = 0
    filling: asyncio.Task[None] | None = None
    typists: typing.Typists | None = None

    @property
    def has_members(self) -> bool:
        return bool(self.listeners or self.apart)

    def admit(self, connection: Connection) -> None:
        """Makes a member that holds everything up to the cursor a listener."""
        self.listeners.add(connection)
        self.leave_apart(connection)

    def leave_apart(self, connection: Connection) -> None:
        self.apart.pop(connection, None)
        if not self.apart:
            self.apart = {}  # an emptied dict keeps its table, and there are many rooms

    def look_at(self, connection: Connection) -> None:
        if isinstance(self.onlookers, frozenset):
            self.onlookers = set()
        self.onlookers.add(connection)

    def look_away(self, connection: Connection) -> None:
        if isinstance(self.onlookers, set):
            self.onlookers.discard(connection)

    def forget(self, connection: Connection) -> None:
        """Takes a connection out of every role."""
        self.listeners.discard(connection)
        self.leave_apart(connection)
        self.look_away(connection)

    def close(self) -> None:
        """Ends what the room has running."""
        if self.typists is not None:
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
    told: Told = field(default_factory=Told)
    mending: set[UUID] = field(default_factory=set)
    # When hints last said whom a user blocks (the loop's clock): what was read of the database before is older.
    blocks_changed_at: dict[UUID, float] = field(default_factory=dict)
    connection_count: int = 0
    commands: TokenBucket = field(default_factory=tenant_bucket)
    # Of the users who gave commands here; theirs go with their last connection.
    commands_of: dict[UUID, TokenBucket] = field(default_factory=dict)

    @property
    def connections(self) -> Iterable[Connection]:
        return (connection for connections in self.users.values() for connection in connections)

    def may_ask(self, user_id: UUID) -> bool:
        """Takes one command of a user from what they, and the tenant, may ask."""
        bucket = self.commands_of.get(user_id)
        if bucket is None:
            bucket = self.commands_of[user_id] = user_bucket()
        return bucket.take() and self.commands.take()

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
