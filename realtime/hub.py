"""The hub: this process's sockets, and what each conversation's listeners have been told.

For every conversation with local listeners there is a room with a cursor: the last seq that was written to them. A
hint only says that more is there. The next seq is written at once; anything else is read from the database first,
so that no listener ever sees a hole or a repeat. Every COMPARE_EVERY_S, and after every reconnect to Redis, cursors
and memberships are compared with the database, one visit a tenant; hints may all be lost and nothing is missed.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from django.db import DatabaseError
from django.utils import timezone

from messagecore.kernel import metrics, wire
from messagecore.kernel.ids import find_uuid
from messaging.queries.log import LogPosition, MembershipMark, membership_mark
from messaging.services import reading
from realtime import typing
from realtime.broker import Subscriber, publisher
from realtime.connection import Connection
from realtime.database import in_database_thread
from realtime.protocol import frames, hints
from realtime.protocol.hints import EventHint, Hint, JoinedHint, LeftHint, PresenceHint, TypingHint
from tenants.cards import TenantCard

logger = logging.getLogger(__name__)

COMPARE_EVERY_S = 10.0
READ_AT_ONCE = 200
"""Log entries read in one go while closing a gap."""

OVERTAKING_S = 0.02
RETRY_AFTER_S = 1.0

REFUSED = 4003


@dataclass(slots=True, eq=False)
class Room:
    """A conversation with local members. Invariant: every listener was told everything up to `cursor` that it
    should know; `waiting` holds frames that came before their turn. A member that is not a listener yet is either
    ahead (`newcomers`, by the seq after which their view begins) or being brought up to the cursor."""

    id: UUID
    external_id: str | None
    cursor: int
    members: set[Connection] = field(default_factory=set)
    listeners: set[Connection] = field(default_factory=set)
    newcomers: dict[int, set[Connection]] = field(default_factory=dict)
    onlookers: set[Connection] = field(default_factory=set)
    waiting: dict[int, str] = field(default_factory=dict)
    behind: int = 0
    filling: asyncio.Task[None] | None = None
    typists: typing.Typists = field(default_factory=typing.Typists)


@dataclass(slots=True, eq=False)
class LocalTenant:
    """A tenant with sockets in this process."""

    card: TenantCard
    rooms: dict[UUID, Room] = field(default_factory=dict)
    users: dict[UUID, set[Connection]] = field(default_factory=dict)
    by_external_id: dict[str, UUID] = field(default_factory=dict)

    @property
    def connections(self) -> Iterable[Connection]:
        return (connection for connections in self.users.values() for connection in connections)


class Hub:
    """Lives on the event loop; every method but `receive_from_thread` is called there."""

    def __init__(self) -> None:
        self.tenants: dict[UUID, LocalTenant] = {}
        self._subscriber = Subscriber(self.receive, self.compare_all)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._comparing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._subscriber.start()
        self._comparing = self._loop.create_task(self._compare_regularly())
        publisher().fallback = self.receive_from_thread

    async def stop(self) -> None:
        publisher().fallback = None
        if self._comparing is not None:
            self._comparing.cancel()
        for task in self._tasks:
            task.cancel()
        await self._subscriber.stop()

    # --- who listens ------------------------------------------------------------------------------------------------

    async def attach(self, connection: Connection, card: TenantCard) -> None:
        """Makes an identified connection hear its conversations from now on.

        Order matters: the tenant's hints are subscribed to and the user is known here before the memberships are
        read, so that what is committed while they are being read is heard. Frames wait in the connection until it
        is opened.
        """
        assert connection.user_id is not None
        tenant = self.tenants.setdefault(card.id, LocalTenant(card))
        tenant.card = card
        tenant.users.setdefault(connection.user_id, set()).add(connection)
        metrics.CONNECTIONS.inc()
        await self._subscriber.subscribe(card.id)
        left_meanwhile = connection.left_meanwhile = set()
        for position in await in_database_thread(reading.positions, card, connection.user_id):
            if position.conversation_id not in left_meanwhile:
                self._listen(
                    tenant,
                    connection,
                    position.conversation_id,
                    position.conversation_external_id,
                    after_seq=self._caught_up_seq(tenant, position),
                )
        connection.left_meanwhile = None

    async def detach(self, connection: Connection) -> None:
        if connection.tenant is None or connection.user_id is None:
            return
        tenant = self.tenants.get(connection.tenant.id)
        others = None if tenant is None else tenant.users.get(connection.user_id)
        if tenant is None or others is None or connection not in others:
            return
        others.discard(connection)
        metrics.CONNECTIONS.dec()
        for conversation_id in list(connection.conversations):
            self._stop_listening(tenant, connection, conversation_id)
        if not others:
            del tenant.users[connection.user_id]
        if not tenant.users:
            del self.tenants[tenant.card.id]
            await self._subscriber.unsubscribe(tenant.card.id)

    def find_room(self, connection: Connection, any_id: str) -> Room | None:
        """The room of a conversation that the connection is in, by either id; the server's wins."""
        if connection.tenant is None:
            return None
        tenant = self.tenants[connection.tenant.id]
        for conversation_id in (find_uuid(any_id), tenant.by_external_id.get(any_id)):
            if conversation_id is not None and conversation_id in connection.conversations:
                return tenant.rooms[conversation_id]
        return None

    def look_at(self, connection: Connection, room: Room) -> None:
        """Adds typing, presence and read events of the conversation."""
        room.onlookers.add(connection)
        connection.looking_at.add(room.id)

    def look_away(self, connection: Connection, room: Room) -> None:
        room.onlookers.discard(connection)
        connection.looking_at.discard(room.id)

    def _listen(
        self,
        tenant: LocalTenant,
        connection: Connection,
        conversation_id: UUID,
        external_id: str | None,
        *,
        after_seq: int,
    ) -> None:
        room = tenant.rooms.get(conversation_id)
        if room is None:
            room = tenant.rooms[conversation_id] = Room(conversation_id, external_id, cursor=after_seq)
            if external_id is not None:
                tenant.by_external_id[external_id] = conversation_id
        room.members.add(connection)
        connection.conversations.add(conversation_id)
        if after_seq == room.cursor:
            room.listeners.add(connection)
        elif after_seq > room.cursor:
            room.newcomers.setdefault(after_seq, set()).add(connection)
            self._fill(tenant, room, up_to=after_seq)
        else:
            self._spawn(self._bring_up(tenant, room, connection, after_seq))

    @staticmethod
    def _caught_up_seq(tenant: LocalTenant, position: LogPosition) -> int:
        """Where a connection that just opened begins: at the room's cursor if that is further than what was read of
        the database. What lies between was committed before `authenticated`, so the client's own first read has it."""
        room = tenant.rooms.get(position.conversation_id)
        return position.last_seq if room is None else max(room.cursor, position.last_seq)

    def _stop_listening(self, tenant: LocalTenant, connection: Connection, conversation_id: UUID) -> None:
        connection.conversations.discard(conversation_id)
        connection.looking_at.discard(conversation_id)
        room = tenant.rooms.get(conversation_id)
        if room is None:
            return
        room.members.discard(connection)
        room.listeners.discard(connection)
        room.onlookers.discard(connection)
        for newcomers in room.newcomers.values():
            newcomers.discard(connection)
        if not room.members:
            room.typists.clear()
            if room.filling is not None:
                room.filling.cancel()
            del tenant.rooms[conversation_id]
            if room.external_id is not None and tenant.by_external_id.get(room.external_id) == conversation_id:
                del tenant.by_external_id[room.external_id]

    # --- what is said -----------------------------------------------------------------------------------------------

    def receive_from_thread(self, channel: str, payload: bytes) -> None:
        """Hints of this very process, when Redis does not take them."""
        if self._loop is not None:
            tenant_id = UUID(channel.rpartition(":")[2])
            self._loop.call_soon_threadsafe(self.receive, tenant_id, payload)

    def receive(self, tenant_id: UUID, payload: bytes) -> None:
        tenant = self.tenants.get(tenant_id)
        hint = None if tenant is None else hints.decode(payload)
        if tenant is not None and hint is not None:
            self._take(tenant, hint)

    def _take(self, tenant: LocalTenant, hint: Hint) -> None:
        match hint:
            case EventHint():
                room = tenant.rooms.get(hint.conversation_id)
                if room is not None:
                    self._on_event(tenant, room, hint.seq, hint.frame)
            case JoinedHint():
                for user_id in hint.user_ids:
                    for connection in tenant.users.get(user_id, ()):
                        self._join(
                            tenant,
                            connection,
                            hint.conversation_id,
                            external_id=hint.external_id,
                            after_seq=hint.after_seq,
                            frame=hint.frame,
                        )
            case LeftHint():
                for connection in list(tenant.users.get(hint.user_id, ())):
                    if connection.left_meanwhile is not None:
                        connection.left_meanwhile.add(hint.conversation_id)
                    self._leave(tenant, connection, hint.conversation_id, hint.frame)
            case TypingHint():
                room = tenant.rooms.get(hint.conversation_id)
                if room is not None:
                    self._on_typing(room, hint)
            case PresenceHint():
                for connection in self._onlookers(tenant, hint):
                    connection.deliver(hint.frame, ephemeral=True)

    def _join(
        self,
        tenant: LocalTenant,
        connection: Connection,
        conversation_id: UUID,
        *,
        external_id: str | None,
        after_seq: int,
        frame: str,
    ) -> None:
        """Tells a connection of a conversation that it did not know, and lets it hear what comes after `after_seq`."""
        if conversation_id not in connection.conversations:
            connection.deliver(frame)
            metrics.DELIVERIES.labels("conversation_created").inc()
            self._listen(tenant, connection, conversation_id, external_id, after_seq=after_seq)

    def _leave(self, tenant: LocalTenant, connection: Connection, conversation_id: UUID, frame: str) -> None:
        if conversation_id in connection.conversations:
            self._stop_listening(tenant, connection, conversation_id)
            connection.deliver(frame)
            metrics.DELIVERIES.labels("conversation_removed").inc()

    def _on_event(self, tenant: LocalTenant, room: Room, seq: int, frame: str) -> None:
        if seq <= room.cursor:
            return
        if seq == room.cursor + 1:
            self._write(room, seq, frame)
            self._write_waiting(room)
        else:
            room.waiting[seq] = frame
        if room.waiting:
            self._fill(tenant, room, up_to=max(room.waiting))

    def _write(self, room: Room, seq: int, frame: str) -> None:
        room.cursor = seq
        for connection in room.listeners:
            connection.deliver(frame)
        if room.newcomers:
            room.listeners |= room.newcomers.pop(seq, set())
        metrics.DELIVERIES.labels("event").inc(len(room.listeners))

    def _write_waiting(self, room: Room) -> None:
        """Writes what came early and whose turn it is; forgets what was written already."""
        while (frame := room.waiting.pop(room.cursor + 1, None)) is not None:
            self._write(room, room.cursor + 1, frame)
        if room.waiting:
            room.waiting = {seq: frame for seq, frame in room.waiting.items() if seq > room.cursor}

    def _fill(self, tenant: LocalTenant, room: Room, *, up_to: int) -> None:
        """Sees to it that the room's listeners get everything up to `up_to`, from the database where need be."""
        room.behind = max(room.behind, up_to)
        if room.filling is None:
            room.filling = asyncio.get_running_loop().create_task(self._close_gap(tenant, room))

    async def _close_gap(self, tenant: LocalTenant, room: Room) -> None:
        """Hints of commits that came close together may overtake each other; what is still missing after a moment is
        read from the log. Hints go on being written in their turn meanwhile."""
        try:
            await asyncio.sleep(OVERTAKING_S)
            while room.cursor < room.behind and room.members:
                last = min(room.behind, room.cursor + READ_AT_ONCE, *(seq - 1 for seq in room.waiting))
                entries = await in_database_thread(reading.read_log, tenant.card, room.id, room.cursor + 1, last)
                if room.cursor < last and (not entries or entries[-1].seq != last):
                    logger.error("the log of %s has a hole after %d", room.id, room.cursor)
                    return
                for entry in entries:
                    if entry.seq == room.cursor + 1:
                        self._write(room, entry.seq, frames.event(entry.type, entry.data))
                        metrics.GAPS_CLOSED.inc()
                self._write_waiting(room)
        except DatabaseError:
            logger.warning("the gap in %s waits for the next comparison", room.id, exc_info=True)
        finally:
            room.filling = None

    async def _bring_up(self, tenant: LocalTenant, room: Room, connection: Connection, seq: int) -> None:
        """Tells one member what the room's listeners were told after `seq`, then lets it listen with them."""
        while connection in room.members and seq < room.cursor:
            last = min(room.cursor, seq + READ_AT_ONCE)
            try:
                entries = await in_database_thread(reading.read_log, tenant.card, room.id, seq + 1, last)
            except DatabaseError:
                await asyncio.sleep(RETRY_AFTER_S)
                continue
            if not entries or entries[0].seq != seq + 1 or connection not in room.members:
                break
            for entry in entries:
                connection.deliver(frames.event(entry.type, entry.data))
            seq = entries[-1].seq
        if connection in room.members:
            room.listeners.add(connection)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_typing(self, room: Room, hint: TypingHint) -> None:
        def show(is_typing: bool) -> None:
            data = {
                "conversationId": str(room.id),
                "conversationExternalId": room.external_id,
                "userId": str(hint.user_id),
                "externalUserId": hint.external_user_id,
                "isTyping": is_typing,
            }
            frame = frames.event("user_typing", data)
            for connection in room.onlookers:
                if connection.user_id != hint.user_id:
                    connection.deliver(frame, ephemeral=True)

        room.typists.update(hint.user_id, is_typing=hint.is_typing, show=show)

    def _onlookers(self, tenant: LocalTenant, hint: PresenceHint) -> set[Connection]:
        found: set[Connection] = set()
        for conversation_id in hint.conversation_ids:
            room = tenant.rooms.get(conversation_id)
            if room is not None:
                found |= room.onlookers
        return {connection for connection in found if connection.user_id != hint.user_id}

    # --- what was missed --------------------------------------------------------------------------------------------

    async def _compare_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_EVERY_S)
            await self.compare_all()

    async def compare_all(self) -> None:
        """Finds and mends what hints should have said: new events, memberships, users who may not be here."""
        for tenant in list(self.tenants.values()):
            try:
                await self._compare(tenant)
            except DatabaseError:
                logger.warning("comparison with the database failed", exc_info=True)

    async def _compare(self, tenant: LocalTenant) -> None:
        found = await in_database_thread(reading.compare, tenant.card, list(tenant.rooms), list(tenant.users))
        for conversation_id, last_seq in found.last_seqs.items():
            room = tenant.rooms.get(conversation_id)
            if room is not None and room.cursor < last_seq:
                self._fill(tenant, room, up_to=last_seq)
        for user_id, connections in list(tenant.users.items()):
            if user_id in found.refused:
                for connection in connections:
                    connection.close(REFUSED, "the user is deactivated or gone")
                continue
            mark = found.marks.get(user_id, MembershipMark(0, 0))
            if any(c.left_meanwhile is None and membership_mark(c.conversations) != mark for c in connections):
                await self._mend_memberships(tenant, user_id)

    async def _mend_memberships(self, tenant: LocalTenant, user_id: UUID) -> None:
        """Joins and leaves what the database says. What hints say while it is being read is newer, and wins."""
        before = {connection: set(connection.conversations) for connection in tenant.users.get(user_id, ())}
        for connection in before:
            connection.left_meanwhile = set()
        positions = {p.conversation_id: p for p in await in_database_thread(reading.positions, tenant.card, user_id)}
        for connection, known in before.items():
            if connection not in tenant.users.get(user_id, ()):
                continue
            left_meanwhile, connection.left_meanwhile = connection.left_meanwhile or set(), None
            for conversation_id in (known & connection.conversations) - positions.keys():
                room = tenant.rooms[conversation_id]
                removed = {
                    "conversationId": str(conversation_id),
                    "conversationExternalId": room.external_id,
                    "reason": "removed",
                    "timestamp": wire.timestamp(timezone.now()),
                }
                self._leave(tenant, connection, conversation_id, frames.event("conversation_removed", removed))
            for conversation_id in positions.keys() - connection.conversations - left_meanwhile:
                conversation = await in_database_thread(reading.conversation_for_newcomer, tenant.card, conversation_id)
                if conversation is None or connection not in tenant.users.get(user_id, ()):
                    continue
                created = {"conversation": conversation, "timestamp": wire.timestamp(timezone.now())}
                self._join(
                    tenant,
                    connection,
                    conversation_id,
                    external_id=positions[conversation_id].conversation_external_id,
                    after_seq=positions[conversation_id].last_seq,
                    frame=frames.event("conversation_created", created),
                )


@cache
def hub() -> Hub:
    """This process's hub."""
    return Hub()
