"""Hints over Redis pub/sub: one channel a tenant, published once whoever many listen."""

import asyncio
import logging
import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings

from messagecore.kernel import metrics

logger = logging.getLogger(__name__)

PREFIX = "mc:hint:"
ALIVE = "mc:hint:-"
"""A channel on which nothing is said; subscribed at once, so that the connection exists and can be asked for a pong."""

MAX_UNPUBLISHED = 50_000
PUBLISH_TIMEOUT_S = 2.0
PING_EVERY_S = 5.0
SILENCE_LIMIT_S = 12.0
RECONNECT_AFTER_S = (0.1, 0.5, 1.0, 2.0)


def channel_of(tenant_id: UUID) -> str:
    return PREFIX + tenant_id.hex


class Publisher:
    """Takes hints from any thread and publishes them from one, many in a round trip. What Redis does not take is
    handed to this process's own listeners, and the others find it in the database."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(MAX_UNPUBLISHED)
        self._client: redis.Redis | None = None
        self.fallback: Callable[[str, bytes], None] | None = None
        threading.Thread(target=self._run, name="publisher", daemon=True).start()

    def publish(self, tenant_id: UUID, payload: bytes) -> None:
        """Returns at once; never raises."""
        try:
            self._waiting.put_nowait((channel_of(tenant_id), payload))
        except queue.Full:
            metrics.HINTS_LOST.inc()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(batch) < 500:
                    batch.append(self._waiting.get_nowait())
            try:
                self._publish(batch)
            except (redis.RedisError, OSError):
                self._client = None
                metrics.HINTS_LOST.inc(len(batch))
                if self.fallback is not None:
                    for channel, payload in batch:
                        self.fallback(channel, payload)

    def _publish(self, batch: list[tuple[str, bytes]]) -> None:
        if self._client is None:
            self._client = redis.Redis.from_url(
                settings.REDIS_URL, socket_timeout=PUBLISH_TIMEOUT_S, socket_connect_timeout=PUBLISH_TIMEOUT_S
            )
        pipeline = self._client.pipeline(transaction=False)
        for channel, payload in batch:
            pipeline.publish(channel, payload)
        pipeline.execute()
        metrics.HINTS_PUBLISHED.inc(len(batch))


@cache
def publisher() -> Publisher:
    """This process's publisher; its thread starts with the first hint."""
    return Publisher()


class Subscriber:
    """This process's one subscription connection. `on_hint(tenant id, payload)` gets what comes; `on_reconnect` is
    awaited after every time that hints may have been missed."""

    def __init__(self, on_hint: Callable[[UUID, bytes], None], on_reconnect: Callable[[], Awaitable[None]]) -> None:
        self._on_hint = on_hint
        self._on_reconnect = on_reconnect
        self._wanted: set[str] = set()
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: redis.asyncio.client.PubSub | None = None
        self._lock = asyncio.Lock()
        self._heard_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._catching_up: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._ping())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def subscribe(self, tenant_id: UUID, *, timeout_s: float = 2.0) -> bool:
        """Returns when Redis has confirmed, so that nothing said from now on is missed; False if it does not in
        time: then the reconnect that follows makes up for it."""
        channel = channel_of(tenant_id)
        async with self._lock:
            if channel not in self._wanted:
                self._wanted.add(channel)
                self._confirmed[channel] = asyncio.Event()
                if self._pubsub is not None:
                    with suppress(redis.RedisError, OSError):
                        await self._pubsub.subscribe(channel)
            confirmed = self._confirmed[channel]
        with suppress(TimeoutError):
            await asyncio.wait_for(confirmed.wait(), timeout_s)
        return confirmed.is_set()

    async def unsubscribe(self, tenant_id: UUID) -> None:
        channel = channel_of(tenant_id)
        async with self._lock:
            self._wanted.discard(channel)
            self._confirmed.pop(channel, None)
            if self._pubsub is not None:
                with suppress(redis.RedisError, OSError):
                    await self._pubsub.unsubscribe(channel)

    async def _run(self) -> None:
        failures = 0
        first = True
        while True:
            client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2.0)
            try:
                async with client.pubsub() as pubsub:
                    async with self._lock:
                        await pubsub.subscribe(ALIVE, *self._wanted)
                        self._pubsub = pubsub
                    self._heard_at = asyncio.get_running_loop().time()
                    failures = 0
                    if not first:
                        self._catch_up()
                    first = False
                    await self._listen(pubsub)
            except (redis.RedisError, OSError) as error:
                if failures == 0:
                    logger.warning("lost the connection to Redis; clients catch up from the database: %s", error)
            finally:
                self._pubsub = None
                for confirmed in self._confirmed.values():
                    confirmed.clear()
                with suppress(redis.RedisError, OSError, RuntimeError):
                    await client.aclose()
            first = False
            await asyncio.sleep(RECONNECT_AFTER_S[min(failures, len(RECONNECT_AFTER_S) - 1)])
            failures += 1

    def _catch_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self._after_reconnect())
        self._catching_up.add(task)
        task.add_done_callback(self._catching_up.discard)

    async def _after_reconnect(self) -> None:
        """Once everything is subscribed again, or has had its time to be."""
        waiting = [asyncio.wait_for(confirmed.wait(), 2.0) for confirmed in self._confirmed.values()]
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._on_reconnect()

    async def _listen(self, pubsub: redis.asyncio.client.PubSub) -> None:
        loop = asyncio.get_running_loop()
        subscribed_before = False
        async for message in pubsub.listen():
            self._heard_at = loop.time()
            channel = message["channel"].decode() if message["channel"] else ""
            if message["type"] == "message":
                self._on_hint(UUID(channel.removeprefix(PREFIX)), message["data"])
            elif message["type"] == "subscribe":
                if channel in self._confirmed:
                    self._confirmed[channel].set()
                elif channel == ALIVE:
                    # A second time: the client reconnected by itself, and what was said meanwhile is lost.
                    if subscribed_before:
                        self._catch_up()
                    subscribed_before = True

    async def _ping(self) -> None:
        """Notices a connection that died without a word: its listener is woken by closing it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_EVERY_S)
            pubsub = self._pubsub
            if pubsub is None:
                continue
            if loop.time() - self._heard_at > SILENCE_LIMIT_S:
                with suppress(redis.RedisError, OSError):
                    await pubsub.reset()
                continue
            with suppress(redis.RedisError, OSError):
                await pubsub.ping()
