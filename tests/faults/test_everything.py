"""Everything that can go wrong goes wrong at once."""

import asyncio

import pytest

from tests.e2e.client import SOAK
from tests.faults.faults import schedule
from tests.faults.installation import Installation
from tests.faults.scene import Scene
from tests.faults.traffic import Traffic

pytestmark = pytest.mark.e2e


async def test_everything_at_once(scene: Scene, installation: Installation) -> None:
    """A schedule of every fault that there is, drawn by the seed."""
    await scene.crowd()
    for user in scene.users[2:5]:
        scene.device(user)
    await scene.everybody_is_there()
    traffic = Traffic(scene, hands=8)
    async with traffic.meanwhile():
        for fault in schedule(scene, installation, count=8 + int(60 * SOAK)):
            await fault()
            await asyncio.sleep(scene.dice.uniform(0, 0.5))
    for client in scene.clients:
        if not client.is_awake:
            client.wake()
    await scene.is_complete()
