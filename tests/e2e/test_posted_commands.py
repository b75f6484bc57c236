"""Commands by POST over real processes: every one of them, done once, by whichever process is asked, for nobody but who
asks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from messagecore.kernel import catalogue
from messaging.models import Role
from messaging.roles import may
from tests.e2e.client import Refused, World, eventually, unique
from tests.e2e.cluster import Cluster
from tests.e2e.fallbacks import Stream, client, headers, post_commands
from tests.e2e.test_socket_laws import ACTIONS, HANDLED, data_for

pytestmark = pytest.mark.e2e

MakeWorld = Callable[[Cluster], Awaitable[World]]
NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"
OF_A_CONNECTION = {"join_conversation", "leave_conversation", "resume", "set_presence"}


def text(conversation: str, said: str, **fields: Any) -> dict[str, Any]:
    data = {"conversationId": conversation, "type": "text", "content": {"text": said}, **fields}
    return {"type": "send_message", "data": data}


def codes(frames: list[dict[str, Any]]) -> list[str]:
    """What became of each."""
    return [frame["data"]["code"] if frame["type"] == "error" else frame["type"] for frame in frames]


async def a_message(world: World, room: str, sender: dict[str, Any]) -> str:
    body = {"conversationId": room, "senderId": sender["id"], "type": "text", "content": {"text": "hi"}}
    return str((await world.rest()("POST", "/messages/send", body))["id"])


# --- every command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [0, 1], ids=["the stream's process", "another process"])
async def test_every_command_is_done(world: World, asked: int) -> None:
    """With an id and without: what is answered is what the socket answers, or an `ack` where that is silent."""
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    stream = await Stream.begin(world, ann, 0, commands_to=asked)
    for type_, command in catalogue.commands().items():
        if type_ == "authenticate":
            with pytest.raises(Refused) as refused:
                await stream.command(type_, catalogue.definitions()[command["schema"]]["examples"][0])
            assert refused.value.code == "already_authenticated"
            continue
        message = await a_message(world, room, ann)
        data: dict[str, Any] | None = None
        if type_ == "set_presence":
            data = {"status": "away"}
        elif type_ != "ping":
            data = data_for(type_, conversation=room, message=message, user=ben["id"])
        await stream.command(type_, data)  # held to the schema of the socket's ack
        if type_ == "send_message":
            data = data_for(type_, conversation=room, message=message, user=ben["id"])
        frame = {"type": type_} | ({} if data is None else {"data": data})
        (answer,) = await post_commands(stream.elsewhere, frame, stream.connection_id)
        assert (answer["type"], "id" in answer) == (command["event"] or "ack", False), type_
        if type_ == "resume":  # that came by the stream, too, in its place among the events
            assert [one["data"] for one in stream.of_type("resumed")][-1] == answer["data"]
    await eventually(lambda: _log(world, room), lambda log: len(log) > 10)
    assert stream.violations == []


async def _log(world: World, room: str) -> list[int]:
    return await world.log(room)


@pytest.mark.parametrize("role", [str(role) for role in Role])
async def test_a_role_may_what_it_may_by_socket(world: World, role: str) -> None:
    rest = world.rest()
    actor, other = await world.users("actor", "other")
    room = await world.conversation(actor, other)
    if role != "member":
        await rest("PATCH", f"/conversations/{room}/participants/{actor['id']}", {"role": role})
    async with client(world.servers[0], headers(world.tenant, actor)) as http:
        for command in HANDLED:
            if command in OF_A_CONNECTION:
                continue
            message = await a_message(world, room, other)
            data = data_for(command, conversation=room, message=message, user=other["id"])
            action = ACTIONS[command]
            allowed = action is not None and may(role, action)
            before = len(await world.log(room)), await rest("GET", f"/messages/{message}")
            answers = await post_commands(http, {"type": command, "id": 1, "data": data})
            assert codes(answers) == ["ack" if allowed else "permission_denied"], command
            if not allowed:
                assert (len(await world.log(room)), await rest("GET", f"/messages/{message}")) == before


@pytest.mark.parametrize("asked", [0, 1], ids=["the stream's process", "another process"])
async def test_what_is_about_a_stream_is_felt_there(world: World, asked: int) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    talker = await world.socket(ben, 1)
    stream = await Stream.begin(world, ann, 0, commands_to=asked)
    other = await Stream.begin(world, ann, 0)
    assert (await stream.command("join_conversation", {"conversationId": room}))["conversationId"] == room
    await talker.command("typing_start", {"conversationId": room})
    await stream.expect("user_typing", conversationId=room, isTyping=True)
    await talker.command("typing_stop", {"conversationId": room})
    await stream.expect("user_typing", conversationId=room, isTyping=False)
    await stream.command("leave_conversation", {"conversationId": room})
    await talker.command("typing_start", {"conversationId": room})
    await talker.say(room, "one")
    await stream.expect("new_message", seq=1)
    assert len(stream.of_type("user_typing")) == 2
    assert other.of_type("user_typing") == []
    resumed = await stream.command("resume", {"conversations": {room: 0}})
    assert resumed["conversations"][room]["seq"] == 1
    assert [one["data"]["seq"] for one in stream.of_type("new_message")] == [1, 1]
    assert [one["data"] for one in stream.of_type("resumed")] == [resumed]
    assert other.of_type("resumed") == []


# --- whose stream ---------------------------------------------------------------------------------------------------


async def test_a_stream_is_only_its_users(world: World, cluster: Cluster, make_world: MakeWorld) -> None:
    """Nobody's id, garbage, a socket's, another user's, another tenant's, one that is closed: all the same."""
    theirs = await make_world(cluster)
    (ann, ben), (eve,) = await world.users("ann", "ben"), await theirs.users("eve")
    room = await world.conversation(ann, ben)
    of_ben = await Stream.begin(world, ben, 0)
    of_eve = await Stream.begin(theirs, eve, 0)
    closed = await Stream.begin(world, ann, 0)
    await closed.close()
    joins = {"type": "join_conversation", "id": 1, "data": {"conversationId": room}}
    away = {"type": "set_presence", "id": 2, "data": {"status": "offline"}}
    for asked in (0, 1):
        async with client(world.servers[asked], headers(world.tenant, ann)) as http:
            for wrong in (None, "x", "0" * 400, of_ben.connection_id, of_eve.connection_id, closed.connection_id):
                answers = await post_commands(http, [joins, away], wrong)
                assert codes(answers) == ["connection_not_found"] * 2, (asked, wrong)
                assert [answer["id"] for answer in answers] == [1, 2]
            answers = await post_commands(http, [text(room, str(asked)), {"type": "ping"}], of_eve.connection_id)
            assert codes(answers) == ["ack", "pong"]  # what is not about a stream is done whatever is named
    await of_ben.expect("new_message", seq=2)
    await of_ben.expect("new_message", seq=1)
    for stream in (of_ben, of_eve):
        assert stream.of_type("joined_conversation") == []
        assert stream.closed is None


async def test_a_stream_of_a_process_that_is_gone_is_waited_for_once(world: World) -> None:
    (ann,) = await world.users("ann")
    stream = await Stream.begin(world, ann)
    gone = stream.connection_id[:-12] + "0123456789ab"
    away = {"type": "set_presence", "data": {"status": "away"}}
    async with client(world.servers[0], headers(world.tenant, ann)) as http:
        async with asyncio.timeout(25):  # twenty times the wait for an answer would be a hundred seconds
            answers = await post_commands(http, [*[away] * 19, {"type": "ping"}], gone)
    assert codes(answers) == ["service_unavailable"] * 19 + ["pong"]
    assert {answer["data"]["retryable"] for answer in answers[:19]} == {True}


async def test_another_tenants_ids_lead_nowhere(world: World, cluster: Cluster, make_world: MakeWorld) -> None:
    theirs = await make_world(cluster)
    (ann,), (eve, kim) = await world.users("ann"), await theirs.users("eve", "kim")
    room = await theirs.conversation(eve, kim)
    message = await a_message(theirs, room, eve)
    before = await theirs.rest()("GET", f"/messages/{message}")
    stream = await Stream.begin(world, ann)
    for command in HANDLED:
        data = data_for(command, conversation=room, message=message, user=eve["id"])
        if command == "resume":
            resumed = await stream.command(command, data)
            assert resumed["conversations"] == {room: {"seq": 0, "complete": False, "reason": "removed"}}
            continue
        with pytest.raises(Refused) as refused:
            await stream.command(command, data)
        assert refused.value.code in {"conversation_not_found", "message_not_found"}, command
    assert await theirs.rest()("GET", f"/messages/{message}") == before
    assert await theirs.log(room) == [1]


# --- several, too many, and nonsense --------------------------------------------------------------------------------


async def test_twenty_at_once_are_done_in_order_each_for_itself(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    wrong: list[dict[str, Any]] = [
        {},
        {"type": "send_message", "id": "no data"},
        {"type": "no_such_command", "id": "unknown"},
        {"type": "ping", "id": {"not": "an id"}},
        {"type": "ping", "id": "more", "extra": 1},
        {"type": "join_conversation", "id": "nothing to join", "data": {"conversationId": room}},
        text(NOWHERE, "lost") | {"id": "nowhere"},
    ]
    good = [text(room, f"{number}") | {"id": number} for number in range(13)]
    batch = [one for pair in zip(good, wrong, strict=False) for one in pair] + good[len(wrong) :]
    assert len(batch) == 20
    async with client(world.servers[0], headers(world.tenant, ann)) as http:
        answers = await post_commands(http, batch)
        expected = [
            "malformed_frame",
            "validation_failed",
            "unknown_type",
            "malformed_frame",
            "malformed_frame",
            "connection_not_found",
            "conversation_not_found",
        ]
        said = codes(answers)
        assert [said[2 * place + 1] for place in range(len(wrong))] == expected
        assert said.count("ack") == 13
        ids = [None, "no data", "unknown", None, "more", "nothing to join", "nowhere"]
        assert [answers[2 * place + 1].get("id") for place in range(len(wrong))] == ids
        acks = [answer for answer in answers if answer["type"] == "ack"]
        assert [(ack["id"], ack["data"]["seq"], ack["data"]["content"]["text"]) for ack in acks] == [
            (number, number + 1, str(number)) for number in range(13)
        ]
        bodies: list[Any] = [[], [text(room, "x")] * 21, [[]], [None], "x", 7, [text(room, "x"), 7]]
        for body in bodies:
            with pytest.raises(Refused) as refused:
                await post_commands(http, body)
            assert (refused.value.status, refused.value.code) == (422, "validation_failed")
    assert await world.log(room) == list(range(1, 14))


async def test_a_user_gives_only_so_many_commands(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    pings = [{"type": "ping", "id": number} for number in range(20)]
    async with client(world.servers[0], headers(world.tenant, ann)) as http:
        said: list[str] = []
        while "too_many_frames" not in said:
            assert len(said) < 20_000
            for answers in await asyncio.gather(*(post_commands(http, pings) for _ in range(15))):
                assert [answer["id"] for answer in answers] == list(range(20))
                said += codes(answers)
        assert said.count("ack") >= 200  # that much at once is nobody's fault
        both = await asyncio.gather(*(post_commands(http, [text(room, "x")] * 20) for _ in range(15)))
    done = [code for answers in both for code in codes(answers)].count("ack")
    assert len(await world.log(room)) == done < 300
    async with client(world.servers[0], headers(world.tenant, ben)) as http:
        assert codes(await post_commands(http, pings)) == ["ack"] * 20  # others are not held up


async def test_a_message_that_is_sent_again_is_there_once(world: World) -> None:
    """By another process, at the same time, and by another way."""
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    client_id = unique("c")
    frame = text(room, "once", clientMessageId=client_id) | {"id": 1}
    https = [client(server, headers(world.tenant, ann)) for server in world.servers]
    answers = await asyncio.gather(*(post_commands(http, [frame, frame]) for http in https * 4))
    socket = await world.socket(ann)
    again = await socket.say(room, "once", client_id=client_id)
    assert {answer["data"]["id"] for both in answers for answer in both} == {again["id"]}
    other = text(room, "something else", clientMessageId=client_id)
    assert codes(await post_commands(https[1], other)) == ["idempotency_conflict"]
    assert await world.log(room) == [1]
    for http in https:
        await http.aclose()


async def test_without_redis_a_user_goes_on(make_cluster: Callable[..., Cluster], make_world: MakeWorld) -> None:
    """What is about a stream of another process has to wait; messages have not."""
    cluster = make_cluster(servers=2)
    world = await make_world(cluster)
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    stream = await Stream.begin(world, ann, 0, commands_to=1)
    joins = {"type": "join_conversation", "id": 1, "data": {"conversationId": room}}
    cluster.valkey.stop()
    try:
        answers = await post_commands(stream.elsewhere, [text(room, "one"), joins, joins], stream.connection_id)
        assert codes(answers) == ["ack", "service_unavailable", "service_unavailable"]
        answers = await post_commands(stream.http, [text(room, "two"), joins], stream.connection_id)
        assert codes(answers) == ["ack", "ack"]
    finally:
        cluster.valkey.start()
    await stream.expect("new_message", seq=2, timeout_s=20)
    assert [one["data"]["seq"] for one in stream.of_type("new_message")] == [1, 2]

    async def leaves() -> list[str]:
        leave = {"type": "leave_conversation", "data": {"conversationId": room}}
        return codes(await post_commands(stream.elsewhere, leave, stream.connection_id))

    await eventually(leaves, lambda said: said == ["left_conversation"])
    assert [fault for server in cluster.servers for fault in server.faults()] == []
