"""Event streams over real processes: what a socket promises, over plain HTTP."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from messagecore.kernel import validation
from tests.e2e.client import Refused, World, eventually, seqs
from tests.e2e.cluster import Cluster, Server
from tests.e2e.fallbacks import Stream, client, headers

pytestmark = pytest.mark.e2e

MakeWorld = Callable[[Cluster], Awaitable[World]]


async def test_a_stream_brings_what_happens_and_is_no_browser_cache(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    stream = await Stream.begin(world, ann)
    assert stream.response is not None
    sent = stream.response.headers
    assert sent["content-type"] == "text/event-stream; charset=utf-8"
    assert (sent["cache-control"], sent["x-accel-buffering"]) == ("no-store, no-transform", "no")
    assert sent["x-request-id"]
    assert "content-length" not in sent
    opened = stream.frames[0]
    assert (opened["type"], opened["data"]["heartbeatSeconds"]) == ("authenticated", 15)
    assert stream.retry_ms is not None
    assert 1000 <= stream.retry_ms <= 4000
    talker = await world.socket(ben, 1)
    for number in range(3):
        await talker.say(room, f"{number} 你好\n\ndata: not an event")
    await stream.expect("new_message", seq=3)
    assert seqs(stream, room) == [1, 2, 3]
    text = stream.of_type("new_message")[0]["data"]["message"]["content"]["text"]
    assert text == "0 你好\n\ndata: not an event"


async def test_a_stream_resumes_and_looks(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    room, other = await world.conversation(ann, ben, externalId="大厅"), await world.conversation(ann, ben)
    talker, rest = await world.socket(ben, 1), world.rest(1)
    body = {"conversationId": room, "senderId": ben["id"], "type": "text"}
    # By REST: a socket may only say so much in a second, which a fast machine is over.
    for first in range(0, 400, 40):
        drafts = [body | {"content": {"text": str(first + number)}} for number in range(40)]
        await asyncio.gather(*(rest("POST", "/messages/send", draft) for draft in drafts))
    stream = await Stream.begin(world, ann, body={"conversations": {"大厅": 0}, "lookingAt": [other, "nowhere"]})
    resumed = await stream.expect("resumed", timeout_s=30)
    assert resumed["data"]["conversations"]["大厅"]["seq"] == 400
    assert seqs(stream, room) == list(range(1, 401))
    assert [one["data"]["conversation"]["id"] for one in stream.of_type("conversation_created")] == [other]
    assert [one["data"]["conversationId"] for one in stream.of_type("joined_conversation")] == [other]
    assert [one["data"]["code"] for one in stream.of_type("error")] == ["conversation_not_found"]
    await talker.command("typing_start", {"conversationId": other})
    await stream.expect("user_typing", conversationId=other, isTyping=True)


async def test_an_event_source_names_everything_in_its_address(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    await (await world.socket(ben)).say(room, "missed")
    held = quote(json.dumps({room: 0}))
    query = f"apiKey={world.tenant.publishable_key}&token={world.tenant.token(ann['externalUserId'])}&resume={held}"
    async with client(world.servers[0], {}) as http, http.stream("GET", f"/sse?{query}") as response:
        assert response.status_code == 200
        found: list[str] = []
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:])["type"])
                validation.validate("ServerFrame", json.loads(line[6:]))
            if "resumed" in found:
                break
    assert found == ["authenticated", "new_message", "unread_updated", "resumed"]


async def test_streams_of_two_processes_see_the_same_log_as_a_socket(world: World) -> None:
    """With a member who is taken out and let in again, and one who blocks."""
    ann, ben, cyd = await world.users("ann", "ben", "cyd")
    rest = world.rest()
    rooms = [await world.conversation(ann, ben, cyd) for _ in range(2)]
    held = {"conversations": dict.fromkeys(rooms, 0)}
    listeners = [
        await Stream.begin(world, ann, 0, body=held),
        await Stream.begin(world, ann, 1, body=held),
        await world.socket(ann, 0),
    ]
    await listeners[2].send("resume", held)
    for listener in listeners:
        await listener.expect("resumed")
    talkers = [await world.socket(ben, 0), await world.socket(cyd, 1)]
    for number in range(40):
        await talkers[number % 2].say(rooms[number % 2], str(number))
        if number == 10:
            for listener in listeners:  # who is shown it later is shown it hidden
                await listener.expect("new_message", seq=6, conversationId=rooms[0])
            await world.rest(0, **{"X-Acting-User": ann["id"]})(
                "POST", f"/users/{ann['id']}/blocks", {"userId": ben["id"]}
            )
            for listener in listeners:
                await listener.expect("user_blocked")
        if number == 20:
            await rest("DELETE", f"/conversations/{rooms[0]}/participants/{ann['id']}")
        if number == 30:
            await rest("POST", f"/conversations/{rooms[0]}/participants", {"participantIds": [ann["id"]]})
    log = [entry["data"]["seq"] for entry in await rest("GET", f"/conversations/{rooms[0]}/events?limit=100")]
    for listener in listeners:
        await listener.expect("new_message", seq=20, conversationId=rooms[1])
        await eventually(_last(listener, rooms[0]), lambda last: last == log[-1])
    views = [
        [
            (f["type"], f["data"]["seq"])
            for f in listener.frames
            if f["data"].get("conversationId") == rooms[0] and "seq" in f["data"]
        ]
        for listener in listeners
    ]
    assert views[0] == views[1] == views[2]
    hidden = [seq for type_, seq in views[0] if type_ == "event_hidden"]
    assert len(hidden) > 5
    for listener in listeners:
        assert len(listener.of_type("conversation_removed")) == len(listener.of_type("conversation_created")) == 1


def _last(listener: Any, room: str) -> Callable[[], Awaitable[Any]]:
    async def last() -> Any:
        return seqs(listener, room)[-1:] and seqs(listener, room)[-1]

    return last


# --- how it ends ----------------------------------------------------------------------------------------------------


async def test_a_stream_ends_with_its_token_and_with_its_user(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    short = await Stream.begin(world, ann, exp=datetime.now(UTC) + timedelta(seconds=2))
    other = await Stream.begin(world, ben, 1)
    assert await short.until_closed() == 4010
    await world.rest()("POST", f"/users/{ben['id']}/deactivate")
    assert await other.until_closed() == 4003
    assert short.of_type("disconnecting")[0]["data"]["reconnect"] is True
    assert other.of_type("disconnecting")[0]["data"]["reconnect"] is False


async def test_a_client_that_goes_is_gone(world: World, cluster: Cluster) -> None:
    (ann,) = await world.users("ann")
    stream = await Stream.begin(world, ann)
    seen = world.rest(1)

    async def status() -> Any:
        return (await seen("POST", "/presence/query", {"userIds": [ann["id"]]}))[0]["status"]

    await eventually(status, lambda found: found == "online")
    open_before = cluster.servers[0].metric("messagecore_fallback_connections")
    await stream.close()
    await eventually(status, lambda found: found == "offline")
    assert cluster.servers[0].metric("messagecore_fallback_connections") == open_before - 1


async def test_a_client_that_does_not_read_is_let_go_of_and_comes_back_to_everything(
    world: World, cluster: Cluster
) -> None:
    """Its queue is bounded; it costs nobody else anything, and resumes."""
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    lines = await _stalled(world, ann, cluster.servers[0])
    talker = await world.socket(ben, 0)
    text = "字" * 15_000
    count = 0
    open_before = cluster.servers[0].metric("messagecore_fallback_connections")
    while cluster.servers[0].metric("messagecore_fallback_connections") == open_before:
        await asyncio.gather(*(talker.say(room, text) for _ in range(50)))
        count += 50
        assert count < 2000
    lines.close()
    stream = await Stream.begin(world, ann, body={"conversations": {room: 0}})
    await stream.expect("resumed", timeout_s=60)
    assert seqs(stream, room) == list(range(1, count + 1))


async def _stalled(world: World, user: dict[str, Any], server: Server) -> socket.socket:
    """A stream whose client reads the head and nothing more."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    lines = [f"{name}: {value}" for name, value in headers(world.tenant, user).items()]
    raw.sendall(("\r\n".join(["GET /api/v1/realtime/sse HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""])).encode())
    assert await asyncio.to_thread(raw.recv, 12) == b"HTTP/1.1 200"
    return raw


async def test_suspension_ends_streams_everywhere_within_5_s(world: World) -> None:
    """Who opens one in that time is let in, or is not; nobody stays."""
    (ann,) = await world.users("ann")
    streams = [await Stream.begin(world, ann, server) for server in (0, 1)]
    await world.platform()("POST", f"/admin/tenants/{world.tenant.id}/suspend")
    assert await asyncio.gather(*(stream.until_closed(5.5) for stream in streams)) == [4011, 4011]

    async def open_late() -> tuple[int | None, str] | None:
        try:
            late = await Stream.begin(world, ann)
        except Refused as refused:
            return refused.status, refused.code
        assert await late.until_closed(5.5) == 4011
        return None

    assert await eventually(open_late, bool, timeout_s=6) == (403, "tenant_inactive")


async def test_revoked_tokens_and_keys_end_their_streams_within_5_s(world: World, cluster: Cluster) -> None:
    ann, ben = await world.users("ann", "ben")
    of_ann, of_ben = await Stream.begin(world, ann, 0), await Stream.begin(world, ben, 1)
    await world.rest()("POST", f"/users/{ann['id']}/tokens/revoke")
    assert await of_ann.until_closed(5.5) == 4003
    assert of_ben.closed is None
    with cluster.database.connect() as database:
        database.execute(
            "UPDATE tenants_apikey SET revoked_at = now() WHERE tenant_id = %s AND kind = 'publishable'",
            [world.tenant.id],
        )
    assert await of_ben.until_closed(5.5) == 4003
    for stream in (of_ann, of_ben):
        assert stream.of_type("disconnecting")[0]["data"]["reconnect"] is False


async def test_a_process_that_ends_says_so_and_answers_who_waits(
    make_cluster: Callable[..., Cluster], make_world: MakeWorld
) -> None:
    cluster = make_cluster(servers=2)
    world = await make_world(cluster)
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    streams = await asyncio.gather(*(Stream.begin(world, one) for one in (ann, ben) for _ in range(40)))
    assert len({stream.connection_id for stream in streams}) == 80
    http = client(cluster.servers[0], headers(world.tenant, ann))
    first = (await http.post("/poll", json={"conversations": {room: 0}})).json()["data"]
    body = {"conversations": {room: 0}, "state": first["state"], "waitSeconds": 25}
    waiting = asyncio.create_task(http.post("/poll", json=body))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    cluster.servers[0].process.terminate()
    assert await asyncio.gather(*(stream.until_closed(5) for stream in streams)) == [1012] * 80
    told = [stream.of_type("disconnecting")[0]["data"] for stream in streams]
    assert {one["reconnect"] for one in told} == {True}
    assert len({one["reconnectAfterMs"] for one in told}) > 40  # spread
    assert 0 <= min(one["reconnectAfterMs"] for one in told) <= max(one["reconnectAfterMs"] for one in told) <= 1000
    answer = await waiting
    assert (answer.status_code, answer.json()["data"]["frames"]) == (200, [])
    assert answer.json()["data"]["state"] == first["state"]
    await asyncio.to_thread(cluster.servers[0].process.wait, 10)
    assert cluster.servers[0].faults() == []
    await http.aclose()
    await (await world.socket(ben, 1)).say(room, "meanwhile")
    again = await Stream.begin(world, ann, 1, body={"conversations": {room: 0}})
    await again.expect("resumed")
    assert seqs(again, room) == [1]


# --- who may --------------------------------------------------------------------------------------------------------


async def refusal(server: Server, method: str, path: str, **options: Any) -> tuple[int, str]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        answer = await http.request(method, path, **options)
    value = answer.json()
    validation.validate("Failure", value)
    assert value["error"]["requestId"] == answer.headers["x-request-id"]
    return answer.status_code, value["error"]["code"]


async def test_who_may_not_is_refused_before_anything_is_streamed(world: World) -> None:
    (ann,) = await world.users("ann")
    server, path = world.servers[0], "/api/v1/realtime/sse"
    good = headers(world.tenant, ann)
    key, token = {"X-API-Key": good["X-API-Key"]}, {"Authorization": good["Authorization"]}
    assert await refusal(server, "GET", path) == (401, "api_key_required")
    assert await refusal(server, "GET", path, headers=token) == (401, "api_key_required")
    assert await refusal(server, "GET", path, headers=key) == (401, "token_required")
    secret = {"X-API-Key": world.tenant.secret_key}
    assert await refusal(server, "GET", path, headers=secret) == (401, "token_required")
    acting = secret | {"X-Acting-User": ann["id"]}
    assert await refusal(server, "GET", path, headers=acting) == (401, "token_required")
    assert await refusal(server, "GET", path, headers=key | {"Authorization": "Bearer x"}) == (401, "invalid_token")
    stranger = key | {"Authorization": f"Bearer {world.tenant.token('nobody')}"}
    assert await refusal(server, "GET", path, headers=stranger) == (401, "invalid_token")
    assert await refusal(server, "GET", f"{path}?apiKey=mc_pk_x&token=y") == (401, "invalid_api_key")
    assert await refusal(server, "GET", f"{path}?more=1", headers=good) == (422, "validation_failed")
    for held in (
        "x",
        "[]",
        "{}}",
        '{"a":-1}',
        '{"a":"1"}',
        quote('{"a\0":1}'),
        "1" * 20,
    ):
        assert (await refusal(server, "GET", f"{path}?resume={held}", headers=good))[0] in {400, 422}, held
    bodies: list[Any] = [
        [],
        {"conversations": []},
        {"more": 1},
        {"lookingAt": [1]},
        {"lookingAt": [str(n) for n in range(21)]},
    ]
    for body in bodies:
        assert await refusal(server, "POST", path, headers=good, json=body) == (422, "validation_failed"), body
    plain = good | {"Content-Type": "text/plain"}
    assert await refusal(server, "POST", path, headers=plain, content=b"{}") == (415, "unsupported_media_type")
    assert await refusal(server, "POST", path, headers=good | {"Content-Type": "application/json"}, content=b"{") == (
        400,
        "invalid_json",
    )
    for method in ("PUT", "PATCH", "DELETE"):
        assert await refusal(server, method, path, headers=good) == (405, "method_not_allowed")
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        assert (await http.head(path, headers=good)).status_code == 405
    assert await refusal(server, "GET", "/api/v1/realtime/nothing", headers=good) == (404, "not_found")
    assert await refusal(server, "GET", "/api/v1/realtime", headers=good) == (404, "not_found")


async def test_another_tenants_token_or_key_opens_nothing(cluster: Cluster, make_world: MakeWorld) -> None:
    ours, theirs = await make_world(cluster), await make_world(cluster)
    (ann,), (eve,) = await ours.users("ann"), await theirs.users("eve")
    for mixed in (
        {"X-API-Key": ours.tenant.publishable_key, "Authorization": headers(theirs.tenant, eve)["Authorization"]},
        {"X-API-Key": theirs.tenant.publishable_key, "Authorization": headers(ours.tenant, ann)["Authorization"]},
    ):
        assert await refusal(cluster.servers[0], "GET", "/api/v1/realtime/sse", headers=mixed) == (401, "invalid_token")


async def test_a_user_has_only_so_many_streams(world: World, cluster: Cluster) -> None:
    (ann,) = await world.users("ann")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(50):
            http = await stack.enter_async_context(client(cluster.servers[0], headers(world.tenant, ann)))
            response = await stack.enter_async_context(http.stream("GET", "/sse"))
            assert response.status_code == 200
        with pytest.raises(Refused) as refused:
            await Stream.begin(world, ann)
        assert (refused.value.status, refused.value.code) == (429, "too_many_connections")
        await Stream.begin(world, ann, 1)


async def test_a_process_has_only_so_many_places(make_cluster: Callable[..., Cluster], make_world: MakeWorld) -> None:
    world = await make_world(make_cluster(servers=1, FALLBACK_MAX_AT_ONCE="2"))
    ann, ben = await world.users("ann", "ben")
    streams = [await Stream.begin(world, one) for one in (ann, ben)]
    with pytest.raises(Refused) as refused:
        await Stream.begin(world, ann)
    assert (refused.value.status, refused.value.code, refused.value.retryable) == (503, "service_unavailable", True)
    await streams[0].close()

    async def open_again() -> Any:
        try:
            return await Stream.begin(world, ann)
        except Refused:
            return None

    await eventually(open_again, bool)


async def test_browsers_may_read_it_from_where_the_tenant_allows(world: World) -> None:
    (ann,) = await world.users("ann")
    settings = {"settings": {"allowedOrigins": ["https://shop.example"]}}
    await world.platform()("PATCH", f"/admin/tenants/{world.tenant.id}", settings)
    server, path = world.servers[0], "/api/v1/realtime/sse"
    good = headers(world.tenant, ann)

    async def from_elsewhere() -> Any:
        return await refusal(server, "GET", path, headers=good | {"Origin": "https://evil.example"})

    async with client(server, good) as http:
        async with http.stream("GET", "/sse", headers={"Origin": "https://shop.example"}) as response:
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "*")
        preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        answer = await http.request("OPTIONS", "/commands", headers=preflight)
        assert answer.status_code == 204
        assert "X-Connection-Id" in answer.headers["access-control-allow-headers"]
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        try:
            assert await from_elsewhere() == (403, "origin_not_allowed")
            break
        except (AssertionError, json.JSONDecodeError, httpx.HTTPError):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.2)
