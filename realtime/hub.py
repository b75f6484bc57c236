"""The hub: this process's sockets, and what each conversation's listeners have been told.

For every conversation with local listeners there is a room with a cursor: the last seq that was written to them. A
hint only says that more is there. The next seq is written at once; anything else is read from the database first,
so that no listener ever sees a hole or a repeat. Every COMPARE_EVERY_S, and after every reconnect to Redis, cursors
and memberships are compared with the database, one visit a tenant; hints may all be lost and nothing is missed.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from uuid import UUID

from django.utils import timezone

from messagecore.kernel import metrics, wire
from messagecore.kernel.ids import find_uuid
from messaging.queries.log import LogPosition, MembershipMark, membership_mark
from messaging.services import reading
from messaging.services.memberships import membership_changes
from messaging.services.reading import LogEntry
from realtime.broker import Subscriber, publisher
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_database_thread
from realtime.protocol import frames, hints
from realtime.protocol.frames import MembershipChange
from realtime.protocol.hints import (
    BlockHint,
    EventHint,
    ExpelledHint,
    Hint,
    JoinedHint,
    LeftHint,
    OnlookersHint,
    PresenceHint,
    TypingHint,
    UserHint,
)
from realtime.rooms import LocalTenant, Room
from tenants.cards import TenantCard

logger = logging.getLogger(__name__)

COMPARE_EVERY_S = 10.0
READ_AT_ONCE = 200
"""Log entries read in one go while closing a gap."""

OVERTAKING_S = 0.02
RETRY_AFTER_S = 1.0
MEND_AFTER_S = 0.2
"""When the log and the hints do not agree on who is in: hints that are under way have this long to come."""

REFUSED, RESTARTING = 4003, 1012


class Hub:
    """Lives on the event loop; every method but `receive_from_thread` is called there."""

    def __init__(self) -> None:
        self.tenants: dict[UUID, LocalTenant] = {}
        self._subscriber = Subscriber(self.receive, self.compare_all)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._comparing: asyncio.Task[None] | None = None
        self._one_comparison = asyncio.Lock()
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
        for tenant in self.tenants.values():
            for room in tenant.rooms.values():
                room.close()
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
        meanwhile = connection.meanwhile = {}
        tenant.users.setdefault(connection.user_id, set()).add(connection)
        metrics.CONNECTIONS.inc()
        await self._subscriber.subscribe(card.id)
        started_at = asyncio.get_running_loop().time()
        standing = await read_in_database_thread(reading.standing, card, connection.user_id)
        self._set_blocked(tenant, connection.user_id, standing.blocked, read_at=started_at)
        for position in standing.positions:
            conversation_id = position.conversation_id
            left_since = meanwhile.get(conversation_id, 0) > position.last_seq
            if conversation_id not in connection.conversations and not left_since:
                self._listen(
                    tenant,
                    connection,
                    conversation_id,
                    position.conversation_external_id,
                    after_seq=self._caught_up_seq(tenant, position),
                )
        connection.meanwhile = None

    def detach(self, connection: Connection) -> None:
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
            tenant.blocks_changed_at.pop(connection.user_id, None)
        if not tenant.users:
            del self.tenants[tenant.card.id]
            self._subscriber.unsubscribe(tenant.card.id)

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
            if (heard := tenant.overheard.last_seq(conversation_id)) > after_seq:
                self._fill(tenant, room, up_to=heard)
        room.members.add(connection)
        connection.conversations.add(conversation_id)
        if after_seq == room.cursor:
            room.listeners.add(connection)
        elif after_seq > room.cursor:
            room.newcomers.setdefault(after_seq, set()).add(connection)
            self._fill(tenant, room, up_to=after_seq)
        else:
            catching_up = self._bring_up(tenant, room, connection, after_seq)
            room.catching_up[connection] = asyncio.get_running_loop().create_task(catching_up)

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
        if room is not None:
            room.forget(connection)
            if not room.members:
                tenant.drop(room)

    # --- what is said -----------------------------------------------------------------------------------------------

    def receive_from_thread(self, channel: str, payload: bytes) -> None:
        """Hints of this very process, when Redis does not take them."""
        if self._loop is not None:
            tenant_id = UUID(channel.rpartition(":")[2])
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.receive, tenant_id, payload)

    def receive(self, tenant_id: UUID, payload: bytes) -> None:
        tenant = self.tenants.get(tenant_id)
        hint = None if tenant is None else hints.decode(payload)
        if tenant is not None and hint is not None:
            self._take(tenant, hint)

    def _take(self, tenant: LocalTenant, hint: Hint) -> None:  # noqa: PLR0912 - one branch a kind
        match hint:
            case EventHint():
                room = tenant.rooms.get(hint.conversation_id)
                if room is not None:
                    self._on_event(tenant, room, hint)
                else:
                    tenant.overheard.note(hint.conversation_id, hint.seq)
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
                self._on_left(tenant, hint)
            case TypingHint():
                room = tenant.rooms.get(hint.conversation_id)
                if room is not None:
                    self._on_typing(room, hint)
            case UserHint():
                for connection in tenant.users.get(hint.user_id, ()):
                    connection.deliver(hint.frame)
            case BlockHint():
                self._on_block(tenant, hint)
            case ExpelledHint():
                for connection in list(tenant.users.get(hint.user_id, ())):
                    connection.disconnect(REFUSED, hint.reason, reconnect=False)
            case OnlookersHint():
                room = tenant.rooms.get(hint.conversation_id)
                for connection in () if room is None else room.onlookers:
                    connection.deliver(hint.frame)
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
        is_stale = after_seq < connection.departures.get(conversation_id, 0)
        if conversation_id not in connection.conversations and not is_stale:
            connection.deliver(frame)
            metrics.DELIVERIES.labels("conversation_created").inc()
            self._listen(tenant, connection, conversation_id, external_id, after_seq=after_seq)

    def _on_left(self, tenant: LocalTenant, hint: LeftHint) -> None:
        """The log's own `participant_removed` ends the membership, at its place in the order (`_on_membership`). The
        hint makes sure that it is read; and if it was written already, somebody is wrong, and the database says who."""
        connections = tenant.users.get(hint.user_id, set())
        for connection in connections:
            if connection.meanwhile is not None:
                connection.meanwhile[hint.conversation_id] = hint.after_seq
        room = tenant.rooms.get(hint.conversation_id)
        if room is None or room.members.isdisjoint(connections):
            return
        if room.cursor < hint.after_seq:
            room.onlookers -= connections
            self._fill(tenant, room, up_to=hint.after_seq)
        else:
            self._mend_soon(tenant, hint.user_id)

    def _leave(self, tenant: LocalTenant, connection: Connection, conversation_id: UUID, frame: str) -> None:
        if conversation_id in connection.conversations:
            seq = connection.departures[conversation_id] = tenant.rooms[conversation_id].cursor
            if connection.meanwhile is not None:
                connection.meanwhile[conversation_id] = seq
            self._stop_listening(tenant, connection, conversation_id)
            connection.deliver(frame)
            metrics.DELIVERIES.labels("conversation_removed").inc()

    def _on_event(self, tenant: LocalTenant, room: Room, event: EventHint) -> None:
        if event.seq <= room.cursor:
            return
        if event.seq == room.cursor + 1:
            self._write(tenant, room, event)
            self._write_waiting(tenant, room)
        else:
            room.waiting[event.seq] = event
        if room.waiting:
            self._fill(tenant, room, up_to=max(room.waiting))

    def _write(self, tenant: LocalTenant, room: Room, event: EventHint) -> None:
        room.cursor = event.seq
        for connection in room.listeners:
            connection.deliver(_shown(event, room, connection))
        metrics.DELIVERIES.labels("event").inc(len(room.listeners))
        change = frames.find_membership_change(event.frame)
        if change is not None:
            self._on_membership(tenant, room, change)
        if room.newcomers:
            room.listeners |= room.newcomers.pop(event.seq, set())

    def _write_waiting(self, tenant: LocalTenant, room: Room) -> None:
        """Writes what came early and whose turn it is; forgets what was written already."""
        while (event := room.waiting.pop(room.cursor + 1, None)) is not None:
            self._write(tenant, room, event)
        if room.waiting:
            room.waiting = {seq: event for seq, event in room.waiting.items() if seq > room.cursor}

    def _on_block(self, tenant: LocalTenant, hint: BlockHint) -> None:
        connections = tenant.users.get(hint.user_id)
        if connections:
            tenant.blocks_changed_at[hint.user_id] = asyncio.get_running_loop().time()
        for connection in connections or ():
            blocked = connection.blocked - {hint.blocked_id}
            connection.blocked = blocked | {hint.blocked_id} if hint.is_blocked else blocked
            connection.deliver(hint.frame)

    def _on_membership(self, tenant: LocalTenant, room: Room, change: MembershipChange) -> None:
        """Who was removed hears this event and nothing after it, however the hints came. Who came in was told by a
        hint before; otherwise by the database, soon."""
        connections = tenant.users.get(change.user_id, set())
        if change.added:
            if any(room.id not in connection.conversations for connection in connections):
                self._mend_soon(tenant, change.user_id)
            return
        for connection in list(connections):
            # Newcomers' views begin after this event: they are in again.
            if connection in room.listeners or connection in room.catching_up:
                self._leave(tenant, connection, room.id, frames.conversation_removed(change.data))

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
                try:
                    entries = await read_in_database_thread(
                        reading.read_log, tenant.card, room.id, room.cursor + 1, last
                    )
                except DatabaseError as error:
                    logger.warning("the gap in %s is not closed yet: %s", room.id, error)
                    await asyncio.sleep(RETRY_AFTER_S)
                    continue
                if room.cursor < last and (not entries or entries[-1].seq != last):
                    logger.error("the log of %s has a hole after %d", room.id, room.cursor)
                    return
                for entry in entries:
                    if entry.seq == room.cursor + 1:
                        self._write(tenant, room, _event(room, entry))
                        metrics.GAPS_CLOSED.inc()
                self._write_waiting(tenant, room)
        except Exception:
            logger.exception("the gap in %s waits for the next comparison", room.id)
        finally:
            room.filling = None

    async def _bring_up(self, tenant: LocalTenant, room: Room, connection: Connection, seq: int) -> None:
        """Tells one member what the room's listeners were told after `seq`, then lets it listen with them. Cancelled
        when the connection leaves the room."""
        try:
            while seq < room.cursor:
                last = min(room.cursor, seq + READ_AT_ONCE)
                try:
                    entries = await read_in_database_thread(reading.read_log, tenant.card, room.id, seq + 1, last)
                except DatabaseError as error:
                    logger.warning("a newcomer to %s is not brought up yet: %s", room.id, error)
                    await asyncio.sleep(RETRY_AFTER_S)
                    continue
                if [entry.seq for entry in entries] != list(range(seq + 1, last + 1)):
                    raise LookupError(f"the log of {room.id} has a hole after {seq}")
                for entry in entries:
                    event = _event(room, entry)
                    connection.deliver(_shown(event, room, connection))
                    change = frames.find_membership_change(event.frame)
                    if change is not None and change.user_id == connection.user_id and not change.added:
                        removed = frames.conversation_removed(change.data)
                        self._leave(tenant, connection, room.id, removed)
                        return
                seq = last
            room.listeners.add(connection)
            room.catching_up.pop(connection, None)
        except Exception:
            logger.exception("a newcomer to %s could not be brought up", room.id)
            connection.disconnect(RESTARTING, "the server lost track: reconnect and resume", reconnect=True)

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
        pause_s = COMPARE_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            for tenant in self.tenants.values():
                tenant.overheard.age()
            pause_s = COMPARE_EVERY_S if await self._compare_each() else RETRY_AFTER_S

    async def compare_all(self) -> None:
        """Finds and mends what hints should have said: new events, memberships, users who may not be here."""
        await self._compare_each()

    async def _compare_each(self) -> bool:
        """True if every tenant could be compared."""
        done = True
        async with self._one_comparison:
            for tenant in list(self.tenants.values()):
                try:
                    await self._compare(tenant)
                except DatabaseError as error:
                    done = False
                    logger.warning("a comparison with the database was not possible: %s", error)
                except Exception:
                    done = False
                    logger.exception("a comparison with the database failed")
        return done

    async def _compare(self, tenant: LocalTenant) -> None:
        started_at = asyncio.get_running_loop().time()
        found = await read_in_database_thread(reading.compare, tenant.card, list(tenant.rooms), list(tenant.users))
        for conversation_id, last_seq in found.last_seqs.items():
            room = tenant.rooms.get(conversation_id)
            if room is not None and room.cursor < last_seq:
                self._fill(tenant, room, up_to=last_seq)
        for user_id, connections in list(tenant.users.items()):
            if user_id in found.refused:
                for connection in connections:
                    connection.disconnect(REFUSED, "the user is deactivated or gone", reconnect=False)
                continue
            self._set_blocked(tenant, user_id, found.blocked.get(user_id, frozenset()), read_at=started_at)
            mark = found.marks.get(user_id, MembershipMark(0, 0))
            if any(c.meanwhile is None and membership_mark(c.conversations) != mark for c in connections):
                await self._mend_memberships(tenant, user_id)

    @staticmethod
    def _set_blocked(tenant: LocalTenant, user_id: UUID, blocked: frozenset[UUID], *, read_at: float) -> None:
        """What the database said, unless a hint has said something since it was asked."""
        if tenant.blocks_changed_at.get(user_id, 0.0) < read_at:
            tenant.blocks_changed_at.pop(user_id, None)
            for connection in tenant.users.get(user_id, ()):
                connection.blocked = blocked

    async def compare_user(self, tenant_id: UUID, user_id: UUID) -> None:
        """Lets the user's connections here know of the conversations that the database says they are in, at once.

        Raises DatabaseError.
        """
        tenant = self.tenants.get(tenant_id)
        if tenant is not None:
            async with self._one_comparison:
                await self._mend_memberships(tenant, user_id)

    def _mend_soon(self, tenant: LocalTenant, user_id: UUID) -> None:
        if user_id not in tenant.mending:
            tenant.mending.add(user_id)
            self._spawn(self._mend_later(tenant, user_id))

    async def _mend_later(self, tenant: LocalTenant, user_id: UUID) -> None:
        await asyncio.sleep(MEND_AFTER_S)
        tenant.mending.discard(user_id)
        try:
            async with self._one_comparison:
                await self._mend_memberships(tenant, user_id)
        except DatabaseError as error:
            logger.warning("a user's conversations wait for the next comparison: %s", error)
        except Exception:
            logger.exception("a user's conversations could not be compared")

    async def _mend_memberships(self, tenant: LocalTenant, user_id: UUID) -> None:
        """Joins and leaves what the database says. What hints say while it is being read is newer, and wins."""
        connections = [one for one in tenant.users.get(user_id, ()) if one.meanwhile is None]
        if not connections:
            return
        known = {connection: frozenset(connection.conversations) for connection in connections}
        meanwhile: dict[UUID, int] = {}
        for connection in connections:
            connection.meanwhile = meanwhile
        try:
            changes = await read_in_database_thread(
                membership_changes,
                tenant.card,
                user_id,
                everywhere=frozenset.intersection(*known.values()),
                somewhere=frozenset.union(*known.values()),
            )
        finally:
            for connection in connections:
                connection.meanwhile = None
        for connection in connections:
            if connection not in tenant.users.get(user_id, ()):
                continue
            for conversation_id, last_seq in changes.departed.items():
                if conversation_id in known[connection] & connection.conversations - meanwhile.keys():
                    self._mend_departure(tenant, connection, tenant.rooms[conversation_id], last_seq)
            for arrival in changes.arrived:
                if meanwhile.get(arrival.conversation_id, 0) <= arrival.after_seq:
                    created = {"conversation": arrival.conversation, "timestamp": wire.timestamp(timezone.now())}
                    self._join(
                        tenant,
                        connection,
                        arrival.conversation_id,
                        external_id=arrival.external_id,
                        after_seq=arrival.after_seq,
                        frame=frames.event("conversation_created", created),
                    )
                    room = tenant.rooms.get(arrival.conversation_id)
                    if room is not None and room.cursor < arrival.last_seq:
                        self._fill(tenant, room, up_to=arrival.last_seq)

    def _mend_departure(self, tenant: LocalTenant, connection: Connection, room: Room, last_seq: int | None) -> None:
        """Where the log goes on, it says itself when the user was removed."""
        if last_seq is not None and room.cursor < last_seq:
            self._fill(tenant, room, up_to=last_seq)
            return
        removed = {
            "conversationId": str(room.id),
            "conversationExternalId": room.external_id,
            "reason": "deleted" if last_seq is None else "removed",
            "timestamp": wire.timestamp(timezone.now()),
        }
        self._leave(tenant, connection, room.id, frames.event("conversation_removed", removed))


def _event(room: Room, entry: LogEntry) -> EventHint:
    return EventHint(room.id, entry.seq, frames.event(entry.type, entry.data), entry.author_id)


def _shown(event: EventHint, room: Room, connection: Connection) -> str:
    """The event as this connection may see it."""
    if event.author_id in connection.blocked:
        return frames.event_hidden(room.id, room.external_id, event.seq)
    return event.frame


@cache
def hub() -> Hub:
    """This process's hub."""
    return Hub()
