"""What can be hurt while a scenario runs, and the random schedule of it all."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

from tests.faults.installation import Installation
from tests.faults.proxies import Weather
from tests.faults.scene import Scene

Fault = Callable[[], Awaitable[None]]


@asynccontextmanager
async def again_and_again(hurt: Callable[[], object], *, every_s: float) -> AsyncIterator[None]:
    """Hurts something, in a thread, while the block runs. What goes wrong with the hurting itself fails the block."""

    async def go_on() -> None:
        while True:
            await asyncio.to_thread(hurt)
            await asyncio.sleep(every_s)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def cut_someone(scene: Scene) -> None:
    """A socket ends without a close."""
    scene.dice.choice(scene.clients).cut()


def schedule(scene: Scene, installation: Installation, *, count: int) -> Iterator[Fault]:
    """`count` faults; the same for the same seed. Each returns when what it hurt is there again, or may be left to
    itself."""
    dice, valkey, postgres = scene.dice, installation.valkey, installation.postgres

    async def cut() -> None:
        for client in dice.sample(scene.clients, 3):
            client.cut()

    async def nap() -> None:
        client = dice.choice(scene.clients)
        if client.is_awake:
            await client.sleep()
            await asyncio.sleep(dice.uniform(0, 1))
            client.wake()

    async def stand_still() -> None:
        with installation.stopped(dice.choice(installation.servers)):
            await asyncio.sleep(dice.uniform(0.2, 3))

    async def change_weather() -> None:
        lost, doubled, late = (dice.uniform(0, 0.5) for _ in range(3))
        valkey.weather.weather = Weather(lost, doubled, late, late_s=dice.uniform(0, 2))

    async def in_thread(hurt: Callable[[], object]) -> None:
        await asyncio.to_thread(hurt)

    async def freeze_valkey() -> None:
        valkey.freeze()
        try:
            await asyncio.sleep(dice.uniform(0.2, 2))
        finally:
            valkey.thaw()

    async def replace() -> None:
        await installation.replace(dice.choice(installation.servers))

    async def kill() -> None:
        await installation.kill(dice.choice(installation.servers))

    faults: list[Fault] = [
        cut,
        nap,
        stand_still,
        change_weather,
        freeze_valkey,
        replace,
        kill,
        partial(in_thread, valkey.kill_clients),
        partial(in_thread, valkey.flush),
        partial(in_thread, postgres.terminate_backends),
        partial(installation.restart_valkey, away_s=0.3),
        partial(installation.restart_postgres, signal.SIGINT, away_s=0.3),
        partial(installation.restart_postgres, signal.SIGQUIT, away_s=0.3),
    ]
    try:
        for _ in range(count):
            fault = dice.choice(faults)
            name = fault.func.__name__ if isinstance(fault, partial) else fault.__name__
            scene.backend.recorder.note("fault", name=name)
            yield fault
    finally:
        valkey.weather.fair()
