"""Clocks that jump: the processes' wall clocks, each apart from the others and from the database's.

The processes run under libfaketime (Debian's package `libfaketime`), which changes what the system tells them; nothing
in the product knows of it. Their monotonic clocks go on, as they do when a machine's clock is set.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.client import SOAK
from tests.faults.installation import Installation, clock_library
from tests.faults.scene import Scene
from tests.faults.traffic import Traffic

pytestmark = pytest.mark.e2e

JUMPS = 4 + int(20 * SOAK)
FURTHEST_S = 3 * 86_400
LIBRARY = clock_library()


@pytest.mark.skipif(LIBRARY is None, reason="Debian's libfaketime is not installed")
async def test_clocks_jump(scene: Scene, installation: Installation, tmp_path: Path) -> None:
    """Days ahead and days back, at different times, while people write: order, completeness and the log's own time,
    which never goes back, are as ever. Tokens outlive the jumps: when one ends is a question of the clock, rightly."""
    assert LIBRARY is not None
    scene.claims = {"iat": None, "exp": datetime.now(UTC) + timedelta(seconds=3 * FURTHEST_S)}
    async with installation.clocks(tmp_path, LIBRARY, 2) as clocks:
        await scene.crowd()
        traffic = Traffic(scene)
        async with traffic.meanwhile():
            for number in range(JUMPS):
                # Once ahead for certain: the log's time follows that, and does not go back with the others.
                clocks[number % 2].set(FURTHEST_S if number == 0 else scene.dice.uniform(-FURTHEST_S, FURTHEST_S))
                scene.dice.choice(scene.clients).cut()
                await asyncio.sleep(1.2)  # the library looks once a second
        truth = await scene.is_complete()
    times = [entry.recorded_at for log in truth.logs.values() for entry in log.entries.values()]
    assert max(times) - min(times) > 86_400, "the jumps have come to the log"
