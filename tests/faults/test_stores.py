"""What becomes of clients when Valkey or PostgreSQL is hurt while people write, or hints come as the weather is."""

import asyncio
import signal

import pytest

from tests.e2e.client import SOAK
from tests.faults.faults import again_and_again
from tests.faults.installation import Installation
from tests.faults.proxies import Weather
from tests.faults.scene import Scene
from tests.faults.traffic import Traffic

pytestmark = pytest.mark.e2e

DEEDS = int(3000 * SOAK) or 150
ROUNDS = 1 + int(3 * SOAK)


async def test_every_client_of_valkey_is_killed(scene: Scene, installation: Installation) -> None:
    """Again and again: those that publish and those that listen."""
    await scene.crowd()
    async with again_and_again(installation.valkey.kill_clients, every_s=0.2):
        await Traffic(scene).deeds(DEEDS)
    await scene.is_complete()


async def test_valkey_is_restarted_empty(scene: Scene, installation: Installation) -> None:
    await scene.crowd()
    await scene.crowd_without_sockets()
    traffic = Traffic(scene)
    async with traffic.meanwhile():
        for _ in range(ROUNDS):
            await traffic.deeds(DEEDS // 3)
            await installation.restart_valkey(away_s=0.5)
            await traffic.deeds(DEEDS // 3)
    await scene.is_complete()


async def test_valkey_is_flushed(scene: Scene, installation: Installation) -> None:
    await scene.crowd()
    async with again_and_again(installation.valkey.flush, every_s=0.2):
        await Traffic(scene).deeds(DEEDS)
    await scene.is_complete()


@pytest.mark.parametrize(
    "weather",
    [
        pytest.param(Weather(doubled=0.5, late=0.5, late_s=0.5), id="doubled, late and out of order"),
        pytest.param(Weather(lost=0.3, doubled=0.3, late=0.5, late_s=3), id="lost too, and very late"),
        pytest.param(Weather(lost=1), id="every one lost"),
    ],
)
async def test_hints_come_as_the_weather_is(scene: Scene, installation: Installation, weather: Weather) -> None:
    await scene.crowd()
    proxy = installation.valkey.weather
    before = proxy.seen
    proxy.weather = weather
    try:
        await Traffic(scene).deeds(DEEDS)
        await scene.is_complete()
    finally:
        proxy.fair()
    assert proxy.seen - before > DEEDS, "the weather has met the hints"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["asked", "crashed"])
async def test_postgresql_is_restarted(scene: Scene, installation: Installation, how: signal.Signals) -> None:
    await scene.crowd()
    traffic = Traffic(scene)
    async with traffic.meanwhile():
        for _ in range(ROUNDS):
            await traffic.deeds(DEEDS // 3)
            await installation.restart_postgres(how, away_s=scene.seed % 10 / 10)
            await traffic.deeds(DEEDS // 3)
    await scene.is_complete()


async def test_backends_are_terminated_in_the_middle_of_sends(scene: Scene, installation: Installation) -> None:
    await scene.crowd()
    async with again_and_again(installation.postgres.terminate_backends, every_s=0.4):
        await Traffic(scene).deeds(DEEDS)
    await asyncio.sleep(0)
    await scene.is_complete()
