"""Compression of frames, where an installation asks for it and the client offers it."""

from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.client import World
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

MakeCluster = Callable[..., Cluster]
MakeWorld = Callable[[Cluster], Awaitable[World]]


async def test_compressed_frames_say_the_same(make_cluster: MakeCluster, make_world: MakeWorld) -> None:
    world = await make_world(make_cluster(servers=1, SOCKET_DEFLATE="1"))
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    compressing = await world.socket(ann)
    plain = await world.raw_socket(compression=None)
    token = world.tenant.token(ben["externalUserId"])
    await plain.send("authenticate", {"apiKey": world.tenant.publishable_key, "token": token})
    await plain.expect("authenticated")
    text = "again and again, " * 500 + "你好"
    for socket in (compressing, plain):
        await socket.settle()
    assert [bool(socket.ws.protocol.extensions) for socket in (compressing, plain)] == [True, False]
    for number in range(3):
        await compressing.say(conversation, f"{number} {text}")
    for socket in (compressing, plain):
        await socket.expect("new_message", seq=3)
        said = [frame["data"]["message"]["content"]["text"] for frame in socket.of_type("new_message")]
        assert said == [f"{number} {text}" for number in range(3)]


async def test_sockets_do_not_compress_unless_told_to(world: World) -> None:
    socket = await world.raw_socket()
    assert socket.ws.protocol.extensions == []
