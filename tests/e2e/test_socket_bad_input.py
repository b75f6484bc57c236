"""What a client should not send: each is answered or closed with a code, and nobody else notices. The `cluster` fixture
fails a test in which a server logged a fault."""

import asyncio
import json
import os
import socket as sockets
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.client import SOAK, Socket, World, eventually
from tests.e2e.cluster import Cluster, Server

pytestmark = pytest.mark.e2e


async def test_frames_before_authenticate_are_refused_and_harmless(world: World) -> None:
    (user,) = await world.users("ann")
    socket = await world.raw_socket()
    for type_ in ("ping", "join_conversation", "send_message", "no_such_command"):
        data = {"conversationId": "c"} if type_ == "join_conversation" else None
        await socket.send(type_, data, id=type_)
    await socket.send(
        "authenticate",
        {"apiKey": world.tenant.publishable_key, "token": world.tenant.token(user["externalUserId"])},
        id="in",
    )
    await socket.expect(lambda frame: frame.get("id") == "in" and frame["type"] == "ack")
    codes = {frame["id"]: frame["data"]["code"] for frame in socket.of_type("error")}
    assert codes == {
        "ping": "not_authenticated",
        "join_conversation": "not_authenticated",
        "send_message": "validation_failed",
        "no_such_command": "unknown_type",
    }
    await socket.settle()


MALFORMED: list[tuple[str | bytes, str, object]] = [
    ("", "malformed_frame", None),
    ("ping", "malformed_frame", None),
    ("[]", "malformed_frame", None),
    ("null", "malformed_frame", None),
    ('"ping"', "malformed_frame", None),
    ("{}", "malformed_frame", None),
    ('{"type": 5, "id": "a"}', "malformed_frame", "a"),
    ('{"type": "ping", "id": "b", "extra": 1}', "malformed_frame", "b"),
    ('{"type": "ping", "data": [], "id": 7}', "malformed_frame", 7),
    ('{"type": "ping", "id": 1.5}', "malformed_frame", None),
    ('{"type": "ping", "id": ""}', "malformed_frame", None),
    ('{"type": "ping", "id": 123456789012345678901234567890}', "malformed_frame", None),
    ('{"type": "ping", "id": 9007199254740993}', "malformed_frame", None),
    ('{"type": "ping", "id": "' + "x" * 65 + '"}', "malformed_frame", None),
    ("[" * 10_000 + "]" * 10_000, "malformed_frame", None),
    ('{"type": "ping", "data": ' + '{"a":' * 500 + "1" + "}" * 500 + "}", "malformed_frame", None),
    ('{"type": "ping", "id": "\\ud800"}', "malformed_frame", None),
    (b"\x00\x01\x02", "malformed_frame", None),
    ('{"type": "ping", "id": "n", "data": {"a": "\\u0000"}}', "validation_failed", "n"),
    ('{"type": "ping", "id": "p", "data": {"a": 1}}', "validation_failed", "p"),
    ('{"type": "join_conversation", "id": "q", "data": {"conversationId": 5}}', "validation_failed", "q"),
    ('{"type": "join_conversation", "id": "r"}', "validation_failed", "r"),
    ('{"type": "authenticate", "id": "s", "data": {"apiKey": {}}}', "validation_failed", "s"),
    ('{"type": "resume", "id": "t", "data": {"conversations": {"c": 1e300}}}', "validation_failed", "t"),
    ('{"type": "nope", "id": "u"}', "unknown_type", "u"),
]


@pytest.mark.parametrize("authenticated", [False, True])
async def test_each_bad_frame_gets_its_error(world: World, authenticated: bool) -> None:
    (user,) = await world.users("ann")
    malformed = 0
    socket = await _fresh(world, user, authenticated)
    for raw, code, frame_id in MALFORMED:
        if malformed == 15:
            socket, malformed = await _fresh(world, user, authenticated), 0
        malformed += code == "malformed_frame"
        before = len(socket.frames)
        await socket.ws.send(raw)
        answer = await socket.expect("error", after=before)
        assert (answer["data"]["code"], answer.get("id")) == (code, frame_id), raw[:80]
        assert answer["data"]["retryable"] is False


async def _fresh(world: World, user: dict[str, str], authenticated: bool) -> Socket:
    return await (world.socket(user) if authenticated else world.raw_socket())


