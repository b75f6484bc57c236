"""The hub: this process's sockets, and what each conversation's listeners have been told.

For every conversation with local listeners there is a room with a cursor: the last seq that was written to them. A
hint only says that more is there. The next seq is written at once; anything else is read from the database first,
so that no listener ever sees a hole or a repeat. Whoever holds less than the cursor is brought up to it apart from the
others (realtime.catchup). What hints should have said and did not is found by comparisons (realtime.comparing).
"""

import asyncio
import logging
from contextlib import suppress
from functools import cache
from uuid import UUID

from messagecore.kernel import metrics
from messagecore.kernel.ids import find_uuid
from messaging.queries.log import LogPosition, LogSpan
from messaging.services import reading
from realtime.broker import Subscriber, publisher
from realtime.catchup import CatchUp, read_events, shown
from realtime.comparing import Comparison
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_database_thread, read_in_turn
from realtime.protocol import frames, hints
from realtime.protocol.closing import CloseCode
from realtime.protocol.frames import MembershipChange
from realtime.protocol.hints import (
    BlockHint,
    EventHint,
    ExpelledHint,
    Hint,
    JoinedHint,
    LeftHint,
    OnlookersHint,
    PresenceChange,
    PresenceHint,
    TypingHint,
    UserHint,
)
from realtime.rooms import LocalTenant, Room
from realtime.typing import Typists
from tenants.cards import TenantCard

logger = logging.getLogger(__name__)

READ_AT_ONCE = 200
"""Log entries read in one go while closing a gap."""

OVERTAKING_S = 0.02
RETRY_AFTER_S = 1.0


