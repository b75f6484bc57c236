"""Comparing what this process told its sockets with what the database says: what hints should have said and did not.

Every COMPARE_EVERY_S, and after every reconnect to Redis, the rooms' cursors and the users' memberships are compared
with the database, one visit a tenant. Hints may all be lost and nothing is missed.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Protocol
from uuid import UUID

from django.utils import timezone

from messagecore.kernel import wire
from messaging.queries.log import MembershipMark, membership_mark
from messaging.services import reading
from messaging.services.memberships import membership_changes
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_database_thread
from realtime.protocol import frames
from realtime.protocol.closing import CloseCode
from realtime.rooms import LocalTenant, Room

logger = logging.getLogger(__name__)

COMPARE_EVERY_S = 10.0
RETRY_AFTER_S = 1.0
MEND_AFTER_S = 0.2
"""When the log and the hints do not agree on who is in: hints that are under way have this long to come."""


class Compared(Protocol):
    """What the hub does with what was found."""

    tenants: dict[UUID, LocalTenant]

    def fill(self, tenant: LocalTenant, room: Room, *, up_to: int) -> None: ...

    def join(
        self,
        tenant: LocalTenant,
        connection: Connection,
        conversation_id: UUID,
        *,
        external_id: str | None,
        after_seq: int,
        frame: str,
    ) -> None: ...

    def leave(
        self, tenant: LocalTenant, connection: Connection, conversation_id: UUID, frame: str, *, at_seq: int
    ) -> None: ...


class Comparison:
    """Lives with the hub, on its loop. One comparison at a time."""

    def __init__(self, hub: Compared) -> None:
        self._hub = hub
        self._regularly: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._regularly = asyncio.get_running_loop().create_task(self.compare_regularly())

    def stop(self) -> None:
        if self._regularly is not None:
            self._regularly.cancel()
        for task in self._tasks:
            task.cancel()

    async def compare_regularly(self) -> None:
        pause_s = COMPARE_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            for tenant in self._hub.tenants.values():
                tenant.overheard.age()
            pause_s = COMPARE_EVERY_S if await self._compare_each() else RETRY_AFTER_S

    async def compare_all(self) -> None:
        """Finds and mends what hints should have said: new events, memberships, users who may not be here."""
        await self._compare_each()

    async def compare_user(self, tenant_id: UUID, user_id: UUID) -> None:
        """Lets the user's connections here know of the conversations that the database says they are in, at once.

        Raises DatabaseError.
        """
        tenant = self._hub.tenants.get(tenant_id)
        if tenant is not None:
            async with self._one_at_a_time:
                await self._mend_memberships(tenant, user_id)

    def mend_soon(self, tenant: LocalTenant, user_id: UUID) -> None:
        if user_id not in tenant.mending:
            tenant.mending.add(user_id)
            self._spawn(self._mend_later(tenant, user_id))

    async def _compare_each(self) -> bool:
        """True if every tenant could be compared."""
        done = True
        async with self._one_at_a_time:
            for tenant in list(self._hub.tenants.values()):
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
        asked = list(tenant.users)  # of who comes meanwhile the answer says nothing
        found = await read_in_database_thread(reading.compare, tenant.card, list(tenant.rooms), asked)
        for conversation_id, last_seq in found.last_seqs.items():
            room = tenant.rooms.get(conversation_id)
            if room is not None and room.cursor < last_seq:
                self._hub.fill(tenant, room, up_to=last_seq)
        for user_id in asked:
            connections = tenant.users.get(user_id, set())
            if user_id in found.refused:
                for connection in connections:
                    connection.disconnect(CloseCode.REFUSED, "the user is deactivated or gone")
                continue
            tenant.set_blocked(user_id, found.blocked.get(user_id, frozenset()), read_at=started_at)
            mark = found.marks.get(user_id, MembershipMark(0, 0))
            if any(c.meanwhile is None and membership_mark(c.conversations) != mark for c in connections):
                await self._mend_memberships(tenant, user_id)

    async def _mend_later(self, tenant: LocalTenant, user_id: UUID) -> None:
        await asyncio.sleep(MEND_AFTER_S)
        tenant.mending.discard(user_id)
        try:
            async with self._one_at_a_time:
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
                if conversation_id in known[connection] & connection.conversations.keys() - meanwhile.keys():
                    self._mend_departure(tenant, connection, tenant.rooms[conversation_id], last_seq)
            for arrival in changes.arrived:
                if meanwhile.get(arrival.conversation_id, 0) <= arrival.after_seq:
                    created = {"conversation": arrival.conversation, "timestamp": wire.timestamp(timezone.now())}
                    self._hub.join(
                        tenant,
                        connection,
                        arrival.conversation_id,
                        external_id=arrival.external_id,
                        after_seq=arrival.after_seq,
                        frame=frames.event("conversation_created", created),
                    )
                    room = tenant.rooms.get(arrival.conversation_id)
                    if room is not None and room.cursor < arrival.last_seq:
                        self._hub.fill(tenant, room, up_to=arrival.last_seq)

    def _mend_departure(self, tenant: LocalTenant, connection: Connection, room: Room, last_seq: int | None) -> None:
        """Where the log goes on, it says itself when the user was removed."""
        if last_seq is not None and room.cursor < last_seq:
            self._hub.fill(tenant, room, up_to=last_seq)
            return
        removed = {
            "conversationId": str(room.id),
            "conversationExternalId": room.external_id,
            "reason": "deleted" if last_seq is None else "removed",
            "timestamp": wire.timestamp(timezone.now()),
        }
        frame = frames.event("conversation_removed", removed)
        self._hub.leave(tenant, connection, room.id, frame, at_seq=room.cursor)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
