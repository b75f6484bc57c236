"""Long polling over real processes, each poll at another one: a client that puts the answers together sees exactly the
log, and is told what changed between two polls, once."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import httpx
import pytest
from psycopg import sql

from tests.e2e.client import Refused, World, eventually
from tests.e2e.cluster import Cluster
from tests.e2e.fallbacks import Poller, headers

pytestmark = pytest.mark.e2e

Polling = Callable[..., Poller]


@pytest.fixture
async def polling(world: World) -> AsyncIterator[Polling]:
    """`polling(user, **held)`; every poller is closed, and held to what a client may see."""
    made: list[Poller] = []

    def make(user: dict[str, Any], **fields: Any) -> Poller:
        made.append(Poller(world, user, **fields))
        return made[-1]

    yield make
    for poller in made:
        await poller.close()


def types(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


async def test_a_client_that_holds_nothing_is_shown_everything_and_then_waits(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    talker = await world.socket(ben, 1)
    await talker.say(room, "before")
    poller = polling(ann)
    first = await poller.poll(25)
    assert types(first) == ["conversation_created", "resumed"]
    assert poller.held == {room: 1}
    assert types(await poller.poll()) == ["unread_updated", "membership_updated"]  # named for the first time
    assert await poller.poll() == []
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await talker.say(room, "while it waits")
    assert types(await waiting) == ["new_message"]
    assert poller.seqs(room) == [2]
    assert await poller.poll(1) == []


async def test_nothing_is_lost_between_polls(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    rooms = [await world.conversation(ann, ben) for _ in range(3)]
    talkers = [await world.socket(ben, server) for server in range(2)]
    poller = polling(ann, held=dict.fromkeys(rooms, 0))

    async def talk() -> None:
        for number in range(120):
            await talkers[number % 2].say(rooms[number % 3], str(number))

    talking = asyncio.create_task(talk())
    while not talking.done():
        await poller.poll(1)
    await talking
    await poller.until_quiet()
    for room in rooms:
        assert poller.seqs(room) == list(range(1, 41))


@contextmanager
def schema_of(cluster: Cluster, world: World) -> Iterator[Callable[..., None]]:
    """`do("DELETE FROM {schema}.messaging_message …", [parameters])`, past the product."""
    with cluster.database.connect() as database:
        row = database.execute("SELECT schema_name FROM tenants_tenant WHERE id = %s", [world.tenant.id]).fetchone()
        assert row is not None
        schema = sql.Identifier(str(row[0]))

        def do(text: str, parameters: list[Any] | None = None) -> None:
            database.execute(sql.SQL(text).format(schema=schema), parameters)

        yield do


async def say(world: World, cluster: Cluster, user: dict[str, Any], room: str, count: int) -> None:
    """A text, and the log as if it had been said so often; nobody is told."""
    body = {"conversationId": room, "senderId": user["id"], "type": "text", "content": {"text": "one of many"}}
    await world.rest()("POST", "/messages/send", body)
    with schema_of(cluster, world) as do:
        do(
            """
            INSERT INTO {schema}.messaging_message
            SELECT (jsonb_populate_record(
                one, jsonb_build_object('id', gen_random_uuid(), 'seq', number, 'message_index', number)
            )).*
            FROM {schema}.messaging_message one, generate_series(2, %s) number
            WHERE one.conversation_id = %s AND one.seq = 1
            """,
            [count, room],
        )
        do(
            "UPDATE {schema}.messaging_conversation SET last_seq = %s, message_count = %s WHERE id = %s",
            [count, count, room],
        )


def purge(cluster: Cluster, world: World, room: str, up_to: int) -> None:
    """As retention does."""
    with schema_of(cluster, world) as do:
        do("DELETE FROM {schema}.messaging_message WHERE conversation_id = %s AND seq <= %s", [room, up_to])
        do(
            "UPDATE {schema}.messaging_conversation SET purged_seq = %s, purged_count = %s WHERE id = %s",
            [up_to, up_to, room],
        )


async def test_more_than_an_answer_holds_comes_in_several(world: World, cluster: Cluster, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    rooms = [await world.conversation(ann, ben) for _ in range(2)]
    for room in rooms:
        await say(world, cluster, ben, room, 620)
    poller = polling(ann, held=dict.fromkeys(rooms, 0))
    first = await poller.poll(25)
    assert types(first) == ["new_message"] * 1000
    assert "resumed" not in types(first)  # there is more
    second = await poller.poll(25)
    assert types(second)[:240] == ["new_message"] * 240
    assert types(second)[240:] == ["resumed", "unread_updated", "unread_updated"]
    for room in rooms:
        assert poller.seqs(room) == list(range(1, 621))
    assert await poller.poll() == []


async def test_an_answer_is_of_a_megabyte_and_a_larger_frame_comes_alone(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    talker = await world.socket(ben, 1)
    await asyncio.gather(*(talker.say(room, "字" * 20_000) for _ in range(60)))
    poller = polling(ann, held={room: 0})
    first = await poller.poll()
    assert 1_000_000 < len(json.dumps(first, ensure_ascii=False)) < 1_100_000
    await poller.until_quiet()
    assert poller.seqs(room) == list(range(1, 61))


async def test_what_retention_took_is_said_at_once(world: World, cluster: Cluster, polling: Polling) -> None:
    """Where the answer is full before everything was read, too: nobody could say it later."""
    ann, ben = await world.users("ann", "ben")
    short, long, whole = [await world.conversation(ann, ben) for _ in range(3)]
    await say(world, cluster, ben, short, 30)
    await say(world, cluster, ben, whole, 5)
    poller, late = polling(ann, held={short: 3, whole: 5}), polling(ann, held={short: 3, long: 2, whole: 5})
    purge(cluster, world, short, 20)
    frames = await poller.poll()
    (resumed,) = [frame["data"]["conversations"] for frame in frames if frame["type"] == "resumed"]
    assert poller.seqs(short) == list(range(21, 31))
    said = {"seq": 30, "complete": False, "truncatedBefore": 21, "reason": "retention"}
    assert {name: resumed[short][name] for name in said} == said
    assert resumed[whole]["complete"] is True
    assert poller.held == {short: 30, whole: 5, long: 0}
    assert types(await poller.poll()) == ["unread_updated", "membership_updated"]  # of the one that was not named
    assert await poller.poll() == []
    await say(world, cluster, ben, long, 1100)
    purge(cluster, world, long, 10)
    first = await late.poll()
    assert len(first) == 1001
    assert first[-1]["type"] == "resumed"
    told = first[-1]["data"]["conversations"]
    assert told.keys() == {short, long}
    assert told[long] == {"seq": 10, "complete": False, "truncatedBefore": 11, "reason": "retention"}
    assert late.seqs(long)[0] == 11
    await late.until_quiet()
    assert late.seqs(long) == list(range(11, 1101))
    assert late.seqs(short) == list(range(21, 31))
    last = late.of_type("resumed")[-1]["data"]["conversations"]
    assert {name: one["complete"] for name, one in last.items()} == dict.fromkeys((short, long, whole), True)


@pytest.mark.parametrize("count", [999, 1000, 1001], ids=["room for it", "exactly full", "more"])
async def test_what_retention_took_is_said_in_the_last_place_of_an_answer(
    world: World, cluster: Cluster, polling: Polling, count: int
) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    await say(world, cluster, ben, room, count + 10)
    purge(cluster, world, room, 10)
    poller = polling(ann, held={room: 4})
    frames = await poller.poll()
    assert types(frames) == ["new_message"] * min(count, 1000) + ["resumed"]
    resumed = frames[-1]["data"]["conversations"][room]
    assert (resumed["truncatedBefore"], resumed["reason"]) == (11, "retention")
    await poller.until_quiet()
    assert poller.seqs(room) == list(range(11, count + 11))


async def test_a_client_ahead_of_the_log_is_told_so_once(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    await (await world.socket(ben)).say(room, "one")
    poller = polling(ann, held={room: 9})
    await poller.poll()
    (resumed,) = poller.of_type("resumed")
    said = {"seq": 1, "complete": False, "reason": "ahead"}
    assert {name: resumed["data"]["conversations"][room][name] for name in said} == said
    assert await poller.poll() == []
    poller.held[room] = 1
    await (await world.socket(ben)).say(room, "two")
    await poller.poll()
    assert poller.seqs(room) == [2]


# --- what changes between two polls ---------------------------------------------------------------------------------


async def test_coming_and_going_between_polls_and_during_them(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room, other = await world.conversation(ann, ben), await world.conversation(ben)
    rest, talker = world.rest(), await world.socket(ben, 1)
    people = f"/conversations/{room}/participants"
    poller = polling(ann)
    await poller.until_quiet()
    assert poller.held == {room: 0}
    # Between two polls: out, a message, in again without it.
    await rest("DELETE", f"{people}/{ann['id']}")
    assert types(await poller.poll()) == ["conversation_removed", "resumed"]
    assert poller.held == {}
    assert await poller.poll() == []
    await talker.say(room, "without her")
    await rest("POST", people, {"participantIds": [ann["id"]], "showHistory": False})
    back = await poller.poll()
    assert types(back) == ["conversation_created"]
    await poller.until_quiet()
    # Out and in again while nobody polls, with what was said behind it.
    held = poller.held[room]
    await rest("DELETE", f"{people}/{ann['id']}")
    await talker.say(room, "without her again")
    await rest("POST", people, {"participantIds": [ann["id"]], "showHistory": False})
    await talker.say(room, "with her")
    frames = await poller.poll()
    assert [f["data"]["seq"] for f in frames if "seq" in f["data"]] == [held + 3, held + 4]
    (resumed,) = [frame["data"]["conversations"][room] for frame in frames if frame["type"] == "resumed"]
    assert (resumed["truncatedBefore"], resumed["reason"]) == (held + 3, "membership")
    await poller.until_quiet()
    # While it waits.
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    await rest("POST", f"/conversations/{other}/participants", {"participantIds": [ann["id"]]})
    assert "conversation_created" in types(await waiting)
    await poller.until_quiet()
    assert poller.held.keys() == {room, other}
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    await rest("DELETE", f"/conversations/{other}/participants/{ann['id']}")
    assert "conversation_removed" in types(await waiting)
    assert poller.held.keys() == {room}
    assert await poller.poll(1) == []


async def test_what_was_lost_is_said_first_and_once(world: World, polling: Polling) -> None:
    """Whoever is let in again while the rest is read is told so behind it."""
    ann, ben = await world.users("ann", "ben")
    lost, kept = await world.conversation(ann, ben), await world.conversation(ann, ben)
    await (await world.socket(ben, 1)).say(kept, "missed")
    poller = polling(ann, held={lost: 0, kept: 0})
    await world.rest()("DELETE", f"/conversations/{lost}/participants/{ann['id']}")
    frames = await poller.poll()
    assert types(frames) == ["conversation_removed", "new_message", "resumed", "unread_updated"]
    assert frames[0]["data"]["conversationId"] == lost
    poller.held[lost] = 0  # one that does not let go of it is not told again and again
    assert await poller.poll() == []
    assert await poller.poll() == []
    await world.rest()("POST", f"/conversations/{lost}/participants", {"participantIds": [ann["id"]]})
    assert types(await poller.poll())[:2] == ["participant_removed", "participant_added"]


async def test_blocking_between_polls_and_during_them(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    as_ann, talker = world.rest(0, **{"X-Acting-User": ann["id"]}), await world.socket(ben, 1)
    poller = polling(ann)
    await poller.until_quiet()
    await as_ann("POST", f"/users/{ann['id']}/blocks", {"userId": ben["id"]})
    await talker.say(room, "hidden")
    frames = await poller.poll()
    assert [f["type"] for f in frames if "seq" in f["data"]] == ["event_hidden"]
    assert [f["data"]["blockedUserIds"] for f in frames if f["type"] == "resumed"] == [[ben["id"]]]
    assert await poller.poll() == []
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    await as_ann("DELETE", f"/users/{ann['id']}/blocks/{ben['id']}")
    assert types(await waiting) == ["user_unblocked"]
    assert await poller.poll() == []  # known, though the poll before said it otherwise
    await talker.say(room, "shown")
    assert "new_message" in types(await poller.poll())


async def test_read_positions_and_unread_counts_are_told_once(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    talker, device = await world.socket(ben, 1), await world.socket(ann, 0)
    poller = polling(ann, looking_at=[room])

    async def presence() -> Any:
        return poller.of_type("user_presence") or await poller.poll()

    await eventually(presence, lambda _: bool(poller.of_type("user_presence")))
    await poller.until_quiet()
    await talker.say(room, "one")
    await talker.command("mark_read", {"conversationId": room, "seq": 1})
    frames = await poller.poll()
    assert types(frames) == ["new_message", "conversation_read"]
    assert (frames[1]["data"]["userId"], frames[1]["data"]["lastReadSeq"]) == (ben["id"], 1)
    await device.command("mark_read", {"conversationId": room, "seq": 1})
    frames = await poller.poll()
    assert types(frames) == ["unread_updated"]
    assert (frames[0]["data"]["lastReadSeq"], frames[0]["data"]["unreadCount"]) == (1, 0)
    assert await poller.poll() == []
    await device.say(room, "two")
    await poller.until_quiet()
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    await talker.command("mark_read", {"conversationId": room, "seq": 2})
    assert types(await waiting) == ["conversation_read"]
    await talker.say(room, "three")
    await poller.until_quiet()
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    await device.command("mark_read", {"conversationId": room, "seq": 3})
    frames = await waiting  # ann's own reading is shown to who looks, too
    assert types(frames) == ["conversation_read", "unread_updated"]
    assert [frame["data"]["lastReadSeq"] for frame in frames] == [3, 3]
    assert await poller.poll() == []
    await world.rest(0, **{"X-Acting-User": ann["id"]})("PATCH", f"/conversations/{room}/membership", {"pinned": True})
    frames = await poller.poll()
    assert [(f["type"], f["data"]["membership"]["pinned"]) for f in frames] == [("membership_updated", True)]
    assert await poller.poll() == []


async def test_presence_and_typing_of_whom_one_looks_at(world: World, polling: Polling) -> None:
    """Who polls again and again is online all the while; who goes offline between two polls is told of."""
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    poller = polling(ann, looking_at=[room, "nowhere"])
    first = await poller.poll()
    assert [f["data"]["code"] for f in first if f["type"] == "error"] == ["conversation_not_found"]
    assert [f for f in first if f["type"] == "user_presence"] == []  # offline is what nobody need say
    await poller.until_quiet()
    talker = await world.socket(ben, 1)

    async def statuses() -> Any:
        """As they followed each other: in the moment of a change it may be said by the change and by what is there."""
        await poller.poll()
        told = [(f["data"]["userId"], f["data"]["status"]) for f in poller.of_type("user_presence")]
        return [status for status, _ in groupby(told)]

    await eventually(statuses, lambda told: told == [(ben["id"], "online")])
    await talker.command("join_conversation", {"conversationId": room})
    await talker.expect("user_presence", userId=ann["id"], status="online")
    assert await poller.poll() == []
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    await talker.command("typing_start", {"conversationId": room})
    frames = await waiting
    assert [(f["type"], f["data"]["isTyping"]) for f in frames] == [("user_typing", True)]
    await talker.close()
    online, offline = (ben["id"], "online"), (ben["id"], "offline")
    await eventually(statuses, lambda told: told[-1] == offline)
    assert await statuses() == [online, offline]
    assert talker.of_type("user_presence", userId=ann["id"], status="offline") == []


async def test_a_poll_may_count_as_away(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    watcher, poller = await world.socket(ben), polling(ann)
    await watcher.command("join_conversation", {"conversationId": room})
    await poller.until_quiet()
    await watcher.expect("user_presence", userId=ann["id"], status="online")
    waiting = asyncio.create_task(poller.poll(25, presence="away"))
    await watcher.expect("user_presence", userId=ann["id"], status="away")
    await watcher.say(room, "come back")
    assert types(await waiting) == ["new_message"]


# --- state ----------------------------------------------------------------------------------------------------------


async def test_a_state_that_no_answer_held(world: World, polling: Polling) -> None:
    """Refused where it can be seen; otherwise everything is told again, and nothing is lost."""
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    await (await world.socket(ben)).say(room, "one")
    poller = polling(ann, held={room: 0})
    await poller.until_quiet()
    good = str(poller.state)
    for wrong in ("A", "AQ1", "AQIDBA", good[:-1], "a+b/", "x" * 400_001, 7, ["A"]):
        with pytest.raises(Refused) as refused:
            await poller.poll(state=wrong)
        assert (refused.value.status, refused.value.code) == (422, "validation_failed")
    for strange in (None, "Ag", "AgIDBA", "AQ", "AQIDBAUGBw"):
        frames = await poller.poll(state=strange)
        assert types(frames) == ["resumed", "unread_updated"], strange
        assert await poller.poll() == []
    assert poller.seqs(room) == [1]
    other = polling(ben, held={room: 1})
    assert types(await other.poll(state=good)) == ["unread_updated"]  # what is not so for ben as it was for ann


async def test_another_tenants_ids_lead_nowhere(world: World, cluster: Cluster, make_world: Any) -> None:
    theirs = await make_world(cluster)
    (ann,), (eve,) = await world.users("ann"), await theirs.users("eve")
    room = await theirs.conversation(eve)
    await (await theirs.socket(eve)).say(room, "secret")
    poller = Poller(world, ann, held={room: 0, "nowhere": 0}, looking_at=[room])
    frames = await poller.poll()
    gone = {"seq": 0, "complete": False, "reason": "removed"}
    (resumed,) = [frame["data"]["conversations"] for frame in frames if frame["type"] == "resumed"]
    assert resumed == {room: gone, "nowhere": gone}
    assert set(types(frames)) == {"resumed", "conversation_removed", "error"}
    assert [f["data"]["code"] for f in frames if f["type"] == "error"] == ["conversation_not_found"]
    await poller.close()


# --- who may, and what goes wrong -----------------------------------------------------------------------------------


async def test_who_may_not_poll_any_more_is_told_by_the_next_poll(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    poller = polling(ann, held={room: 0})
    await poller.until_quiet()
    waiting = asyncio.create_task(poller.poll(25))
    await asyncio.sleep(0.5)
    await world.rest()("POST", f"/users/{ann['id']}/deactivate")
    assert await waiting == []  # long before 25 s: the test would not wait for it
    with pytest.raises(Refused) as refused:
        await poller.poll()
    assert (refused.value.status, refused.value.code) == (403, "user_inactive")
    short = polling(ben, held={room: 0})
    who = headers(world.tenant, ben, exp=datetime.now(UTC) + timedelta(seconds=2))
    for http in short.clients:
        http.headers.update(who)
    await short.until_quiet()
    assert await short.poll(25) == []  # ends with its token
    for _ in range(2):  # at once, though elsewhere some difference of clocks is allowed: it would poll without a pause
        with pytest.raises(Refused) as refused:
            await short.poll(25)
    assert (refused.value.status, refused.value.code) == (401, "token_expired")


async def test_a_suspended_tenants_polls_end(world: World, polling: Polling) -> None:
    (ann,) = await world.users("ann")
    pollers = [polling(ann), polling(ann)]
    for poller in pollers:
        await poller.until_quiet()
    waiting = [asyncio.create_task(poller.poll(25, server=server)) for server, poller in enumerate(pollers)]
    await asyncio.sleep(0.5)
    await world.platform()("POST", f"/admin/tenants/{world.tenant.id}/suspend")
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [[], []]

    async def poll_again() -> tuple[int | None, str] | None:
        try:
            await pollers[0].poll(server=0)
        except Refused as refused:
            return refused.status, refused.code
        return None

    assert await eventually(poll_again, bool, timeout_s=6) == (403, "tenant_inactive")


async def test_two_polls_of_a_user_at_once_are_two_devices(world: World, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    talker = await world.socket(ben)
    pollers = [polling(ann) for _ in range(4)]
    for poller in pollers:
        await poller.until_quiet()
    waiting = [asyncio.create_task(poller.poll(25)) for poller in pollers]
    await asyncio.sleep(0.5)
    await talker.say(room, "to all")
    assert [types(frames) for frames in await asyncio.gather(*waiting)] == [["new_message"]] * 4
    # The same one twice, as a client that lost patience does: both are answered alike.
    alike = polling(ann, held=dict(pollers[0].held), state=pollers[0].state)
    await talker.say(room, "again")
    one, other = await asyncio.gather(pollers[0].poll(), alike.poll())
    assert one == other
    assert types(one) == ["new_message"]


async def test_a_poll_that_is_cut_takes_nothing_with_it(world: World, cluster: Cluster, polling: Polling) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    talker, poller = await world.socket(ben, 1), polling(ann)
    await poller.until_quiet()
    server = cluster.servers[0]
    lines = [f"{name}: {value}" for name, value in headers(world.tenant, ann).items()]
    lines += ["Host: 127.0.0.1", "Content-Type: application/json"]

    async def places_taken() -> float:
        return server.metric("messagecore_fallback_connections")

    await eventually(places_taken, lambda taken: taken == 0)
    for number in range(1, 6):
        body = json.dumps({"conversations": poller.held, "state": poller.state, "waitSeconds": 25}).encode()
        head = "\r\n".join(["POST /api/v1/realtime/poll HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(head.encode() + body)
            await eventually(places_taken, lambda taken: taken == 1)
        if number % 2:
            await eventually(places_taken, lambda taken: taken == 0)  # long before its time is over
        await talker.say(room, "while it was cut")
        await poller.until_quiet()
        assert poller.seqs(room) == list(range(1, number + 1))


async def test_a_user_polls_only_so_fast(world: World, polling: Polling) -> None:
    (ann,) = await world.users("ann")
    poller = polling(ann)
    await poller.until_quiet()
    http = poller.clients[0]
    body: dict[str, Any] = {"conversations": {}, "state": poller.state}
    answers: list[httpx.Response] = []
    while 429 not in [answer.status_code for answer in answers]:
        assert len(answers) < 1000
        answers += await asyncio.gather(*(http.post("/poll", json=body) for _ in range(50)))
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] in {"rate_limited", "too_many_connections"}
    assert {answer.status_code for answer in answers} == {200, 429}
    if refused.json()["error"]["code"] == "rate_limited":
        assert refused.headers["retry-after"] == "1"
    await polling(ann).poll(server=1)  # counted by process


async def test_without_the_database_a_poll_says_so_and_the_next_has_everything(
    world: World, cluster: Cluster, polling: Polling
) -> None:
    """As far as it concerns this tenant: its log cannot be read."""
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    talker, poller = await world.socket(ben, 1), polling(ann)
    await poller.until_quiet()
    await talker.say(room, "one")
    held, state = dict(poller.held), poller.state
    with schema_of(cluster, world) as do:
        do("ALTER TABLE {schema}.messaging_participant RENAME TO away")
        try:
            for _ in range(2):
                with pytest.raises(Refused) as refused:
                    await poller.poll(5)
                assert (refused.value.status, refused.value.code) == (503, "service_unavailable")
                assert refused.value.retryable
        finally:
            do("ALTER TABLE {schema}.away RENAME TO messaging_participant")
    assert (poller.held, poller.state) == (held, state)
    assert types(await poller.poll()) == ["new_message"]