class Hub:
    """Lives on the event loop; every method but `receive_from_thread` is called there."""

    def __init__(self) -> None:
        self.tenants: dict[UUID, LocalTenant] = {}
        self.comparison = Comparison(self)
        self._subscriber = Subscriber(self.receive, self.comparison.compare_all)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.catch_ups: dict[Connection, CatchUp] = {}

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._subscriber.start()
        self.comparison.start()
        publisher().fallback = self.receive_from_thread

    async def stop(self) -> None:
        publisher().fallback = None
        self.comparison.stop()
        for catch_up in self.catch_ups.values():
            catch_up.close()
        for tenant in self.tenants.values():
            for room in tenant.rooms.values():
                room.close()
        await self._subscriber.stop()

    # --- who listens ------------------------------------------------------------------------------------------------

    async def attach(self, connection: Connection, card: TenantCard) -> None:
        """Makes an identified connection a member of its conversations, which hold back their events until `release`
        or a resume says from where the client wants them.

        Order matters: the tenant's hints are subscribed to and the user is known here before the memberships are
        read, so that what is committed while they are being read is heard. Other frames wait in the connection until
        it is opened.
        """
        assert connection.user_id is not None
        tenant = self.tenants.setdefault(card.id, LocalTenant(card))
        tenant.card = card
        meanwhile = connection.meanwhile = {}
        connection.held_back = {}
        tenant.users.setdefault(connection.user_id, set()).add(connection)
        tenant.connection_count += 1
        metrics.CONNECTIONS.inc()
        await self._subscriber.subscribe(card.id)
        started_at = asyncio.get_running_loop().time()
        standing = await read_in_turn(reading.standing, card, connection.user_id)
        tenant.set_blocked(connection.user_id, standing.blocked, read_at=started_at)
        for position in standing.positions:
            conversation_id = position.conversation_id
            left_since = meanwhile.get(conversation_id, 0) > position.last_seq
            if conversation_id not in connection.conversations and not left_since:
                self.listen(
                    tenant,
                    connection,
                    conversation_id,
                    position.conversation_external_id,
                    after_seq=self._caught_up_seq(tenant, position),
                    held_back=True,
                )
        connection.meanwhile = None

    def release(self, connection: Connection) -> None:
        """Lets a connection hear what its conversations still hold back: the client does not resume."""
        held_back, connection.held_back = connection.held_back or {}, None
        for conversation_id, created in held_back.items():
            if created is not None:
                connection.deliver(created)
                metrics.DELIVERIES.labels("conversation_created").inc()
            self.release_room(connection, conversation_id)

    def release_room(self, connection: Connection, conversation_id: UUID, *, after_seq: int | None = None) -> None:
        """Lets it hear one conversation, from `after_seq` on instead of from where it began."""
        tenant = self.tenant_of(connection)
        if connection.held_back is not None:
            connection.held_back.pop(conversation_id, None)
        room = None if tenant is None else tenant.rooms.get(conversation_id)
        if tenant is None or room is None or conversation_id not in connection.conversations:
            return
        held = room.apart.get(connection, room.cursor) if after_seq is None else after_seq
        self.place(tenant, room, connection, held)

    def detach(self, connection: Connection) -> None:
        tenant = self.tenant_of(connection)
        if tenant is None or connection.user_id is None:
            return
        others = tenant.users.get(connection.user_id, set())
        if connection not in others:
            return
        others.discard(connection)
        tenant.connection_count -= 1
        metrics.CONNECTIONS.dec()
        catch_up = self.catch_ups.pop(connection, None)
        if catch_up is not None:
            catch_up.close()
        for conversation_id in list(connection.conversations):
            self._stop_listening(tenant, connection, conversation_id)
        if not others:
            del tenant.users[connection.user_id]
            tenant.blocks_changed_at.pop(connection.user_id, None)
            tenant.commands_of.pop(connection.user_id, None)
        if not tenant.users:
            del self.tenants[tenant.card.id]
            self._subscriber.unsubscribe(tenant.card.id)

    def tenant_of(self, connection: Connection) -> LocalTenant | None:
        return None if connection.tenant is None else self.tenants.get(connection.tenant.id)

    def catch_up_of(self, connection: Connection, tenant: LocalTenant) -> CatchUp:
        catch_up = self.catch_ups.get(connection)
        if catch_up is None:
            catch_up = self.catch_ups[connection] = CatchUp(self, tenant, connection)
        return catch_up

    def end_catch_up(self, connection: Connection) -> None:
        """Forgets how a connection was caught up, if it is; the next time begins anew."""
        catch_up = self.catch_ups.get(connection)
        if catch_up is not None and catch_up.is_idle:
            del self.catch_ups[connection]

    def find_room(self, connection: Connection, any_id: str) -> Room | None:
        """The room of a conversation that the connection is in, by either id; the server's wins."""
        tenant = self.tenant_of(connection)
        if tenant is None:
            return None
        for conversation_id in (find_uuid(any_id), tenant.by_external_id.get(any_id)):
            if conversation_id is not None and conversation_id in connection.conversations:
                return tenant.rooms[conversation_id]
        return None

    def look_at(self, connection: Connection, room: Room) -> None:
        """Adds typing, presence and read events of the conversation."""
        room.look_at(connection)
        connection.looking_at |= {room.id}

    def look_away(self, connection: Connection, room: Room) -> None:
        room.look_away(connection)
        connection.looking_at -= {room.id}

    def listen(
        self,
        tenant: LocalTenant,
        connection: Connection,
        conversation_id: UUID,
        external_id: str | None,
        *,
        after_seq: int,
        held_back: bool = False,
    ) -> None:
        """Makes the connection a member of the conversation's room, holding everything up to `after_seq`."""
        room = tenant.rooms.get(conversation_id)
        if room is None:
            room = tenant.rooms[conversation_id] = Room(conversation_id, external_id, cursor=after_seq)
            if external_id is not None:
                tenant.by_external_id[external_id] = conversation_id
            if (heard := tenant.overheard.last_seq(conversation_id)) > after_seq:
                self.fill(tenant, room, up_to=heard)
        connection.conversations[room.id] = None
        if not held_back:
            self.place(tenant, room, connection, after_seq)
            return
        assert connection.held_back is not None
        connection.held_back.setdefault(room.id)
        room.apart[connection] = after_seq
        if after_seq > room.cursor:
            self.fill(tenant, room, up_to=after_seq)

    def place(self, tenant: LocalTenant, room: Room, connection: Connection, seq: int) -> None:
        """Puts a member who holds everything up to `seq` where it belongs: among the listeners, or apart until the
        room's cursor has come to it, or it to the cursor."""
        if seq == room.cursor:
            room.admit(connection)
        else:
            room.listeners.discard(connection)
            room.apart[connection] = seq
            if seq > room.cursor:
                self.fill(tenant, room, up_to=seq)
            else:
                self.catch_up_of(connection, tenant).add(room)
        self._poke(connection)

    @staticmethod
    def _caught_up_seq(tenant: LocalTenant, position: LogPosition) -> int:
        """Where a connection that just opened begins: at the room's cursor if that is further than what was read of
        the database. What lies between was committed before `authenticated`, so the client's own first read has it."""
        room = tenant.rooms.get(position.conversation_id)
        return position.last_seq if room is None else max(room.cursor, position.last_seq)

    def _stop_listening(self, tenant: LocalTenant, connection: Connection, conversation_id: UUID) -> None:
        connection.conversations.pop(conversation_id, None)
        connection.looking_at -= {conversation_id}
        if connection.held_back is not None:
            connection.held_back.pop(conversation_id, None)
        room = tenant.rooms.get(conversation_id)
        if room is not None:
            room.forget(connection)
            if not room.has_members:
                tenant.drop(room)
        self._poke(connection)

    def _poke(self, connection: Connection) -> None:
        catch_up = self.catch_ups.get(connection)
        if catch_up is not None:
            catch_up.poke()

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
                        self.join(
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
                    connection.disconnect(CloseCode.REFUSED, hint.reason)
            case OnlookersHint():
                room = tenant.rooms.get(hint.conversation_id)
                for connection in () if room is None else room.onlookers:
                    connection.deliver(hint.frame)
            case PresenceHint():
                self._on_presence(tenant, hint)

    def join(
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
        if conversation_id in connection.conversations or is_stale:
            return
        held_back = connection.held_back is not None
        if connection.held_back is not None:
            # The client may hold some of it and resume: then it is no news.
            connection.held_back[conversation_id] = frame
        else:
            connection.deliver(frame)
            metrics.DELIVERIES.labels("conversation_created").inc()
        self.listen(tenant, connection, conversation_id, external_id, after_seq=after_seq, held_back=held_back)

    def _on_left(self, tenant: LocalTenant, hint: LeftHint) -> None:
        """The log's own `participant_removed` ends the membership, at its place in the order (`_on_membership`). The
        hint makes sure that it is read; and if it was written already, somebody is wrong, and the database says who."""
        connections = tenant.users.get(hint.user_id, set())
        for connection in connections:
            if connection.meanwhile is not None:
                connection.meanwhile[hint.conversation_id] = hint.after_seq
        room = tenant.rooms.get(hint.conversation_id)
        if room is None or not any(room.id in connection.conversations for connection in connections):
            return
        if room.cursor < hint.after_seq:
            for connection in connections:
                room.look_away(connection)
            self.fill(tenant, room, up_to=hint.after_seq)
        else:
            self.comparison.mend_soon(tenant, hint.user_id)

    def leave(
        self, tenant: LocalTenant, connection: Connection, conversation_id: UUID, frame: str, *, at_seq: int
    ) -> None:
        """Ends a membership as the log's event `at_seq` did: what is said of it from before is stale."""
        if conversation_id in connection.conversations:
            connection.departures[conversation_id] = at_seq
            if connection.meanwhile is not None:
                connection.meanwhile[conversation_id] = at_seq
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
            self.fill(tenant, room, up_to=max(room.waiting))

    def _write(self, tenant: LocalTenant, room: Room, event: EventHint) -> None:
        room.cursor = event.seq
        for connection in room.listeners:
            connection.deliver(shown(event, room, connection))
        metrics.DELIVERIES.labels("event").inc(len(room.listeners))
        change = frames.find_membership_change(event.frame)
        if change is not None:
            self._on_membership(tenant, room, event.seq, change)
        if room.apart:
            self._admit(tenant, room)

    def _admit(self, tenant: LocalTenant, room: Room) -> None:
        """Lets those listen whose view begins after the cursor."""
        for connection in [one for one, seq in room.apart.items() if seq == room.cursor]:
            if connection.held_back is None or room.id not in connection.held_back:
                self.place(tenant, room, connection, room.cursor)

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

    def _on_membership(self, tenant: LocalTenant, room: Room, seq: int, change: MembershipChange) -> None:
        """Who was removed hears this event and nothing after it, however the hints came. Who came in was told by a
        hint before; otherwise by the database, soon."""
        connections = tenant.users.get(change.user_id, set())
        if change.added:
            if any(room.id not in connection.conversations for connection in connections):
                self.comparison.mend_soon(tenant, change.user_id)
            return
        for connection in list(connections):
            if room.id in connection.conversations and not self._is_in_again(room, connection, seq):
                self.leave(tenant, connection, room.id, frames.conversation_removed(change.data), at_seq=seq)

    def _is_in_again(self, room: Room, connection: Connection, seq: int) -> bool:
        """Whether a member that is apart came back after the removal at `seq`: its view begins there or later, or the
        database said so."""
        catch_up = self.catch_ups.get(connection)
        confirmed = 0 if catch_up is None else catch_up.confirmed.get(room.id, 0)
        return max(room.apart.get(connection, 0), confirmed) >= seq

    def fill(self, tenant: LocalTenant, room: Room, *, up_to: int) -> None:
        """Sees to it that the room's listeners get everything up to `up_to`, from the database where need be."""
        room.behind = max(room.behind, up_to)
        if room.filling is None and room.cursor < room.behind:
            room.filling = asyncio.get_running_loop().create_task(self._close_gap(tenant, room))

    async def _close_gap(self, tenant: LocalTenant, room: Room) -> None:
        """Hints of commits that came close together may overtake each other; what is still missing after a moment is
        read from the log. Hints go on being written in their turn meanwhile."""
        try:
            await asyncio.sleep(OVERTAKING_S)
            while room.cursor < room.behind and room.has_members:
                last = min(room.behind, room.cursor + READ_AT_ONCE, *(seq - 1 for seq in room.waiting))
                span = LogSpan(room.id, room.cursor + 1, last)
                try:
                    found = await read_in_database_thread(read_events, tenant.card, [span])
                except DatabaseError as error:
                    logger.warning("the gap in %s is not closed yet: %s", room.id, error)
                    await asyncio.sleep(RETRY_AFTER_S)
                    continue
                events = found[room.id]
                if room.cursor < last and (not events or events[-1].seq != last):
                    logger.error("the log of %s has a hole after %d", room.id, room.cursor)
                    return
                for event in events:
                    if event.seq == room.cursor + 1:
                        self._write(tenant, room, event)
                        metrics.GAPS_CLOSED.inc()
                self._write_waiting(tenant, room)
        except Exception:
            logger.exception("the gap in %s waits for the next comparison", room.id)
        finally:
            room.filling = None
            for connection in room.listeners & self.catch_ups.keys():
                self._poke(connection)  # it may wait for just this, to say that it has resumed

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

        if room.typists is None:
            room.typists = Typists()
        room.typists.update(hint.user_id, is_typing=hint.is_typing, show=show)

    def _on_presence(self, tenant: LocalTenant, hint: PresenceHint) -> None:
        for change in hint.changes:
            frame = tenant.told.take(change.user_id, hint.number, change.frame)
            if frame is not None:
                for connection in self._onlookers(tenant, change):
                    connection.deliver(frame, ephemeral=True)

    def _onlookers(self, tenant: LocalTenant, change: PresenceChange) -> set[Connection]:
        """Who looks at a conversation of the user's, save for themself and those who block them."""
        found: set[Connection] = set()
        for conversation_id in change.conversation_ids:
            room = tenant.rooms.get(conversation_id)
            if room is not None:
                found |= room.onlookers
        user_id = change.user_id
        return {one for one in found if one.user_id != user_id and user_id not in one.blocked}


@cache
def hub() -> Hub:
    """This process's hub."""
    return Hub()