async def test_bad_messages_are_refused_and_not_stored(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    socket, other = await world.socket(ann), await world.socket(ben, 1)
    bad: list[dict[str, object]] = [
        {},
        {"type": "text", "content": {"text": ""}},
        {"type": "text", "content": {"text": "x" * 20_001}},
        {"type": "text", "content": {"text": 5}},
        {"type": "text", "content": "hello"},
        {"type": "text", "content": {"text": "a\0b"}},
        {"type": "system", "content": {"text": "x"}},
        {"type": "nonsense", "content": {}},
        {"type": "text", "content": {"text": "x"}, "senderId": ben["id"]},
        {"type": "text", "content": {"text": "x"}, "clientMessageId": ""},
        {"type": "text", "content": {"text": "x"}, "mentions": ["nobody"]},
        {"type": "text", "content": {"text": "x"}, "replyToId": "5"},
        {"type": "custom", "content": {"big": "x" * 66_000}},
    ]
    for number, fields in enumerate(bad):
        await socket.send("send_message", {"conversationId": conversation, **fields}, id=f"m{number}")
        answer = await socket.expect(lambda frame, wanted=f"m{number}": frame.get("id") == wanted)
        assert answer["type"] == "error", fields
        assert answer["data"]["code"] in {"validation_failed", "payload_too_large"}, fields
    fine = {"conversationId": conversation, "type": "custom", "content": {"n": 2**70, "m": 1e308, "深": "😀"}}
    await socket.command("send_message", fine)
    await other.expect("new_message", seq=1)
    assert await world.log(conversation) == [1]


@pytest.mark.parametrize("size", [600_000, 1_000_000, 10_000_000])
async def test_a_huge_frame_closes_with_4013(world: World, size: int) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    socket, other = await world.socket(ann), await world.socket(ben)
    with suppress(ConnectionClosed):
        await socket.ws.send(json.dumps({"type": "ping", "id": "x", "data": {"a": "x" * size}}))
    assert await socket.until_closed() == 4013
    assert socket.frames[-2]["data"]["code"] == "frame_too_large"
    assert socket.frames[-1]["data"] == {"code": 4013, "reason": "frame too large", "reconnect": False}
    await other.say(conversation, "still here")


async def test_twenty_malformed_frames_close_with_4013(world: World) -> None:
    (user,) = await world.users("ann")
    socket = await world.socket(user)
    for _ in range(25):
        with suppress(ConnectionClosed):
            await socket.ws.send("{")
    assert await socket.until_closed() == 4013
    assert len(socket.of_type("error")) == 20
    assert socket.frames[-1]["type"] == "disconnecting"


async def test_a_thousand_frames_a_second_get_4029_and_harm_nobody(world: World) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    conversation = await world.conversation(ann, ben, eve)
    flooding, quiet, listening = await world.socket(eve), await world.socket(ann), await world.socket(ben)
    latencies = []

    async def flood() -> None:
        with suppress(ConnectionClosed):
            for number in range(3000):
                await flooding.send("ping", id=f"f{number}")
                await asyncio.sleep(0.001)

    flooded = asyncio.create_task(flood())
    for number in range(10):
        began = time.monotonic()
        await quiet.say(conversation, str(number))
        await listening.expect("new_message", seq=number + 1)
        latencies.append(time.monotonic() - began)
    assert await flooding.until_closed(20) == 4029
    await flooded
    assert max(latencies) < 2
    errors = flooding.of_type("error")
    assert {error["data"]["code"] for error in errors} == {"too_many_frames"}
    assert all(error["data"]["retryable"] for error in errors)
    # Every command was answered under its own id, up to the close.
    answered = [frame["id"] for frame in flooding.frames if frame.get("id", "").startswith("f")]
    assert answered == [f"f{number}" for number in range(len(answered))]


async def test_a_burst_is_forgiven(world: World) -> None:
    (user,) = await world.users("ann")
    socket = await world.socket(user)
    for number in range(300):
        await socket.send("ping", id=f"f{number}")
    await socket.expect(lambda frame: frame.get("id") == "f299")
    await asyncio.sleep(0.2)
    await socket.settle()


RawCase = Callable[[sockets.socket], Awaitable[None]]
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


def frame(opcode: int, payload: bytes, *, masked: bool = True, first_bits: int = 0x80) -> bytes:
    mask = os.urandom(4)
    length = len(payload)
    bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first_bits | opcode, bit | length)
    elif length < 2**16:
        head = struct.pack("!BBH", first_bits | opcode, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first_bits | opcode, bit | 127, length)
    if not masked:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


