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
from redis.asyncio.client import PubSub

from messagecore.kernel import metrics
from realtime.redis_clients import blocking_client, subscribing_client

logger = logging.getLogger(__name__)

PREFIX = "mc:hint:"
ALIVE = "mc:hint:-"
"""A channel on which nothing is said; subscribed at once, so that the connection exists and can be asked for a pong."""

MAX_UNPUBLISHED = 50_000
PUBLISH_TIMEOUT_S = 2.0
HANDSHAKE_TIMEOUT_S = 2.0
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
        self._client = blocking_client(timeout_s=PUBLISH_TIMEOUT_S)
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
                self._hand_over(batch)
            except Exception:
                logger.exception("%d hints could not be published", len(batch))
                self._hand_over(batch)

    def _publish(self, batch: list[tuple[str, bytes]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for channel, payload in batch:
            pipeline.publish(channel, payload)
        pipeline.execute()
        metrics.HINTS_PUBLISHED.inc(len(batch))

    def _hand_over(self, batch: list[tuple[str, bytes]]) -> None:
        metrics.HINTS_LOST.inc(len(batch))
        fallback = self.fallback
        if fallback is not None:
            for channel, payload in batch:
                fallback(channel, payload)


@cache
def publisher() -> Publisher:
    """This process's publisher; its thread starts with the first hint."""
    return Publisher()


class Subscriber:
    """This process's one subscription connection. `on_hint(tenant id, payload)` gets what comes; `on_reconnect` is
    awaited after every time that hints may have been missed.

    Callers never wait for the network: what they want is noted, and told to Redis by a task of its own.
    """

    def __init__(self, on_hint: Callable[[UUID, bytes], None], on_reconnect: Callable[[], Awaitable[None]]) -> None:
        self._on_hint = on_hint
        self._on_reconnect = on_reconnect
        # The channels that are wanted, each with whether Redis has confirmed it on the present connection.
        self._wanted: dict[str, asyncio.Event] = {}
        self._is_connected = False
        self._orders: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._catching_up: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        tasks = [task for task in (self._running, *self._catching_up) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def subscribe(self, tenant_id: UUID, *, timeout_s: float = 2.0) -> bool:
        """Returns when Redis has confirmed, so that nothing said from now on is missed; False if it does not in
        time, or is away: then the reconnect that follows makes up for it."""
        channel = channel_of(tenant_id)
        confirmed = self._wanted.get(channel)
        if confirmed is None:
            confirmed = self._wanted[channel] = asyncio.Event()
            self._orders.put_nowait(("subscribe", channel))
        if self._is_connected:
            with suppress(TimeoutError):
                await asyncio.wait_for(confirmed.wait(), timeout_s)
        return confirmed.is_set()

    def unsubscribe(self, tenant_id: UUID) -> None:
        channel = channel_of(tenant_id)
        if self._wanted.pop(channel, None) is not None:
            self._orders.put_nowait(("unsubscribe", channel))

    async def _run(self) -> None:
        attempts = 0
        first = True
        while True:
            client = subscribing_client(timeout_s=HANDSHAKE_TIMEOUT_S)
            try:
                async with client.pubsub() as pubsub:
                    async with asyncio.timeout(2 * HANDSHAKE_TIMEOUT_S):
                        # What is ordered from here on comes behind this.
                        self._orders = asyncio.Queue()
                        await pubsub.subscribe(ALIVE, *self._wanted)
                    self._is_connected = True
                    attempts = 0
                    if not first:
                        self._catch_up()
                    await self._serve(pubsub)
            except (redis.RedisError, OSError, TimeoutError) as error:
                if attempts == 0:
                    logger.warning("lost the connection to Redis; clients catch up from the database: %s", error)
            except Exception:
                logger.exception("the subscription failed; it starts anew")
            finally:
                self._is_connected = False
                for confirmed in self._wanted.values():
                    confirmed.clear()
                with suppress(Exception):  # a connection that is broken may be so in any way
                    await client.aclose()
            first = False
            await asyncio.sleep(RECONNECT_AFTER_S[min(attempts, len(RECONNECT_AFTER_S) - 1)])
            attempts += 1

    def _catch_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self._after_reconnect())
        self._catching_up.add(task)
        task.add_done_callback(self._catching_up.discard)

    async def _after_reconnect(self) -> None:
        """Once everything is subscribed again, or has had its time to be."""
        waiting = [asyncio.wait_for(confirmed.wait(), 2.0) for confirmed in self._wanted.values()]
        await asyncio.gather(*waiting, return_exceptions=True)
        try:
            await self._on_reconnect()
        except Exception:
            logger.exception("catching up after a reconnect failed; the regular comparison does it")

    async def _serve(self, pubsub: PubSub) -> None:
        """Until the connection breaks, or has been silent for longer than pongs may take."""
        ordering = asyncio.get_running_loop().create_task(self._give_orders(pubsub))
        try:
            while not ordering.done():
                message = await pubsub.get_message(timeout=SILENCE_LIMIT_S)
                if message is None:
                    raise redis.TimeoutError("Redis has been silent for too long")
                self._take(message["type"], message["channel"], message["data"])
            raise redis.ConnectionError("Redis takes no more orders")
        finally:
            ordering.cancel()
            await asyncio.gather(ordering, return_exceptions=True)

    def _take(self, kind: str, raw_channel: bytes | None, data: bytes) -> None:
        channel = (raw_channel or b"").decode("utf-8", "replace")
        if kind == "subscribe" and channel in self._wanted:
            self._wanted[channel].set()
        elif kind == "message" and channel != ALIVE:
            try:
                self._on_hint(UUID(channel.removeprefix(PREFIX)), data)
            except Exception:
                logger.exception("a hint could not be taken")

    async def _give_orders(self, pubsub: PubSub) -> None:
        """Subscribes, unsubscribes, and asks for a pong now and then. If it cannot, the listener notices."""
        orders = self._orders
        with suppress(redis.RedisError, OSError):
            while True:
                try:
                    order, channel = await asyncio.wait_for(orders.get(), PING_EVERY_S)
                except TimeoutError:
                    await pubsub.ping()
                    continue
                await (pubsub.subscribe(channel) if order == "subscribe" else pubsub.unsubscribe(channel))
