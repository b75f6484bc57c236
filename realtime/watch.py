"""The regular duties of a process with sockets: renewing presence, announcing who went offline, ending sockets
whose credentials no longer hold."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

import redis
from django.conf import settings
from django.utils import timezone

from messagecore.kernel import wire
from messaging.services import reading
from realtime.broker import publisher
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_database_thread
from realtime.hub import REFUSED, Hub
from realtime.presence import SWEEP_EVERY_S, PresenceStore
from realtime.protocol import frames, hints
from tenants.cards import TenantCard
from tenants.services.authentication import KeyStanding, is_revoked, key_standings

logger = logging.getLogger(__name__)

CREDENTIALS_EVERY_S = 1.5
"""A key may be believed for CACHE_SECONDS after its revocation (tenants.services.authentication), and let one more
socket in at the end of them; together with that this keeps the promise of 5 s."""

TENANT_INACTIVE = 4011


class Watch:
    """Starts with the process and ends with it."""

    def __init__(self, hub: Hub, presence: PresenceStore) -> None:
        self._hub = hub
        self._presence = presence
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(_every(settings.PRESENCE_LEASE_SECONDS / 3, self.renew_presence, at_once=True)),
            loop.create_task(_every(SWEEP_EVERY_S, self.announce_offline)),
            loop.create_task(_every(CREDENTIALS_EVERY_S, self.end_refused)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def renew_presence(self) -> None:
        leases = [
            (tenant.card.id, user_id, connection.id)
            for tenant in self._hub.tenants.values()
            for user_id, connections in tenant.users.items()
            for connection in connections
        ]
        await self._presence.heartbeat(leases)
        # Who left while that was under way was made alive again: forgotten once more, lest they be ghosts for a lease.
        connected = {connection.id for tenant in self._hub.tenants.values() for connection in tenant.connections}
        for tenant_id, user_id, connection_id in leases:
            if connection_id not in connected:
                await self._presence.disconnected(tenant_id, user_id, connection_id)

    async def announce_offline(self) -> None:
        for tenant in list(self._hub.tenants.values()):
            for user_id in await self._presence.sweep(tenant.card.id):
                # Whoever came back in this moment is announced by the process that has them.
                if not await self._presence.online_among(tenant.card.id, [user_id]):
                    await announce_presence(tenant.card, user_id, "offline")

    async def end_refused(self) -> None:
        """Closes what a revoked or expired key, a suspended tenant or revoked tokens let in."""
        connections = [
            connection
            for tenant in self._hub.tenants.values()
            for connection in tenant.connections
            if connection.key_id
        ]
        key_ids = {connection.key_id for connection in connections if connection.key_id is not None}
        if not key_ids:
            return
        standings = await read_in_database_thread(key_standings, key_ids, now=timezone.now())
        for connection in connections:
            if connection.key_id is not None:
                _end_if_refused(connection, standings.get(connection.key_id))


def _end_if_refused(connection: Connection, standing: KeyStanding | None) -> None:
    if standing is None or not standing.is_valid:
        connection.disconnect(REFUSED, "the API key was revoked or has expired", reconnect=False)
    elif not standing.tenant_is_active:
        connection.disconnect(TENANT_INACTIVE, "the tenant is not active", reconnect=False)
    elif is_revoked(connection.token_issued_at, standing.tokens_valid_after):
        connection.disconnect(REFUSED, "the token was revoked", reconnect=False)


async def announce_presence(tenant: TenantCard, user_id: UUID, status: str) -> None:
    """Tells the onlookers of the user's conversations, in every process."""
    known = await read_in_database_thread(reading.presence_audience, tenant, user_id)
    if known is None:
        return
    data = {
        "userId": str(user_id),
        "externalUserId": known.external_user_id,
        "status": status,
        "lastSeen": wire.timestamp(timezone.now()),
    }
    hint = hints.PresenceHint(user_id, known.conversation_ids, frames.event("user_presence", data))
    publisher().publish(tenant.id, hints.encode(hint))


async def _every(seconds: float, duty: Callable[[], Awaitable[None]], *, at_once: bool = False) -> None:
    """Does a duty again and again; one that fails because a store does not answer is done next time."""
    if not at_once:
        await asyncio.sleep(seconds)
    while True:
        try:
            await duty()
        except (redis.RedisError, DatabaseError, OSError) as error:
            logger.warning("%s was not possible this time: %s", duty.__name__, error)
        except Exception:
            logger.exception("%s failed", duty.__name__)
        await asyncio.sleep(seconds)