async def _talk(server: Server, *pieces: bytes, read_s: float = 1) -> bytes:
    """Everything that the server says until it closes or is silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    said = b""
    with suppress(TimeoutError, ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        while piece := await asyncio.wait_for(reader.read(65536), read_s):
            said += piece
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return said


async def test_broken_handshakes_and_frames_are_no_faults(cluster: Cluster, world: World) -> None:
    server = cluster.servers[0]
    good = HANDSHAKE.format(path="/ws", more="").encode()
    assert (await _talk(server, HANDSHAKE.format(path="/nowhere", more="").encode())).startswith(b"HTTP/1.1 403")
    assert b" 101 " not in await _talk(server, b"GET /ws?a=\xff\xfe HTTP/1.1\r\n" + good.partition(b"\r\n")[2])
    assert b" 101 " not in await _talk(server, good.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"no"))
    assert b" 101 " not in await _talk(server, good.replace(b"Version: 13", b"Version: 7"))
    assert b" 101 " in await _talk(
        server, HANDSHAKE.format(path="/ws?%00=%ff", more="X-Odd: \xe9\r\n").encode("latin-1")
    )
    refused = {
        "unmasked": (frame(1, b"{}", masked=False), 1002),
        "reserved bits": (frame(1, b"{}", first_bits=0xF0), 1002),
        "unknown opcode": (frame(5, b"{}"), 1002),
        "long ping": (frame(9, b"x" * 200), 1002),
        "fragmented ping": (frame(9, b"x", first_bits=0), 1002),
        "continuation of nothing": (frame(0, b"{}"), 1002),
        "close with one byte": (frame(8, b"x"), 1002),
    }
    for name, (bytes_, code) in refused.items():
        said = await _talk(server, good, bytes_)
        assert struct.pack("!H", code) in said, name
    said = await _talk(server, good, frame(1, b'{"type": "\xff\xfe"}'), read_s=0.5)
    assert b'"malformed_frame"' in said
    halves = frame(1, b'{"type": "pi', first_bits=0) + frame(9, b"now") + frame(0, b'ng", "id": 1}')
    assert b'"not_authenticated"' in await _talk(server, good, halves, read_s=0.5)
    await _talk(server, good, frame(1, b'{"type": "pi', first_bits=0), read_s=0.1)
    await _talk(server, good[:40], read_s=0.1)
    await _talk(server, good, frame(2, b"x" * 100)[:50], read_s=0.1)
    (user,) = await world.users("ann")
    await (await world.socket(user)).settle()


async def test_an_unknown_address_is_refused(world: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await world.raw_socket(url=world.servers[0].ws_url + "/nowhere")
    assert refused.value.response.status_code == 403


async def test_sockets_cut_without_a_word_leave_nothing_behind(cluster: Cluster, world: World) -> None:
    (user,) = await world.users("ann")
    before = cluster.servers[0].metric("messagecore_socket_connections")
    for _ in range(20):
        socket = await world.raw_socket()
        token = world.tenant.token(user["externalUserId"])
        await socket.send("authenticate", {"apiKey": world.tenant.publishable_key, "token": token})
        if _ % 2:
            await socket.expect("authenticated")
        socket.ws.transport.abort()
    for _ in range(100):
        if cluster.servers[0].metric("messagecore_socket_connections") == before:
            break
        await asyncio.sleep(0.1)
    assert cluster.servers[0].metric("messagecore_socket_connections") == before


@pytest.mark.skipif(not SOAK, reason="takes 40 s; set MESSAGECORE_SOAK=1")
async def test_a_client_that_answers_no_ping_is_noticed_within_60_s(cluster: Cluster, world: World) -> None:
    (user,) = await world.users("ann")
    server = cluster.servers[0]
    before = server.metric("messagecore_socket_connections")
    token = world.tenant.token(user["externalUserId"])
    more = f"X-API-Key: {world.tenant.publishable_key}\r\nAuthorization: Bearer {token}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HANDSHAKE.format(path="/ws", more=more).encode())
    assert b"authenticated" in await reader.readuntil(b"serverTime")
    assert server.metric("messagecore_socket_connections") == before + 1
    began = time.monotonic()
    await eventually(
        lambda: asyncio.to_thread(server.metric, "messagecore_socket_connections"),
        lambda connections: connections == before,
        timeout_s=60,
    )
    assert time.monotonic() - began > 20
    rest = world.rest()
    await eventually(
        lambda: rest("GET", f"/users/{user['id']}"),
        lambda shown: shown["presence"]["status"] == "offline",
        timeout_s=10,
    )
    writer.close()
