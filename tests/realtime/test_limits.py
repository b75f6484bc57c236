"""Who may come in, and how much they may ask: counted by address before, by user and tenant after authentication."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from realtime import limits
from realtime.connection import Connection, QueuedBytes
from realtime.limits import ConnectionQuotaExceeded, Door, TokenBucket, TooManyConnections
from realtime.rooms import LocalTenant
from tenants.cards import TenantCard

HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    return now


def test_a_bucket_refills_at_its_rate_up_to_its_burst(clock: list[float]) -> None:
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock[0] += 0.1
    assert (bucket.take(), bucket.take()) == (True, False)
    clock[0] += 60
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_an_address_has_so_many_sockets_that_wait(settings: Any) -> None:
    settings.SOCKET_MAX_WAITING_PER_ADDRESS, settings.SOCKET_MAX_WAITING = 2, 3
    door = Door()
    assert [door.knock(HERE) for _ in range(3)] == [True, True, False]
    assert [door.knock(THERE) for _ in range(2)] == [True, False]
    door.leave(HERE)
    assert [door.knock(THERE) for _ in range(2)] == [True, False]


def test_whose_credentials_are_refused_again_and_again_is_not_let_in(settings: Any, clock: list[float]) -> None:
    settings.SOCKET_REFUSALS_PER_SECOND, settings.SOCKET_REFUSALS_BURST = 1, 2
    door = Door()
    for _ in range(2):
        assert door.knock(HERE)
        door.leave(HERE, refused=True)
    assert (door.knock(HERE), door.knock(THERE)) == (False, True)
    clock[0] += 1
    assert door.knock(HERE)
    door.leave(HERE)
    assert door.knock(HERE)


def test_a_user_and_a_tenant_have_so_many_connections(settings: Any) -> None:
    settings.SOCKET_MAX_CONNECTIONS_PER_USER = 2
    door, tenant_id = Door(), uuid4()
    door.check_room(tenant_id, of_user=1, of_tenant=9, limit=10)
    with pytest.raises(TooManyConnections):
        door.check_room(tenant_id, of_user=2, of_tenant=2, limit=10)
    door.hear_elsewhere({tenant_id: 7})
    door.check_room(tenant_id, of_user=0, of_tenant=2, limit=10)
    with pytest.raises(ConnectionQuotaExceeded) as refused:
        door.check_room(tenant_id, of_user=0, of_tenant=3, limit=10)
    assert refused.value.details == {"limit": 10}


def test_commands_are_counted_by_user_and_by_tenant(settings: Any, clock: list[float]) -> None:
    settings.SOCKET_COMMANDS_PER_SECOND_OF_USER, settings.SOCKET_COMMANDS_PER_SECOND_OF_TENANT = 1, 3
    tenant = LocalTenant(TenantCard(uuid4(), "t", "t", "active", frozenset(), None))
    ann, ben = uuid4(), uuid4()
    assert [tenant.may_ask(ann) for _ in range(5)] == [True] * 4 + [False]
    assert [tenant.may_ask(ben) for _ in range(3)] == [True, True, False]


async def test_slow_readers_together_have_less_room_each() -> None:
    """One that is within its own limit is let go of when all of them together are over theirs."""

    async def nobody_reads(message: dict[str, object]) -> None:
        if not message.get("urgent"):
            await never.wait()

    never = asyncio.Event()
    together = QueuedBytes(limit=1000)
    readers = [
        Connection(str(number), nobody_reads, max_frames=1000, max_bytes=3200, together=together) for number in range(3)
    ]
    for reader in readers:
        reader.open("{}")
    for _ in range(4):
        readers[0].put("x" * 200)
    assert not readers[0].is_closing
    readers[1].put("y" * 50)
    assert not together.is_too_much
    readers[1].put("y" * 200)
    assert together.is_too_much
    readers[2].put("z" * 90)  # a 32nd part of its limit is 100
    assert not readers[2].is_closing
    readers[2].put("z" * 90)
    assert readers[2].is_closing
    for reader in readers:
        await reader.finish()
    assert together.total == 0
