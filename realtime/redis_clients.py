"""Clients of Redis as realtime wants them: an answer soon, a refusal soon, and few connections."""

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry
from django.conf import settings


class _ClosedIsLost:
    """For connections on uvloop, which says RuntimeError where a peer closed while one was writing: what redis-py takes
    for a fault of the program, and neither tries again nor raises as its own."""

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]  # redis-py's
        except RuntimeError as error:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise redis.ConnectionError(str(error)) from error


def _on_uvloop(pool: redis.asyncio.ConnectionPool) -> None:
    """Whatever kind of connection the address asks for."""
    pool.connection_class = type("Connection", (_ClosedIsLost, pool.connection_class), {})


def blocking_client(*, timeout_s: float) -> redis.Redis:
    """For threads. A connection that died since its last use is made anew, once; nothing else is tried again: the
    library's own ten attempts with pauses would hold a request for many seconds while Redis is away."""
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    return client


def loop_client(*, timeout_s: float, max_connections: int) -> redis.asyncio.Redis:
    """For the event loop, otherwise as `blocking_client`. Commands beyond `max_connections` wait up to `timeout_s`
    for one of them."""
    pool: redis.asyncio.BlockingConnectionPool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    _on_uvloop(pool)
    return redis.asyncio.Redis.from_pool(pool)


def subscribing_client(*, timeout_s: float) -> redis.asyncio.Redis:
    """For one subscription that its owner makes anew whenever it breaks. The timeout is that of a handshake."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    _on_uvloop(client.connection_pool)
    return client
