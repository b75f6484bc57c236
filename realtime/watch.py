"""The regular duties of a process with sockets: ending those whose credentials no longer hold, counting those that the
tenants have elsewhere."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import redis
from django.utils import timezone

from messaging.ports import presence_reader
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_database_thread
from realtime.hub import Hub
from realtime.limits import Door
from realtime.protocol.closing import CloseCode
from tenants.services.authentication import KeyStanding, is_revoked, key_standings

logger = logging.getLogger(__name__)

CREDENTIALS_EVERY_S = 1.5
"""A key may be believed for CACHE_SECONDS after its revocation (tenants.services.authentication), and let one more
socket in at the end of them; together with that this keeps the promise of 5 s."""

COUNT_EVERY_S = 3.0


class Watch:
    """Starts with the process and ends with it."""

    def __init__(self, hub: Hub, door: Door) -> None:
        self._hub = hub
        self._door = door
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(_every(CREDENTIALS_EVERY_S, self.end_refused)),
            loop.create_task(_every(COUNT_EVERY_S, self.count_elsewhere)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def count_elsewhere(self) -> None:
        """Learns how many connections the tenants of this process have in others, for the plans' limits."""
        counts = await asyncio.to_thread(_count, list(self._hub.tenants))
        here = {tenant_id: tenant.connection_count for tenant_id, tenant in self._hub.tenants.items()}
        self._door.hear_elsewhere(
            {tenant_id: max(0, count - here.get(tenant_id, 0)) for tenant_id, count in counts.items()}
        )

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


def _count(tenant_ids: Sequence[UUID]) -> dict[UUID, int]:
    return {tenant_id: presence_reader().connection_count(tenant_id) for tenant_id in tenant_ids}


def _end_if_refused(connection: Connection, standing: KeyStanding | None) -> None:
    if standing is None or not standing.is_valid:
        connection.disconnect(CloseCode.REFUSED, "the API key was revoked or has expired")
    elif not standing.tenant_is_active:
        connection.disconnect(CloseCode.TENANT_INACTIVE, "the tenant is not active")
    elif is_revoked(connection.token_issued_at, standing.tokens_valid_after):
        connection.disconnect(CloseCode.REFUSED, "the token was revoked")


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
