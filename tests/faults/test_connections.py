"""Connections that end without a word, stand open with nobody behind them, come back after long, and come back while
others write."""

import asyncio

import pytest

from tests.e2e.client import SOAK, unique
from tests.faults.faults import cut_someone
from tests.faults.installation import Installation
from tests.faults.proxies import Swallower
from tests.faults.scene import Scene
from tests.faults.traffic import Traffic

pytestmark = pytest.mark.e2e

DEEDS = int(3000 * SOAK) or 150
SLEPT_THROUGH = 10_000 if SOAK else 450
NOTICED_WITHIN_S = 60
"""Contract: a dead connection is noticed within that time."""


async def test_sockets_are_cut(scene: Scene) -> None:
    await scene.crowd()
    traffic = Traffic(scene)
    async with traffic.meanwhile():
        for _ in range(30 + int(200 * SOAK)):
            cut_someone(scene)
            await asyncio.sleep(0.05)
    await scene.is_complete()


async def test_sockets_are_cut_again_while_they_resume(scene: Scene) -> None:
    """The cut comes a moment after the connection, wherever the server is by then; the more is missing, the later."""
    await scene.crowd()
    traffic = Traffic(scene)
    async with traffic.meanwhile():
        for _ in range(40 + int(200 * SOAK)):
            client = scene.dice.choice(scene.clients)
            client.cut()
            await asyncio.sleep(scene.dice.uniform(0, 0.1))
    await scene.is_complete()


async def test_nobody_is_behind_an_open_connection(scene: Scene, installation: Installation) -> None:
    """The network swallows everything, both ways. The client notices and comes back by another way; with a soak the
    server has let go of the dead connections in time, too."""
    server = installation.servers[0]
    network = await Swallower(server.port).start()
    try:
        await scene.crowd(people=6)
        before = server.metric("messagecore_socket_connections")
        for user in scene.users[:3]:
            scene.device(user, doors=[f"ws://127.0.0.1:{network.port}/ws"])
        await scene.everybody_is_there()
        there = server.metric("messagecore_socket_connections")
        assert there - before >= 3
        traffic = Traffic(scene)
        async with traffic.meanwhile():
            network.swallow()
            swallowed = [client for client in scene.clients if client.doors[0].endswith(f":{network.port}/ws")]
            numbers = [client.connections for client in swallowed]
            await asyncio.gather(
                *(client.until_complete(30, again_after=was) for client, was in zip(swallowed, numbers, strict=True))
            )
        await scene.is_complete()
        if SOAK:
            await asyncio.sleep(NOTICED_WITHIN_S)
            now = server.metric("messagecore_socket_connections")
            here = sum(client.connects_to(server) or client in swallowed for client in scene.clients)
            assert now == here, scene.where
    finally:
        await network.stop()


async def test_a_client_sleeps_through_thousands_of_events(scene: Scene) -> None:
    """It gets all of them in order, and goes on with the rest."""
    users = await scene.people(3)
    room = await scene.conversation(users)
    sleeper, *others = [scene.device(user) for user in users]
    await scene.everybody_is_there()
    await scene.say(others[0], room, 1)
    await sleeper.until(lambda: sleeper.held.get(room) == 1, 10)
    await sleeper.sleep()
    numbers = iter(range(SLEPT_THROUGH))

    async def write() -> None:
        for number in numbers:
            await scene.backend.send(room, others[number % 2].user_id, unique("m"))

    await asyncio.gather(*(write() for _ in range(16)))
    sleeper.wake()
    # While it resumes, others go on.
    await asyncio.gather(*(others[0].send(room, unique("m")) for _ in range(20)))
    await sleeper.until(lambda: sleeper.held.get(room) == SLEPT_THROUGH + 21, 15 + SLEPT_THROUGH / 500)
    await scene.is_complete()


async def test_everybody_resumes_while_everybody_sends(scene: Scene) -> None:
    """Several devices of each, all cut at once and again, with sends on their way."""
    await scene.crowd(people=6)
    for user in scene.users:
        scene.device(user)
    await scene.everybody_is_there()
    traffic = Traffic(scene, hands=10)
    async with traffic.meanwhile():
        for _ in range(4 + int(30 * SOAK)):
            for client in scene.clients:
                client.cut()
            await asyncio.sleep(scene.dice.uniform(0.2, 1))
    await scene.is_complete()


@pytest.mark.parametrize("shows_history", [True, False], ids=["history shown", "history hidden"])
@pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "awake"])
async def test_removed_and_let_in_again(scene: Scene, shows_history: bool, asleep: bool) -> None:
    """Who was away all the while goes on where they were, or where they came in again; whoever was there is told."""
    ann, ben = await scene.people(2)
    room = await scene.conversation([ann, ben])
    mover, writer = scene.device(ann), scene.device(ben)
    await scene.everybody_is_there()
    await scene.say(writer, room, 3)
    await mover.until(lambda: mover.held.get(room) == 3, 10)
    for _ in range(2):
        if asleep:
            await mover.sleep()
        await scene.remove(room, mover)
        await scene.say(writer, room, 3)
        await scene.let_in(room, mover, show_history=shows_history)
        await scene.say(writer, room, 2)
        if asleep:
            mover.wake()
        await mover.until(lambda: mover.is_complete, 15)
    truth = await scene.is_complete()
    end = truth.logs[room].last_seq
    assert end == 3 + 2 * 7
    seen = mover.recorder.seqs_of(room)
    if asleep and shows_history:
        assert seen == list(range(1, end + 1))
    else:
        # 4: removed; 5, 6, 7 are said meanwhile; 8: let in again; and so on.
        leavings = [] if asleep else [4, 11]
        assert seen == sorted([1, 2, 3, 8, 9, 10, 15, 16, 17, *leavings])


async def test_removed_for_good_while_asleep(scene: Scene) -> None:
    ann, ben = await scene.people(2)
    room = await scene.conversation([ann, ben])
    mover, writer = scene.device(ann), scene.device(ben)
    await scene.everybody_is_there()
    await scene.say(writer, room, 3)
    await mover.until(lambda: mover.held.get(room) == 3, 10)
    await mover.sleep()
    await scene.remove(room, mover)
    await scene.say(writer, room, 3)
    new = await scene.conversation([ann, ben])
    await scene.say(writer, new, 2)
    mover.wake()
    await scene.is_complete()
    assert mover.recorder.seqs_of(room) == [1, 2, 3]
    await scene.say(writer, new, 1)
    await scene.is_complete()
    assert mover.recorder.seqs_of(new) == [3]
    assert set(mover.held) == {new}
