"""The socket as a client meets it, over two web processes: who gets in, what they may do, what they hear."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from tests.e2e.client import Refused, Socket, World, unique
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e


# --- getting in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["frame", "headers", "query"])
@pytest.mark.parametrize("key", ["secret", "publishable"])
@pytest.mark.parametrize("path", ["/ws", "/"])
async def test_every_way_in_is_open_to_both_kinds_of_key(world: World, way: str, key: str, path: str) -> None:
    (user,) = await world.users("ann")
    raw_key = world.tenant.secret_key if key == "secret" else world.tenant.publishable_key
    token = world.tenant.token(user["externalUserId"])
    url = world.servers[0].ws_url.removesuffix("/ws") + path
    if way == "headers":
        headers = {"X-API-Key": raw_key, "Authorization": f"Bearer {token}"}
        socket = await world.raw_socket(url=url, additional_headers=headers)
    elif way == "query":
        socket = await world.raw_socket(url=f"{url}?apiKey={raw_key}&token={token}")
    else:
        socket = await world.raw_socket(url=url)
        await socket.send("authenticate", {"apiKey": raw_key, "token": token})
    opened = await socket.expect("authenticated")
    assert opened["data"]["userId"] == user["id"]
    assert opened["data"]["externalUserId"] == user["externalUserId"]
    assert socket.frames == [opened]


async def test_commands_right_behind_authenticate_are_handled_in_order(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    socket = await world.raw_socket()
    token = world.tenant.token(ann["externalUserId"])
    await socket.send("authenticate", {"apiKey": world.tenant.publishable_key, "token": token}, id="a")
    await socket.send("join_conversation", {"conversationId": conversation}, id="b")
    for number in range(5):
        body = {"conversationId": conversation, "type": "text", "content": {"text": str(number)}}
        await socket.send("send_message", body, id=f"m{number}")
    await socket.send("ping", id="z")
    await socket.expect(lambda frame: frame.get("id") == "z")
    assert [frame["id"] for frame in socket.frames if "id" in frame] == ["a", "b", "m0", "m1", "m2", "m3", "m4", "z"]
    assert {frame["type"] for frame in socket.frames if "id" in frame} == {"ack"}
    await socket.expect("new_message", seq=5)
    assert socket.views() == {conversation: [1, 2, 3, 4, 5]}


async def test_who_says_nothing_is_closed_with_4001(world: World) -> None:
    socket = await world.raw_socket()
    began = time.monotonic()
    assert await socket.until_closed() == 4001
    assert time.monotonic() - began >= 0.9
    assert [frame["type"] for frame in socket.frames] == ["error", "disconnecting"]
    assert socket.frames[0]["data"]["code"] == "not_authenticated"
    assert socket.frames[1]["data"]["reconnect"] is True


async def test_a_refused_socket_is_told_why(world: World) -> None:
    (user,) = await world.users("ann")
    tenant = world.tenant
    name = user["externalUserId"]
    good = tenant.token(name)
    unsigned = jwt.encode({"sub": name, "exp": datetime.now(UTC) + timedelta(hours=1)}, None, algorithm="none")
    other_secret = "mc_ts_" + "0" * 40
    refused: list[tuple[dict[str, Any], str, int]] = [
        ({}, "api_key_required", 4003),
        ({"token": good}, "api_key_required", 4003),
        ({"apiKey": "mc_sk_nonsense", "token": good}, "invalid_api_key", 4003),
        ({"apiKey": tenant.secret_key[:-1] + "_", "token": good}, "invalid_api_key", 4003),
        ({"apiKey": tenant.secret_key}, "token_required", 4003),
        ({"apiKey": tenant.publishable_key, "token": None}, "token_required", 4003),
        ({"apiKey": tenant.secret_key, "token": "nonsense"}, "invalid_token", 4003),
        ({"apiKey": tenant.secret_key, "token": unsigned}, "invalid_token", 4003),
        ({"apiKey": tenant.secret_key, "token": tenant.token(name, algorithm="HS512")}, "invalid_token", 4003),
        ({"apiKey": tenant.secret_key, "token": tenant.token(name, secret=other_secret)}, "invalid_token", 4003),
        ({"apiKey": tenant.secret_key, "token": tenant.token(name, iss=str(user["id"]))}, "invalid_token", 4003),
        ({"apiKey": tenant.secret_key, "token": tenant.token("nobody")}, "invalid_token", 4003),
        ({"apiKey": tenant.secret_key, "token": tenant.token("a\0b")}, "invalid_token", 4003),
        ({"apiKey": tenant.secret_key, "token": tenant.token("a\ud800b")}, "invalid_token", 4003),
        (
            {"apiKey": tenant.secret_key, "token": tenant.token(name, exp=datetime.now(UTC) - timedelta(minutes=1))},
            "token_expired",
            4010,
        ),
    ]
    for data, error, code in refused:
        socket = await world.raw_socket()
        await socket.send("authenticate", data, id="x")
        assert await socket.until_closed() == code, data
        assert [frame["type"] for frame in socket.frames] == ["error", "disconnecting"]
        assert (socket.frames[0]["id"], socket.frames[0]["data"]["code"]) == ("x", error)
        assert socket.frames[1]["data"]["code"] == code


async def test_another_tenants_key_and_token_do_not_mix(cluster: Cluster, world: World, make_world: Any) -> None:
    other = await make_world(cluster)
    (user,) = await world.users("ann")
    await other.rest()("POST", "/users", {"externalUserId": user["externalUserId"]})
    socket = await world.raw_socket()
    token = world.tenant.token(user["externalUserId"])
    await socket.send("authenticate", {"apiKey": other.tenant.secret_key, "token": token})
    assert await socket.until_closed() == 4003
    assert socket.frames[0]["data"]["code"] == "invalid_token"


async def test_a_socket_ends_with_its_token(world: World) -> None:
    (user,) = await world.users("ann")
    socket = await world.socket(user, exp=datetime.now(UTC) + timedelta(seconds=2))
    assert await socket.until_closed(timeout_s=6) == 4010
    assert socket.frames[-1]["type"] == "disconnecting"
    assert socket.frames[-1]["data"]["reconnect"] is True


async def test_suspension_closes_live_sockets_everywhere_within_5_s(world: World) -> None:
    (user,) = await world.users("ann")
    sockets = [await world.socket(user, server) for server in (0, 1)]
    await world.platform()("POST", f"/admin/tenants/{world.tenant.id}/suspend")
    assert await asyncio.gather(*(socket.until_closed(5.5) for socket in sockets)) == [4011, 4011]
    late = await world.raw_socket()
    token = world.tenant.token(user["externalUserId"])
    await late.send("authenticate", {"apiKey": world.tenant.secret_key, "token": token})
    assert await late.until_closed(5) == 4011
    assert late.frames[-1]["data"]["code"] == 4011
    with pytest.raises(Refused) as refused:
        await world.rest(1)("GET", "/users")
    assert (refused.value.status, refused.value.code) == (403, "tenant_inactive")


async def test_a_revoked_key_ends_sockets_and_calls_everywhere_within_5_s(cluster: Cluster, world: World) -> None:
    (user,) = await world.users("ann")
    rests = [world.rest(server) for server in (0, 1)]
    for rest in rests:
        await rest("GET", "/users")
    token = world.tenant.token(user["externalUserId"])
    sockets = []
    for server in (0, 1):
        socket = await world.raw_socket(server)
        await socket.send("authenticate", {"apiKey": world.tenant.secret_key, "token": token})
        await socket.expect("authenticated")
        sockets.append(socket)
    kept = await world.socket(user, 1)
    with cluster.database.connect() as database:
        database.execute(
            "UPDATE tenants_apikey SET revoked_at = now() WHERE tenant_id = %s AND kind = 'secret'", [world.tenant.id]
        )
    revoked_at = time.monotonic()
    assert await asyncio.gather(*(socket.until_closed(5.5) for socket in sockets)) == [4003, 4003]
    await asyncio.sleep(max(0.0, revoked_at + 5 - time.monotonic()))
    for rest in rests:
        with pytest.raises(Refused) as refused:
            await rest("GET", "/users")
        assert refused.value.code == "invalid_api_key"
    await kept.settle()


# --- conversations --------------------------------------------------------------------------------------------------


async def test_join_and_leave_are_answered(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    external = unique("order")
    conversation = await world.conversation(ann, ben, externalId=external)
    socket = await world.socket(ann)
    for name in (conversation, external):
        joined = await socket.command("join_conversation", {"conversationId": name})
        assert joined == {"conversationId": conversation, "conversationExternalId": external, "lastSeq": 0}
    await socket.send("join_conversation", {"conversationId": conversation})
    assert (await socket.expect("joined_conversation"))["data"] == joined
    left = await socket.command("leave_conversation", {"conversationId": external})
    assert left == {"conversationId": conversation, "conversationExternalId": external}
    await socket.send("leave_conversation", {"conversationId": conversation})
    assert (await socket.expect("left_conversation"))["data"] == left


async def test_a_conversation_of_others_does_not_exist(cluster: Cluster, world: World, make_world: Any) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    external = unique("secret")
    conversation = await world.conversation(ann, ben, externalId=external)
    stranger = await make_world(cluster)
    (mallory,) = await stranger.users("mallory")
    for socket in (await world.socket(eve), await stranger.socket(mallory)):
        for name in (conversation, external, "no-such-thing"):
            for command in ("join_conversation", "leave_conversation", "typing_start", "typing_stop"):
                with pytest.raises(Refused) as refused:
                    await socket.command(command, {"conversationId": name})
                assert (refused.value.code, refused.value.retryable) == ("conversation_not_found", False)
            with pytest.raises(Refused) as refused:
                await socket.say(name, "let me in")
            assert refused.value.code == "conversation_not_found"
    assert await world.log(conversation) == []


async def test_a_message_reaches_every_connection_of_every_member(world: World) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    conversation = await world.conversation(ann, ben)
    sockets = [await world.socket(user, server) for user in (ann, ben) for server in (0, 1)]
    outsider = await world.socket(eve)
    for socket in sockets:
        await socket.settle()  # no longer holding back for a resume: what comes is shown as it was sent
    sent = await sockets[0].say(conversation, "你好")
    by_rest = await world.rest(1)(
        "POST",
        "/messages/send",
        {"conversationId": conversation, "senderId": ben["id"], "type": "text", "content": {"text": "hi"}},
    )
    for socket in sockets:
        await socket.expect("new_message", seq=2)
        first, second = socket.of_type("new_message")
        assert first["data"]["message"] == sent
        assert second["data"]["message"] == by_rest
    await outsider.settle()
    assert [frame["type"] for frame in outsider.frames if frame["type"] != "ack"] == ["authenticated"]


async def test_sending_twice_with_one_client_id_leaves_one_message(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    first, second = await world.socket(ann, 0), await world.socket(ann, 1)
    answers = await asyncio.gather(
        *(socket.say(conversation, "once", client_id="c1") for socket in (first, second, first, second))
    )
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}
    with pytest.raises(Refused) as refused:
        await first.say(conversation, "twice", client_id="c1")
    assert refused.value.code == "idempotency_conflict"
    await first.settle()
    assert first.views() == second.views() == {conversation: [1]}


async def test_a_new_conversation_is_announced_and_heard(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    sockets = [await world.socket(user, server) for user in (ann, ben) for server in (0, 1)]
    conversation = await world.conversation(ann, ben)
    await world.rest()(
        "POST",
        "/messages/send",
        {"conversationId": conversation, "senderId": ann["id"], "type": "text", "content": {"text": "first"}},
    )
    for socket in sockets:
        await socket.expect("new_message")
        kinds = [frame["type"] for frame in socket.frames]
        assert kinds == ["authenticated", "conversation_created", "new_message"]
        assert socket.frames[1]["data"]["conversation"]["id"] == conversation


async def test_who_is_removed_hears_of_it_and_nothing_after(world: World) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    conversation = await world.conversation(ann, ben, eve)
    rest = world.rest(1)
    staying = await world.socket(ann, 0)
    leaving = [await world.socket(eve, server) for server in (0, 1)]
    for socket in leaving:
        await socket.command("join_conversation", {"conversationId": conversation})
    await staying.say(conversation, "one")
    await rest("DELETE", f"/conversations/{conversation}/participants/{eve['id']}")
    for socket in leaving:
        removed = await socket.expect("conversation_removed")
        assert removed["data"]["reason"] == "removed"
    await staying.say(conversation, "two")
    await staying.command("typing_start", {"conversationId": conversation})
    await staying.expect("new_message", seq=3)
    for socket in leaving:
        await socket.settle()
        assert [frame["type"] for frame in socket.frames][-3:-1] == ["participant_removed", "conversation_removed"]
        assert socket.views() == {conversation: [1, 2]}
        with pytest.raises(Refused) as refused:
            await socket.say(conversation, "three")
        assert refused.value.code == "conversation_not_found"
    # Coming back begins a new view, without what was said in between.
    await rest("POST", f"/conversations/{conversation}/participants", {"participantIds": [eve["id"]]})
    await staying.say(conversation, "four")
    for socket in leaving:
        await socket.expect("new_message", seq=5)
        assert socket.views() == {conversation: [1, 2, 4, 5]}
        assert len(socket.of_type("conversation_created")) == 1


async def test_participant_events_are_in_the_dense_log(world: World) -> None:
    ann, ben, eve, dan = await world.users("ann", "ben", "eve", "dan")
    conversation = await world.conversation(ann, ben)
    rest = world.rest()
    watching, coming = await world.socket(ann, 0), await world.socket(eve, 1)
    await watching.say(conversation, "one")
    await rest("POST", f"/conversations/{conversation}/participants", {"participantIds": [eve["id"], dan["id"]]})
    await watching.say(conversation, "four")
    await rest("DELETE", f"/conversations/{conversation}/participants/{dan['id']}")
    await watching.expect("participant_removed", seq=5)
    kinds = [frame["type"] for frame in watching.frames if "seq" in frame["data"] and frame["type"] != "ack"]
    assert kinds == ["new_message", "participant_added", "participant_added", "new_message", "participant_removed"]
    assert watching.views() == {conversation: [1, 2, 3, 4, 5]}
    await coming.expect("participant_removed", seq=5)
    assert coming.views() == {conversation: [2, 3, 4, 5]}
    assert [frame["type"] for frame in coming.frames][:2] == ["authenticated", "conversation_created"]


# --- typing ---------------------------------------------------------------------------------------------------------


async def test_typing_is_shown_to_onlookers_alone_once_and_ends_by_itself(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    typist, typists_other = await world.socket(ann, 0), await world.socket(ann, 1)
    near, far, away = await world.socket(ben, 0), await world.socket(ben, 1), await world.socket(ben, 1)
    for socket in (typist, typists_other, near, far):
        await socket.command("join_conversation", {"conversationId": conversation})
    for _ in range(5):
        await typist.command("typing_start", {"conversationId": conversation})
    began = time.monotonic()
    for socket in (near, far):
        await socket.expect("user_typing", isTyping=True, userId=ann["id"])
    await typist.command("typing_stop", {"conversationId": conversation})
    await typist.command("typing_start", {"conversationId": conversation})
    for socket in (near, far):
        await socket.expect(lambda frame: frame["type"] == "user_typing" and not frame["data"]["isTyping"])
    began = time.monotonic()
    for socket in (near, far):
        await _until_typing(socket, [True, False, True, False])
    assert 5 < time.monotonic() - began < 8
    for socket in (typist, typists_other, away):
        await socket.settle()
        assert socket.of_type("user_typing") == []
    await near.command("leave_conversation", {"conversationId": conversation})
    await typist.command("typing_start", {"conversationId": conversation})
    await _until_typing(far, [True, False, True, False, True])
    await near.settle()
    assert len(near.of_type("user_typing")) == 4


async def _until_typing(socket: Socket, wanted: list[bool]) -> None:
    await socket.expect(
        lambda _: [frame["data"]["isTyping"] for frame in socket.of_type("user_typing")] == wanted,
        what=f"typing {wanted}",
    )


# --- presence -------------------------------------------------------------------------------------------------------


async def presence_of(world: World, user: dict[str, Any]) -> str:
    shown = await world.rest(1)("GET", f"/users/{user['id']}")
    return str(shown["presence"]["status"])


async def test_presence_knows_several_devices_and_does_not_flicker(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    watcher = await world.socket(ann, 0)
    await watcher.command("join_conversation", {"conversationId": conversation})
    assert await presence_of(world, ben) == "offline"
    phone = await world.socket(ben, 0)
    await watcher.expect("user_presence", userId=ben["id"], status="online")
    laptop = await world.socket(ben, 1)
    assert await presence_of(world, ben) == "online"
    newcomer = await world.socket(ann, 1)
    await newcomer.command("join_conversation", {"conversationId": conversation})
    await newcomer.expect("user_presence", userId=ben["id"], status="online")

    await phone.close()
    await asyncio.sleep(3)  # longer than the grace of 2 s
    assert await presence_of(world, ben) == "online"
    await laptop.close()
    assert await presence_of(world, ben) == "online"
    back = await world.socket(ben, 0)
    await asyncio.sleep(3)
    await watcher.settle()
    assert [frame["data"]["status"] for frame in watcher.of_type("user_presence")] == ["online"]

    await back.close()
    began = time.monotonic()
    await watcher.expect("user_presence", userId=ben["id"], status="offline")
    assert time.monotonic() - began > 1.5
    assert await presence_of(world, ben) == "offline"
    assert len(watcher.of_type("user_presence")) == 2
    shown = await world.rest()("GET", f"/users/{ben['id']}")
    assert shown["presence"]["lastSeen"] is not None


async def test_an_unknown_command_is_said_to_be_one(world: World) -> None:
    (ann,) = await world.users("ann")
    socket = await world.socket(ann)
    with pytest.raises(Refused) as refused:
        await socket.command("no_such_command", {})
    assert refused.value.code == "unknown_type"
