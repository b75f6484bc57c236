"""Presence in a real Redis: leases, grace, and no ghosts."""

import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from realtime import presence as module
from realtime.presence import PresenceStore, RedisPresenceReader
from realtime.watch import Watch


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
async def store(settings: Any) -> AsyncIterator[PresenceStore]:
    settings.PRESENCE_LEASE_SECONDS, settings.PRESENCE_GRACE_SECONDS, settings.PRESENCE_SETTLE_SECONDS = 45, 15, 0
    module._client.cache_clear()
    made = PresenceStore()
    yield made
    await made.close()
    module._client().close()
    module._client.cache_clear()


def status(tenant: UUID, user: UUID) -> str:
    return RedisPresenceReader().presence_of(tenant, [user])[user].status


async def known(store: PresenceStore, clock: Clock) -> None:
    await store.heartbeat([])
    clock.now += 0.01


async def test_online_until_the_last_device_is_gone_for_the_grace(store: PresenceStore, clock: Clock) -> None:
    tenant, ann = uuid4(), uuid4()
    await known(store, clock)
    assert status(tenant, ann) == "offline"
    assert await store.connected(tenant, ann, "phone") is True
    assert await store.connected(tenant, ann, "laptop") is False
    await store.disconnected(tenant, ann, "phone")
    clock.now += 20
    assert (await store.sweep(tenant), status(tenant, ann)) == ([], "online")
    await store.disconnected(tenant, ann, "laptop")
    clock.now += 14
    assert (await store.sweep(tenant), status(tenant, ann)) == ([], "online")
    assert await store.connected(tenant, ann, "phone") is False  # back within the grace: nobody was told anything
    await store.disconnected(tenant, ann, "phone")
    clock.now += 16
    await store.heartbeat([])
    assert status(tenant, ann) == "offline"
    assert await store.sweep(tenant) == [ann]
    assert await store.sweep(tenant) == []
    assert await store.connected(tenant, ann, "phone") is True


async def test_a_process_that_died_leaves_no_ghost(store: PresenceStore, clock: Clock) -> None:
    tenant, ann, ben = uuid4(), uuid4(), uuid4()
    await store.connected(tenant, ann, "on the dead process")
    await store.connected(tenant, ben, "alive")
    for _ in range(4):
        clock.now += 15
        await store.heartbeat([(tenant, ben, "alive")])
    assert await store.sweep(tenant) == [ann]
    assert await store.online_among(tenant, [ann, ben]) == {ben}
    assert RedisPresenceReader().connection_count(tenant) == 1


async def test_a_dead_process_does_not_keep_a_user_with_a_second_device(store: PresenceStore, clock: Clock) -> None:
    tenant, ann = uuid4(), uuid4()
    await store.connected(tenant, ann, "on the dead process")
    clock.now += 30
    await store.connected(tenant, ann, "phone")
    clock.now += 20  # the dead one's lease is over
    await store.disconnected(tenant, ann, "phone")
    clock.now += 16
    assert await store.sweep(tenant) == [ann]


async def test_heartbeats_rebuild_what_was_flushed(store: PresenceStore, clock: Clock) -> None:
    tenant, ann, ben = uuid4(), uuid4(), uuid4()
    await known(store, clock)
    await store.connected(tenant, ann, "phone")
    await store._client.flushdb()
    assert (status(tenant, ann), status(tenant, ben)) == ("unknown", "unknown")
    await store.heartbeat([(tenant, ann, "phone")])
    clock.now += 0.01
    assert (status(tenant, ann), status(tenant, ben)) == ("online", "offline")


async def test_who_leaves_during_a_heartbeat_is_not_revived(
    store: PresenceStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, ann = uuid4(), uuid4()
    await store.connected(tenant, ann, "phone")
    connections = [SimpleNamespace(id="phone")]
    local = SimpleNamespace(card=SimpleNamespace(id=tenant), users={ann: connections}, connections=connections)
    hub: Any = SimpleNamespace(tenants={tenant: local})
    heartbeat = store.heartbeat

    async def overtaken(leases: Any) -> None:
        connections.clear()
        await store.disconnected(tenant, ann, "phone")
        await heartbeat(leases)

    monkeypatch.setattr(store, "heartbeat", overtaken)
    await Watch(hub, store).renew_presence()
    clock.now += 16
    assert await store.sweep(tenant) == [ann]


def test_without_redis_presence_is_unknown_and_soon_so(settings: Any, unused_tcp_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"
    module._client.cache_clear()
    began = time.monotonic()
    assert status(uuid4(), uuid4()) == "unknown"
    assert RedisPresenceReader().connection_count(uuid4()) == 0
    assert time.monotonic() - began < 1
    module._client.cache_clear()
