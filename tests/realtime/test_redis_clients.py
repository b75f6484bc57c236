"""Connections to Redis on uvloop: one that closed is one that is lost, whatever the loop calls it."""

from typing import Any

import pytest
import redis
import redis.asyncio

from realtime.redis_clients import loop_client, subscribing_client


def close_while_writing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The next writes meet a handle that uvloop has closed."""
    left = [times]
    write = redis.asyncio.Connection._send_packed_command

    async def meet(self: Any, command: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
        await write(self, command)

    monkeypatch.setattr(redis.asyncio.Connection, "_send_packed_command", meet)
    return left


async def test_a_connection_that_closes_is_made_anew_once(monkeypatch: pytest.MonkeyPatch) -> None:
    client = loop_client(timeout_s=5, max_connections=2)
    assert await client.ping()
    left = close_while_writing(monkeypatch, 1)
    assert await client.ping()
    assert left == [0]
    close_while_writing(monkeypatch, 99)
    with pytest.raises(redis.ConnectionError, match="closed"):
        await client.ping()
    await client.aclose()


async def test_a_subscription_that_closes_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    client = subscribing_client(timeout_s=5)
    close_while_writing(monkeypatch, 99)
    with pytest.raises(redis.ConnectionError, match="closed"):
        await client.ping()
    await client.aclose()
