"""Hints over a real Redis: heard, and the subscription outlives whatever happens to it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings

from realtime.broker import ALIVE, Publisher, Subscriber, channel_of


class Ears:
    """A subscriber with what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[UUID, bytes]] = []
        self.reconnects = 0
        self.subscriber = Subscriber(self.hear, self.reconnected)

    def hear(self, tenant_id: UUID, payload: bytes) -> None:
        if payload == b"poison":
            raise KeyError("a bug in the hub")
        self.heard.append((tenant_id, payload))

    async def reconnected(self) -> None:
        self.reconnects += 1
        if self.reconnects == 1:
            raise ValueError("a bug in the comparison")


@pytest.fixture
async def ears() -> AsyncIterator[Ears]:
    made = Ears()
    made.subscriber.start()
    await until(lambda: made.subscriber._is_connected)
    yield made
    await made.subscriber.stop()


@pytest.fixture
def client() -> Any:
    with redis.Redis.from_url(settings.REDIS_URL) as made:
        yield made


async def until(condition: Any, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions of several kinds
            await asyncio.sleep(0.01)


def own_subscription(client: redis.Redis, tenant_id: UUID) -> int:
    return int(client.pubsub_numsub(channel_of(tenant_id))[0][1])


async def test_what_is_published_after_subscribing_is_heard(ears: Ears) -> None:
    ann, ben = uuid4(), uuid4()
    publisher = Publisher()
    assert await ears.subscriber.subscribe(ann)
    publisher.publish(ben, b"for others")
    for number in range(600):  # more than a round trip takes
        publisher.publish(ann, str(number).encode())
    await until(lambda: len(ears.heard) == 600)
    assert ears.heard == [(ann, str(number).encode()) for number in range(600)]


async def test_subscriptions_follow_what_is_wanted(ears: Ears, client: redis.Redis) -> None:
    ann = uuid4()
    for _ in range(3):
        assert await ears.subscriber.subscribe(ann)
        assert own_subscription(client, ann) == 1
        ears.subscriber.unsubscribe(ann)
        ears.subscriber.unsubscribe(ann)
    await until(lambda: own_subscription(client, ann) == 0)


@pytest.mark.logs_errors
async def test_a_hint_that_cannot_be_taken_is_not_the_last(ears: Ears, client: redis.Redis) -> None:
    ann = uuid4()
    await ears.subscriber.subscribe(ann)
    client.publish(channel_of(ann), b"poison")
    client.publish(ALIVE, b"noise")
    client.publish(channel_of(ann), b"fine")
    await until(lambda: ears.heard)
    assert ears.heard == [(ann, b"fine")]
    assert ears.reconnects == 0


@pytest.mark.logs_errors
async def test_after_a_break_it_listens_again_and_says_so(ears: Ears, client: redis.Redis) -> None:
    ann = uuid4()
    await ears.subscriber.subscribe(ann)
    for breaks in range(1, 4):
        client.client_kill_filter(_type="pubsub")
        await until(lambda breaks=breaks: ears.reconnects == breaks)
        client.publish(channel_of(ann), str(breaks).encode())
        await until(lambda breaks=breaks: len(ears.heard) == breaks)


async def test_without_redis_nobody_waits(settings: Any, unused_tcp_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"
    ears, publisher, ann = Ears(), Publisher(), uuid4()
    handed: list[tuple[str, bytes]] = []
    publisher.fallback = lambda channel, payload: handed.append((channel, payload))
    ears.subscriber.start()
    async with asyncio.timeout(1):
        assert not await ears.subscriber.subscribe(ann)
    publisher.publish(ann, b"mine")
    await until(lambda: handed, timeout_s=2)
    assert handed == [(channel_of(ann), b"mine")]
    await ears.subscriber.stop()


async def test_a_redis_that_takes_connections_and_says_nothing_holds_nobody_up(settings: Any) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    settings.REDIS_URL = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    ears = Ears()
    ears.subscriber.start()
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1):
        assert not await ears.subscriber.subscribe(uuid4())
        ears.subscriber.unsubscribe(uuid4())
    await ears.subscriber.stop()
    server.close()


@pytest.mark.logs_errors
async def test_the_publisher_outlives_a_failure(monkeypatch: pytest.MonkeyPatch, ears: Ears) -> None:
    ann, publisher = uuid4(), Publisher()
    await ears.subscriber.subscribe(ann)
    handed: list[bytes] = []
    publisher.fallback = lambda channel, payload: handed.append(payload)
    working = publisher._publish

    def broken(batch: Any) -> None:
        monkeypatch.setattr(publisher, "_publish", working)
        raise RuntimeError("a bug")

    monkeypatch.setattr(publisher, "_publish", broken)
    publisher.publish(ann, b"one")
    await until(lambda: handed == [b"one"])
    publisher.publish(ann, b"two")
    await until(lambda: ears.heard == [(ann, b"two")])
