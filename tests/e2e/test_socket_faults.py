"""Completeness and order while the servers behind are hurt: whatever happens to Redis and PostgreSQL, every client's
view of a conversation is its log, dense, in order, without repeats."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from tests.e2e.client import SOAK, Refused, Rest, Socket, World, eventually, unique
from tests.e2e.cluster import Cluster, Database
from tests.e2e.conftest import running_cluster

pytestmark = pytest.mark.e2e

MESSAGES = int(2000 * SOAK) or 500
COMPLETE_WITHIN_S = 15


@pytest.fixture(scope="module")
def hurt(e2e_database: Database, platform_token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three web processes whose Valkey and database connections the tests of this file break; each mends by itself."""
    yield from running_cluster(tmp_path_factory.mktemp("hurt"), e2e_database, servers=3)


@pytest.fixture
async def crowd(hurt: Cluster, make_world: Callable[[Cluster], Awaitable[World]]) -> "Crowd":
    return await Crowd.gather(await make_world(hurt))


class Crowd:
    """Ten people with a socket on each process, in five conversations; whatever they send is acknowledged some time."""

    def __init__(self, world: World, sockets: list[Socket], members: dict[str, list[dict[str, Any]]]) -> None:
        self.world, self.sockets, self.members = world, sockets, members
        self.rests = [world.rest(server) for server in range(3)]
        self.sent: list[str] = []
        self.retried: list[str] = []
        self.slowest_s = 0.0

    @classmethod
    async def gather(cls, world: World) -> "Crowd":
        users = await world.users(*(f"user{number}" for number in range(10)))
        members = {}
        for number in range(5):
            those = [users[(number * 2 + place) % 10] for place in range(6)]
            members[await world.conversation(*those)] = those
        sockets = [await world.socket(user, server) for user in users for server in range(3)]
        return cls(world, sockets, members)

    async def send(self, count: int, dice: random.Random) -> None:
        """`count` messages from random places by socket and REST, each tried again under its id until acknowledged."""
        jobs = iter(range(count))

        async def work() -> None:
            for _ in jobs:
                conversation = dice.choice(list(self.members))
                await self._send_one(conversation, dice.choice(self.members[conversation]), dice)

        await asyncio.gather(*(work() for _ in range(12)))

    async def _send_one(self, conversation: str, sender: dict[str, Any], dice: random.Random) -> None:
        client_id = unique("m")
        by_socket = dice.choice([socket for socket in self.sockets if socket.user_id == sender["id"]])
        by_rest = dice.choice(self.rests) if dice.random() < 0.5 else None
        while True:
            began = time.monotonic()
            try:
                if by_rest is None:
                    await by_socket.say(conversation, client_id, client_id=client_id)
                else:
                    await post(by_rest, conversation, sender, client_id)
            except Refused as refused:
                if not refused.retryable:
                    raise
                self.retried.append(str(refused))
                await asyncio.sleep(0.1)
            except httpx.TransportError as error:
                self.retried.append(repr(error))
            else:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.sent.append(client_id)
                return

    async def is_complete(self, timeout_s: float = COMPLETE_WITHIN_S) -> None:
        """Asserts that everybody has seen exactly the logs."""
        logs = {conversation: await self.world.log(conversation) for conversation in self.members}
        deadline = time.monotonic() + timeout_s
        for socket in self.sockets:
            theirs = {
                conversation: logs[conversation]
                for conversation, those in self.members.items()
                if logs[conversation] and socket.user_id in {user["id"] for user in those}
            }
            try:
                await socket.until(partial(sees, socket, theirs), deadline - time.monotonic(), "its view is complete")
            finally:
                assert socket.views() == theirs
        assert all(log == list(range(1, len(log) + 1)) for log in logs.values())
        assert sum(map(len, logs.values())) == len(self.sent) == len(set(self.sent))


def sees(socket: Socket, logs: dict[str, list[int]]) -> bool:
    return socket.views() == logs


async def post(rest: Rest, conversation: str, sender: dict[str, Any], client_id: str) -> Any:
    body = {"conversationId": conversation, "senderId": sender["id"], "type": "text", "content": {"text": client_id}}
    return await rest("POST", "/messages/send", body | {"clientMessageId": client_id})


@asynccontextmanager
async def meanwhile(hurt_it: Callable[[], object], every_s: float) -> AsyncIterator[None]:
    """Hurts something again and again while the block runs."""

    async def go_on() -> None:
        while True:
            await asyncio.to_thread(hurt_it)
            await asyncio.sleep(every_s)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ready(cluster: Cluster) -> tuple[int, str]:
    answer = httpx.get(f"{cluster.servers[0].url}/ready", trust_env=False, timeout=10)
    return answer.status_code, answer.json()["status"]


