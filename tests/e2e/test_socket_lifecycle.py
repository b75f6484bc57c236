"""What processes, slow clients and absent users do to the promises: killed, stopped, not read, not there."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.client import SOAK, Socket, World, eventually, unique
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

DEATHS = 3 + 7 * int(SOAK)
MakeWorld = Callable[[Cluster], Awaitable[World]]
MakeCluster = Callable[..., Cluster]


async def test_what_was_acknowledged_survives_sigkill(make_cluster: MakeCluster, make_world: MakeWorld) -> None:
    """Processes die at random moments under load, right after an ack; and nobody is shown online who was on them."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    cluster = make_cluster(servers=2)
    world = await make_world(cluster)
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    watcher = await world.socket(ben, 1)
    await watcher.command("join_conversation", {"conversationId": conversation})
    victim = cluster.servers[0]
    acked: set[str] = set()
    enough = 0
    reached = asyncio.Event()

    def acknowledged(client_id: str) -> None:
        """The process dies in the very moment in which we have read the ack."""
        acked.add(client_id)
        if len(acked) == enough:
            victim.kill()
            reached.set()

    async def keep_saying(socket: Socket, stopped: asyncio.Event) -> None:
        with suppress(ConnectionClosed, AssertionError):
            while not stopped.is_set():
                client_id = unique("c")
                await socket.say(conversation, client_id, client_id=client_id)
                acknowledged(client_id)

    async def keep_posting(rest: Any, stopped: asyncio.Event) -> None:
        with suppress(httpx.HTTPError):
            while not stopped.is_set():
                client_id = unique("r")
                body = {"conversationId": conversation, "senderId": ann["id"], "type": "text"}
                await rest(
                    "POST", "/messages/send", body | {"content": {"text": client_id}, "clientMessageId": client_id}
                )
                acknowledged(client_id)

    for death in range(DEATHS):
        if death:
            await asyncio.to_thread(lambda: victim.start().wait_until_up())
        stopped = asyncio.Event()
        sockets = [await world.socket(ann, 0) for _ in range(3)]
        enough = len(acked) + dice.randrange(1, 60)
        reached.clear()
        loads = [asyncio.create_task(keep_saying(socket, stopped)) for socket in sockets]
        loads += [asyncio.create_task(keep_posting(world.rest(0), stopped)) for _ in range(2)]
        await reached.wait()
        stopped.set()
        await asyncio.gather(*loads)
        for socket in sockets:
            await socket.until_closed()
    stored = {row[0] for row in _messages(cluster, world, conversation, "client_message_id")}
    assert acked - stored == set(), f"seed {seed}"
    log = [row[0] for row in _messages(cluster, world, conversation, "seq")]
    await watcher.expect("new_message", seq=log[-1], timeout_s=15)
    assert watcher.views()[conversation] == log == list(range(1, len(log) + 1)), f"seed {seed}"

    # The lease is 6 s here, 45 s in production; a sweep comes every 2 s. A slow start of the next victim may have let
    # them go offline in between: what was told last is what counts.
    def told() -> list[str]:
        return [frame["data"]["status"] for frame in watcher.of_type("user_presence", userId=ann["id"])]

    await watcher.until(lambda: told()[-1:] == ["offline"], 30, "ann is told to be offline")
    shown = await world.rest(1)("GET", f"/users/{ann['id']}")
    assert shown["presence"]["status"] == "offline"


def _messages(cluster: Cluster, world: World, conversation: str, column: str) -> list[tuple[Any, ...]]:
    with cluster.database.connect() as database:
        schema = database.execute("SELECT schema_name FROM tenants_tenant WHERE id = %s", [world.tenant.id]).fetchone()
        assert schema is not None
        statement = f'SELECT {column} FROM "{schema[0]}".messaging_message WHERE conversation_id = %s ORDER BY seq'
        return database.execute(statement, [conversation]).fetchall()


async def test_a_reader_that_does_not_read_is_let_go(make_cluster: MakeCluster, make_world: MakeWorld) -> None:
    """One never reads again. The other does, in time to see why it was closed, and has seen no gap."""
    cluster = make_cluster(servers=1)
    world = await make_world(cluster)
    ann, ben, eve, dan = await world.users("ann", "ben", "eve", "dan")
    conversation = await world.conversation(ann, ben, eve, dan)
    server = cluster.servers[0]
    watching, sender = await world.socket(ben), await world.socket(ann)
    await watching.command("join_conversation", {"conversationId": conversation})
    deaf, slow = await world.socket(eve), await world.socket(dan)
    before = server.memory_bytes()
    for socket in (deaf, slow):
        socket.ws.transport.pause_reading()
    sent = 0
    while server.metric("messagecore_socket_connections") > 2:
        assert sent < 2000, "the slow readers are still there"
        for _ in range(10):
            sent += 1
            body = {"conversationId": conversation, "type": "custom", "content": {"n": sent, "x": "x" * 60_000}}
            await sender.command("send_message", body)
        await watching.expect("new_message", seq=sent, timeout_s=2)
    # Twice 4 MiB of queue; the rest is what the allocator keeps.
    assert server.memory_bytes() - before < 64 * 1024 * 1024
    slow.ws.transport.resume_reading()
    assert await slow.until_closed() == 4008
    assert slow.frames[-1]["data"] == {"code": 4008, "reason": "too slow: reconnect and resume", "reconnect": True}
    seen = slow.views()[conversation]
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) < sent
    await watching.expect("user_presence", userId=eve["id"], status="offline", timeout_s=10)
    assert watching.views() == {conversation: list(range(1, sent + 1))}
    assert server.faults() == []


async def test_sigterm_tells_clients_to_come_back(make_cluster: MakeCluster, make_world: MakeWorld) -> None:
    cluster = make_cluster(servers=1)
    world = await make_world(cluster)
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    sockets = [await world.socket(user) for user in (ann, ben)]
    unauthenticated = await world.raw_socket()
    deaf = await world.socket(ben)
    deaf.ws.transport.pause_reading()
    await sockets[0].say(conversation, "before")
    server = cluster.servers[0]
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for socket in (*sockets, unauthenticated):
        assert await socket.until_closed(10) == 1012
        said = socket.frames[-1]["data"]
        assert 0 <= said.pop("reconnectAfterMs") <= 1000  # a few clients need no more than a second between them
        assert said == {"code": 1012, "reason": "the server is restarting", "reconnect": True}
    # The server library ends by the signal that it was sent.
    assert await asyncio.to_thread(server.process.wait, 10) in {0, -signal.SIGTERM}
    assert time.monotonic() - began < 10
    assert server.faults() == []


async def test_offline_users_find_a_notification(make_cluster: MakeCluster, make_world: MakeWorld) -> None:
    cluster = make_cluster(servers=1, worker=True)
    world = await make_world(cluster)
    ann, ben, eve = await world.users("ann", "ben", "eve")
    conversation = await world.conversation(ann, ben, eve)
    rest = world.rest()
    sender, _ = await world.socket(ann), await world.socket(eve)
    # Heartbeats have to say first that presence is known.
    await eventually(lambda: rest("GET", f"/users/{ben['id']}"), lambda user: user["presence"]["status"] == "offline")
    sent = await sender.say(conversation, "are you there?")
    notifications = await eventually(lambda: rest("GET", f"/users/{ben['id']}/notifications"), bool)
    assert [found["messageId"] for found in notifications] == [sent["id"]]
    await asyncio.sleep(2.5)  # two more sweeps
    assert len(await rest("GET", f"/users/{ben['id']}/notifications")) == 1
    for user in (ann, eve):
        assert await rest("GET", f"/users/{user['id']}/notifications") == []
