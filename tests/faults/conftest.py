"""One installation for all scenarios of a worker: each leaves it whole. A scene for each, with its seed."""

import logging
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.installation import Installation, installed
from tests.faults.scene import Scene

# A line for every request would bury the one that tells.
logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("installation"), servers=3) as running:
        yield running


@pytest.fixture
def seed() -> int:
    """MESSAGECORE_FAULT_SEED, or a new one; a failing run names it."""
    return int(os.environ.get("MESSAGECORE_FAULT_SEED") or random.randrange(2**31))


@pytest.fixture
async def scene(installation: Installation, tmp_path: Path, seed: int) -> AsyncIterator[Scene]:
    """An empty tenant. pytest keeps the folders of failed tests."""
    print(f"MESSAGECORE_FAULT_SEED={seed} records: {tmp_path}")  # noqa: T201 - shown where the test fails
    opened = await Scene.open(installation, tmp_path, seed)
    yield opened
    await opened.close()