async def test_lost_hints_are_made_up_for(hurt: Cluster, crowd: Crowd) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    dice = random.Random(seed)

    def hurt_it() -> None:
        hurt.valkey.drop_subscribers()
        if dice.random() < 0.3:
            hurt.valkey.flush()

    async with meanwhile(hurt_it, every_s=0.3):
        await crowd.send(MESSAGES, dice)
    await crowd.is_complete()
    assert crowd.retried == []
    assert [fault for server in hurt.servers for fault in server.faults()] == []


async def test_with_every_hint_of_the_end_lost_all_is_there_in_time(hurt: Cluster, crowd: Crowd) -> None:
    """Nobody publishes what is written behind the service's back, and nothing follows."""
    await crowd.send(5, random.Random(1))
    await crowd.is_complete()
    with hurt.database.connect() as database:
        row = database.execute(
            "SELECT schema_name FROM tenants_tenant WHERE id = %s", [crowd.world.tenant.id]
        ).fetchone()
        assert row is not None
        for conversation in crowd.members:
            _copy_last_message(database, str(row[0]), conversation)
    logs = {conversation: await crowd.world.log(conversation) for conversation in crowd.members}
    crowd.sent += [f"copy of {conversation}" for conversation, log in logs.items() if log]
    await crowd.is_complete()


def _copy_last_message(database: Any, schema: str, conversation: str) -> None:
    """Appends to the log what a process would have that died between its commit and its announcement."""
    columns = [
        row[0]
        for row in database.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            [schema, "messaging_message"],
        ).fetchall()
    ]
    changed = {
        "id": "gen_random_uuid()",
        "seq": "seq + 1",
        "message_index": "message_index + 1",
        "client_message_id": "NULL",
    }
    values = ", ".join(changed.get(column, column) for column in columns)
    with database.transaction():
        database.execute(
            f'INSERT INTO "{schema}".messaging_message ({", ".join(columns)}) SELECT {values} '
            f'FROM "{schema}".messaging_message WHERE conversation_id = %s ORDER BY seq DESC LIMIT 1',
            [conversation],
        )
        database.execute(
            f'UPDATE "{schema}".messaging_conversation SET last_seq = last_seq + 1, message_count = message_count + 1 '
            "WHERE id = %s AND last_seq > 0",
            [conversation],
        )


async def test_sends_go_on_without_redis(hurt: Cluster, crowd: Crowd) -> None:
    assert ready(hurt) == (200, "ready")
    hurt.valkey.stop()
    try:
        dice = random.Random(2)
        await crowd.send(MESSAGES // 5, dice)
        assert ready(hurt) == (200, "degraded")
        newcomer = await crowd.world.socket((await crowd.world.users("late"))[0], 1)
        await newcomer.settle()
        # Each process tells its own at once; the others find it in the database.
        await crowd.is_complete()
    finally:
        hurt.valkey.start()
    await eventually(lambda: asyncio.to_thread(ready, hurt), lambda answer: answer == (200, "ready"))
    await crowd.send(20, dice)
    await crowd.is_complete()
    assert crowd.retried == []
    assert crowd.slowest_s < 5
    assert [fault for server in hurt.servers for fault in server.faults()] == []


async def test_sends_go_on_while_redis_is_frozen(hurt: Cluster, crowd: Crowd) -> None:
    """The worst way to be away: connections are taken, and nothing is answered."""
    hurt.valkey.freeze()
    try:
        dice = random.Random(3)
        await crowd.send(MESSAGES // 5, dice)
        assert (await asyncio.to_thread(ready, hurt))[0] == 200
        newcomer = await crowd.world.socket((await crowd.world.users("late"))[0], 1)
        await newcomer.settle()
        await crowd.is_complete()
    finally:
        hurt.valkey.thaw()
    await eventually(lambda: asyncio.to_thread(ready, hurt), lambda answer: answer == (200, "ready"))
    await crowd.send(20, dice)
    await crowd.is_complete()
    assert crowd.retried == []
    assert crowd.slowest_s < 5
    assert [fault for server in hurt.servers for fault in server.faults()] == []


async def test_broken_database_connections_cost_a_retry(hurt: Cluster, crowd: Crowd) -> None:
    dice = random.Random(4)
    async with meanwhile(hurt.database.terminate_backends, every_s=0.5):
        await crowd.send(MESSAGES, dice)
    assert crowd.retried
    await crowd.is_complete()
    assert await asyncio.to_thread(ready, hurt) == (200, "ready")
    late = await crowd.world.socket((await crowd.world.users("late"))[0], 2)
    await late.settle()
    assert all(socket.closed is None for socket in crowd.sockets)
    assert [fault for server in hurt.servers for fault in server.faults()] == []
