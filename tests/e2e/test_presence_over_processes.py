"""Presence over real processes: what watchers in one are told of users in another, and what REST says when one dies."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.e2e.client import Socket, World, eventually
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

MakeWorld = Callable[[Cluster], Awaitable[World]]
MakeCluster = Callable[..., Cluster]


def _told(watcher: Socket, user: Any) -> list[str]:
    return [frame["data"]["status"] for frame in watcher.of_type("user_presence", userId=user["id"])]


async def _shown(world: World, user: Any, server: int = 1) -> str:
    return str((await world.rest(server)("GET", f"/users/{user['id']}/presence"))["status"])


async def test_what_devices_say_of_themselves_is_shown(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    watcher = await world.socket(ann, 1)
    await watcher.command("join_conversation", {"conversationId": conversation})
    phone, laptop = await world.socket(ben, 0), await world.socket(ben, 1)
    await watcher.expect("user_presence", userId=ben["id"], status="online")
    assert await laptop.command("set_presence", {"status": "away"}) == {}
    assert await _shown(world, ben) == "online"
    await phone.cut()  # it dies in `online`, and the other is away
    await watcher.expect("user_presence", userId=ben["id"], status="away")
    assert await _shown(world, ben) == "away"
    newcomer = await world.socket(ann, 0)
    await newcomer.command("join_conversation", {"conversationId": conversation})
    await newcomer.expect("user_presence", userId=ben["id"], status="away")
    await laptop.command("set_presence", {"status": "offline"})
    assert await _shown(world, ben) == "offline"
    assert [user["userId"] for user in await world.rest()("GET", "/presence/online")] == [ann["id"]]
    await watcher.expect("user_presence", userId=ben["id"], status="offline")
    assert (await laptop.command("send_message", _text(conversation)))["seq"] == 1  # it is a connection like any other
    await laptop.close()
    await world.socket(ben, 0)
    await watcher.expect(lambda _: _told(watcher, ben) == ["online", "away", "offline", "online"], what="online again")


def _text(conversation: str) -> dict[str, Any]:
    return {"conversationId": conversation, "type": "text", "content": {"text": "here"}}


async def test_who_blocks_somebody_is_not_told_of_them(world: World) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    conversation = await world.conversation(ann, ben, eve)
    await world.rest()("POST", f"/users/{ann['id']}/blocks", {"userId": ben["id"]})
    blocker, other = await world.socket(ann, 0), await world.socket(eve, 1)
    for socket in (blocker, other):
        await socket.command("join_conversation", {"conversationId": conversation})
    blocked = await world.socket(ben, 1)
    await other.expect("user_presence", userId=ben["id"], status="online")
    await blocked.command("join_conversation", {"conversationId": conversation})
    await blocked.expect("user_presence", userId=ann["id"], status="online")  # a block is not to be seen
    again = await world.socket(ann, 1)
    await again.command("join_conversation", {"conversationId": conversation})
    await again.expect("user_presence", userId=eve["id"], status="online")
    for socket in (blocker, again):
        await socket.settle()
        assert _told(socket, ben) == []


async def test_a_storm_of_reconnects_costs_watchers_nothing(world: World) -> None:
    watched = await world.users(*(f"storm-{number}" for number in range(40)))
    (ann,) = await world.users("ann")
    conversation = await world.conversation(ann, *watched)
    watcher = await world.socket(ann, 1)
    await watcher.command("join_conversation", {"conversationId": conversation})
    sockets = [await world.socket(user, 0) for user in watched]
    await watcher.expect(lambda _: len(watcher.of_type("user_presence")) == len(watched), what="all are online")
    for socket in sockets:
        await socket.cut()
    for user in watched:
        await world.socket(user, 1)
    await asyncio.sleep(4)  # the grace is 2 s
    await watcher.settle()
    told = Counter((frame["data"]["userId"], frame["data"]["status"]) for frame in watcher.of_type("user_presence"))
    assert told == Counter((user["id"], "online") for user in watched)


async def test_no_ghost_outlives_its_process(make_cluster: MakeCluster, make_world: MakeWorld) -> None:
    """With watchers elsewhere, and with nobody of the tenant elsewhere at all."""
    cluster = make_cluster(servers=2)
    world, lonely = await make_world(cluster), await make_world(cluster)
    ann, ben = await world.users("ann", "ben")
    (eve,) = await lonely.users("eve")
    conversation = await world.conversation(ann, ben)
    watcher = await world.socket(ann, 1)
    await watcher.command("join_conversation", {"conversationId": conversation})
    await world.socket(ben, 0)
    away = await lonely.socket(eve, 0)
    await away.command("set_presence", {"status": "away"})
    await watcher.expect("user_presence", userId=ben["id"], status="online")
    assert await _shown(lonely, eve) == "away"
    cluster.servers[0].kill()
    began = time.monotonic()
    # The lease is 6 s here, 45 s in production, where the same sum is below 60 s.
    await eventually(lambda: _shown(lonely, eve), lambda status: status == "offline", timeout_s=8)
    await watcher.expect("user_presence", userId=ben["id"], status="offline", timeout_s=4)
    assert time.monotonic() - began < 12
    assert await lonely.rest(1)("GET", "/presence/online") == []
    assert [user["userId"] for user in await world.rest(1)("GET", "/presence/online")] == [ann["id"]]


async def test_presence_comes_back_after_redis_lost_it(make_cluster: MakeCluster, make_world: MakeWorld) -> None:
    cluster = make_cluster(servers=2)
    world = await make_world(cluster)
    ann, ben, eve = await world.users("ann", "ben", "eve")
    phone = await world.socket(ann, 0)
    await world.socket(ben, 1)
    await phone.command("set_presence", {"status": "away"})
    assert [await _shown(world, user) for user in (ann, ben, eve)] == ["away", "online", "offline"]
    cluster.valkey.flush()
    await eventually(lambda: _shown(world, ann), lambda status: status == "away", timeout_s=10)
    await eventually(lambda: _shown(world, ben), lambda status: status == "online", timeout_s=10)
    assert await _shown(world, eve) == "offline"
    cluster.valkey.stop()
    assert {await _shown(world, user) for user in (ann, ben, eve)} == {"unknown"}
    await phone.command("set_presence", {"status": "online"})  # noted, and told to Redis when it is back
    cluster.valkey.start()
    await eventually(lambda: _shown(world, ann), lambda status: status == "online", timeout_s=15)
    assert [fault for server in cluster.servers for fault in server.faults()] == []
