"""Web processes that die, are replaced, or stand still, while people write: nobody misses anything."""

import pytest

from tests.e2e.client import SOAK
from tests.faults.installation import EXIT_WITHIN_S, Installation
from tests.faults.scene import Scene
from tests.faults.traffic import Traffic

pytestmark = pytest.mark.e2e

ROUNDS = 1 + int(3 * SOAK)
DEEDS = int(2000 * SOAK) or 60


async def test_processes_are_killed(scene: Scene, installation: Installation) -> None:
    """SIGKILL, each in its turn; the next dies when all are back. Whoever has no socket is no worse off."""
    await scene.crowd()
    await scene.crowd_without_sockets()
    traffic = Traffic(scene)
    async with traffic.meanwhile():
        for _ in range(ROUNDS):
            for server in installation.servers[: 2 + bool(SOAK)]:
                await traffic.deeds(DEEDS // 3)
                await installation.kill(server)
    await scene.is_complete()


async def test_processes_are_replaced_one_by_one(scene: Scene, installation: Installation) -> None:
    """A rolling restart under load: SIGTERM for every process in turn."""
    await scene.crowd()
    traffic = Traffic(scene)
    async with traffic.meanwhile():
        for server in installation.servers * ROUNDS:
            took_s = await installation.replace(server)
            assert took_s <= EXIT_WITHIN_S, scene.where
    truth = await scene.is_complete()
    assert sum(log.last_seq for log in truth.logs.values()) > traffic.messages > 0


async def test_a_process_stands_still(scene: Scene, installation: Installation) -> None:
    """SIGSTOP and SIGCONT: its clients leave it for another; what it had begun it finishes late, and once."""
    await scene.crowd()
    traffic = Traffic(scene)
    async with traffic.meanwhile():
        for _ in range(ROUNDS):
            with installation.stopped(installation.servers[-1]):
                scene.use(installation.servers[:-1])
                await scene.everybody_is_there()
                await traffic.deeds(DEEDS)
            scene.use(installation.servers)
    await scene.is_complete()
