"""One log, three views: what a socket saw, what `/conversations/{id}/events` says and what the tenant's feed says are
the same, in order in each conversation; over real processes, one of which ends while a reader waits."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest

from messagecore.kernel import catalogue, validation
from tests.e2e.client import Socket, World, eventually
from tests.e2e.cluster import Cluster, Server

pytestmark = pytest.mark.e2e

View = dict[str, list[dict[str, Any]]]
DURABLE = {name for name, event in catalogue.events().items() if event["durable"] is True}


class Reader:
    """A back end that reads by REST, one page after the other."""

    def __init__(self, world: World, server: int = 0, **headers: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=f"{world.servers[server].url}/api/v1",
            headers={"X-API-Key": world.tenant.secret_key} | headers,
            trust_env=False,
            timeout=60,
        )

    async def page(self, path: str, **query: Any) -> Any:
        answer = await self._client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def log(self, conversation: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        after = "0"
        while after is not None:
            body = await self.page(f"/conversations/{conversation}/events", after=after, limit=7)
            events += body["data"]
            after = body["pagination"]["nextCursor"]
        return events

    async def feed(self) -> View:
        view: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        query: dict[str, Any] = {"limit": 11}
        while True:
            body = await self.page("/events", **query)
            for item in body["data"]:
                validation.validate("FeedItem", item)
                view[item["conversationId"]].append({"type": item["type"], "data": item["data"]})
            query["after"] = body["pagination"]["nextCursor"]
            if not body["pagination"]["hasMore"]:
                return dict(view)

    async def close(self) -> None:
        await self._client.aclose()


def seen_by(socket: Socket) -> View:
    view: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for frame in socket.frames:
        if frame["type"] in DURABLE:
            view[frame["data"]["conversationId"]].append(frame)
    return dict(view)


def references(events: list[dict[str, Any]]) -> list[tuple[str, int, str | None]]:
    """What does not change: a frame shows a message as it was, a page as it is by now."""
    return [(event["type"], event["data"]["seq"], subject(event["data"])) for event in events]


def subject(data: dict[str, Any]) -> str | None:
    named = data.get("message") or {}
    found: str | None = data.get("messageId") or named.get("id") or data.get("userId")
    return found


async def waiting_at(server: Server) -> float:
    return await asyncio.to_thread(server.metric, "messagecore_web_requests_held")


async def live(world: World, rooms: list[str], users: list[dict[str, Any]]) -> None:
    """Something of everything, by both servers at once."""

    async def in_room(room: str, server: int) -> None:
        rest = world.rest(server)
        for number in range(8):
            sender = users[number % 2]["id"]
            body = {"conversationId": room, "senderId": sender, "type": "text", "content": {"text": f"{number}"}}
            message = await rest("POST", "/messages/send", body)
            path = f"/messages/{message['id']}"
            acting = world.rest(1 - server, **{"X-Acting-User": users[1]["id"]})
            await acting("POST", f"{path}/reactions", {"name": "👍"})
            if number % 3 == 0:
                await rest("PATCH", path, {"content": {"text": f"{number}, edited"}})
                await rest("PUT", f"{path}/pin")
                await rest("DELETE", f"{path}/pin")
                await acting("DELETE", f"{path}/reactions/👍")
            if number % 4 == 1:
                await rest("DELETE", path)
        guest = users[2]["id"]
        await rest("POST", f"/conversations/{room}/participants", {"participantIds": [guest]})
        await rest("PATCH", f"/conversations/{room}/participants/{guest}", {"role": "observer"})
        await rest("DELETE", f"/conversations/{room}/participants/{guest}")
        await rest("PATCH", f"/conversations/{room}", {"title": "renamed"})

    await asyncio.gather(*(in_room(room, number % 2) for number, room in enumerate(rooms)))


async def test_the_three_views_are_one(world: World) -> None:
    users = await world.users("ann", "ben", "guest")
    rooms = [await world.conversation(users[0], users[1]) for _ in range(3)]
    sockets = [await world.socket(users[0], server) for server in (0, 1)]
    await live(world, rooms, users)
    readers = [Reader(world, server) for server in (0, 1)]
    try:
        logs = {room: await readers[0].log(room) for room in rooms}
        for events in logs.values():
            assert [event["data"]["seq"] for event in events] == list(range(1, len(events) + 1))
            for event in events:
                validation.validate("LogEvent", event)
        # By REST they are rendered at the same time: equal to the last field.
        assert [await reader.feed() for reader in readers] == [logs, logs]
        as_ann = Reader(world, 1, **{"X-Acting-User": users[0]["id"]})
        assert {room: references(await as_ann.log(room)) for room in rooms} == {
            room: references(events) for room, events in logs.items()
        }
        await as_ann.close()
        expected = {room: references(events) for room, events in logs.items()}
        last = {room: events[-1]["data"]["seq"] for room, events in logs.items()}

        def has_all(socket: Socket) -> bool:
            return {room: seqs[-1] for room, seqs in socket.views().items()} == last

        for socket in sockets:
            await socket.until(partial(has_all, socket), 20, "all of it")
            assert {room: references(events) for room, events in seen_by(socket).items()} == expected
        assert {type_ for events in logs.values() for type_ in {event["type"] for event in events}} == DURABLE - {
            "event_hidden"
        }
    finally:
        for reader in readers:
            await reader.close()


async def test_a_consumer_that_waits_hears_of_what_another_process_commits(world: World) -> None:
    (ann,) = await world.users("ann")
    room = await world.conversation(ann)
    reader = Reader(world, 0)
    cursor = (await reader.page("/events", after="latest"))["pagination"]["nextCursor"]
    seen: list[str] = []
    rest = world.rest(1)
    for number in range(3):
        waiting = asyncio.ensure_future(reader.page("/events", after=cursor, wait=25))
        await eventually(partial(waiting_at, world.servers[0]), lambda count: count >= 1)
        body = {"conversationId": room, "senderId": ann["id"], "type": "text", "content": {"text": f"{number}"}}
        await rest("POST", "/messages/send", body)
        body = await waiting
        seen += [item["data"]["message"]["content"]["text"] for item in body["data"]]
        cursor = body["pagination"]["nextCursor"]
    assert seen == ["0", "1", "2"]
    await reader.close()


async def test_a_process_that_is_told_to_end_answers_who_waits(
    make_cluster: Callable[..., Cluster], make_world: Callable[[Cluster], Awaitable[World]]
) -> None:
    cluster = make_cluster(servers=1)
    world = await make_world(cluster)
    (ann,) = await world.users("ann")
    await world.conversation(ann)
    readers = [Reader(world) for _ in range(3)]
    cursor = (await readers[0].page("/events", after="latest"))["pagination"]["nextCursor"]
    waiting = [asyncio.ensure_future(reader.page("/events", after=cursor, wait=25)) for reader in readers]
    server = cluster.servers[0]

    await eventually(partial(waiting_at, server), lambda count: count == 3)
    began = asyncio.get_running_loop().time()
    server.process.send_signal(signal.SIGTERM)
    empty = {"success": True, "data": [], "pagination": {"nextCursor": cursor, "hasMore": False}}
    assert await asyncio.gather(*waiting) == [empty] * 3
    assert asyncio.get_running_loop().time() - began < 20, "and not after the 25 s that they would have waited"
    assert await asyncio.to_thread(server.process.wait, 20) == -signal.SIGTERM
    assert server.faults() == []
    for reader in readers:
        await reader.close()


async def test_the_worker_numbers_what_nobody_reads(
    make_cluster: Callable[..., Cluster], make_world: Callable[[Cluster], Awaitable[World]]
) -> None:
    """What was committed before any worker ran is numbered by the first."""
    cluster = make_cluster(servers=1)
    world = await make_world(cluster)
    (ann,) = await world.users("ann")
    room = await world.conversation(ann)
    rest = world.rest()
    for number in range(5):
        body = {"conversationId": room, "senderId": ann["id"], "type": "text", "content": {"text": f"{number}"}}
        await rest("POST", "/messages/send", body)

    def numbers() -> list[Any]:
        with cluster.database.connect() as database:
            found = database.execute(
                "SELECT feed_seq FROM tenants_outboxevent WHERE tenant_id = %s AND seq IS NOT NULL ORDER BY id",
                [world.tenant.id],
            )
            return [row[0] for row in found.fetchall()]

    assert numbers() == [None] * 5
    cluster.start_worker()

    async def numbered() -> list[Any]:
        return await asyncio.to_thread(numbers)

    await eventually(numbered, lambda found: found == [1, 2, 3, 4, 5], timeout_s=40)
