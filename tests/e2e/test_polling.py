"""Long polling over real processes, each poll at another one: a client that puts the answers together sees exactly the
log, and is told what changed between two polls, once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.e2e.client import World
from tests.e2e.fallbacks import Poller

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
