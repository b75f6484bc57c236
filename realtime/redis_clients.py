"""Clients of Redis as realtime wants them: an answer soon, a refusal soon, and few connections."""

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry
from django.conf import settings


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
    return redis.asyncio.Redis.from_pool(pool)


def subscribing_client(*, timeout_s: float) -> redis.asyncio.Redis:
    """For one subscription that its owner makes anew whenever it breaks. The timeout is that of a handshake."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    return client
