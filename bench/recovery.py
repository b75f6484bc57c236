"""How long it takes until everybody has everything again when one of two web processes dies under load."""

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from bench import machine
from bench.options import Options
from tests.e2e.client import Refused, unique
from tests.e2e.cluster import Server
from tests.faults.client import BACKOFF_BASE_S, BACKOFF_CAP_S, Client
from tests.faults.installation import Installation, installed
from tests.faults.scene import Scene

SEED = 20_251_029
CLIENTS = 2_000
MEMBERS, ROOMS_EACH = 10, 5
SENDS_PER_SECOND = 20
KILLS = 5
AT_ONCE = 50
"""Clients that connect at a time while the bench is being set up."""
CONNECTED_WITHIN_S = 300.0
RECOVERED_WITHIN_S = 120.0
LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Recovery:
    """One death: for each client that was cut off, the seconds until it was authenticated, resumed and caught up at
    the other process; and the processor seconds that this process and the surviving one took meanwhile."""

    seconds: Sequence[float]
    survivor_cpu_s: float
    clients_cpu_s: float
    sent_meanwhile: int

    @property
    def last_s(self) -> float:
        return max(self.seconds)

    def share(self, part: float) -> float:
        """When that part of them was back."""
        return sorted(self.seconds)[max(0, round(part * len(self.seconds)) - 1)]


def run(options: Options) -> None:
    """Writes `recovery.md`. Cost: minutes; a gigabyte of memory for the clients at full scale."""
    clients = max(MEMBERS, int(CLIENTS * options.scale))
    with tempfile.TemporaryDirectory(prefix="mc-bench-") as folder, installed(Path(folder), servers=2) as installation:
        recoveries = asyncio.run(
            _measure(installation, Path(folder) / "records", clients, kills=min(KILLS, options.repetitions))
        )
    page = _page(clients, recoveries)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "recovery.md").write_text(page, encoding="utf-8")


async def _measure(installation: Installation, folder: Path, count: int, *, kills: int) -> list[Recovery]:
    scene = await Scene.open(installation, folder, SEED)
    try:
        await _populate(scene, count)
        recoveries = []
        for _ in range(kills):
            recoveries.append(await _kill_one(scene))
            await _spread(scene)
        await scene.is_complete()
        return recoveries
    finally:
        await scene.close()


async def _populate(scene: Scene, count: int) -> None:
    """Everybody is in about ROOMS_EACH conversations of MEMBERS, and connected, half at each process."""
    dice = random.Random(SEED)
    users = []
    for first in range(0, count, 100):
        users += await scene.people(min(100, count - first))
    for _ in range(max(1, count * ROOMS_EACH // MEMBERS)):
        await scene.conversation(dice.sample(users, MEMBERS))
    for first in range(0, count, AT_ONCE):
        for place, user in enumerate(users[first : first + AT_ONCE]):
            scene.device(user, servers=[scene.installation.servers[place % 2]])
        await scene.everybody_is_there(CONNECTED_WITHIN_S)


async def _spread(scene: Scene) -> None:
    """Every second client to the first process, the others to the second."""
    servers = scene.installation.servers
    for first in range(0, len(scene.clients), AT_ONCE):
        page = range(first, min(first + AT_ONCE, len(scene.clients)))
        await asyncio.gather(*(_move(scene.clients[place], servers[place % 2]) for place in page))


async def _move(client: Client, server: Server) -> None:
    client.use([server])
    if not client.connects_to(server):
        client.cut()
    await client.until(lambda: client.connects_to(server) and client.is_complete, CONNECTED_WITHIN_S)


async def _kill_one(scene: Scene) -> Recovery:
    """SIGKILL of the first process under load; the other takes everybody, then the first is started again."""
    victim, survivor = scene.installation.servers
    cut_off = [client for client in scene.clients if client.connects_to(victim)]
    sent: list[str] = []
    sending = asyncio.create_task(_send_on(scene, survivor, sent))
    await asyncio.sleep(1)
    before = {client: client.connections for client in cut_off}
    sent_before, survivor_cpu_s, own_cpu_s = len(sent), _cpu_s(survivor.process.pid), time.process_time()
    for client in scene.clients:
        client.use([survivor])
    began = time.monotonic()
    victim.process.kill()
    seconds = await asyncio.gather(*(_back(client, began, before[client]) for client in cut_off))
    recovery = Recovery(
        seconds=seconds,
        survivor_cpu_s=_cpu_s(survivor.process.pid) - survivor_cpu_s,
        clients_cpu_s=time.process_time() - own_cpu_s,
        sent_meanwhile=len(sent) - sent_before,
    )
    sending.cancel()
    await asyncio.wait([sending])
    victim.process.wait()
    await scene.installation.start(victim)
    return recovery


async def _back(client: Client, began: float, before: int) -> float:
    """Seconds from the death until this client has resumed on a later connection."""
    deadline = began + RECOVERED_WITHIN_S
    while not (client.connections > before and client.is_complete):
        if time.monotonic() > deadline:
            raise TimeoutError(f"a client was not back within {RECOVERED_WITHIN_S:.0f} s")
        await asyncio.sleep(LOOK_EVERY_S)
    return time.monotonic() - began


async def _send_on(scene: Scene, server: Server, sent: list[str]) -> None:
    """SENDS_PER_SECOND messages into any conversations, as by an integrator's back end, until cancelled."""
    scene.backend.use([server])
    conversations = list(scene.members)
    async with asyncio.TaskGroup() as group:
        while True:
            conversation, key = scene.dice.choice(conversations), unique("b")
            group.create_task(_send(scene, conversation, key, sent))
            await asyncio.sleep(1 / SENDS_PER_SECOND)


async def _send(scene: Scene, conversation: str, key: str, sent: list[str]) -> None:
    with suppress(Refused):
        await scene.backend.send(conversation, scene.dice.choice(scene.members[conversation]), key)
        sent.append(key)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _page(clients: int, recoveries: Sequence[Recovery]) -> str:
    lines = [
        "# Recovery",
        "",
        "Made by `scripts/bench recovery`; see [how](../README.md).",
        "",
        *(f"- {line}" for line in machine.describe()[:-1]),
        "- PostgreSQL of its own, durable: fsync on, synchronous_commit on",
        "",
        f"{clients:,} clients, each in about {ROOMS_EACH} conversations of {MEMBERS}, half of them at each of two web "
        f"processes; {SENDS_PER_SECOND} messages a second meanwhile. SIGKILL of one process; a client is back when it "
        "has reconnected to the other, authenticated, and been told by `resumed` that it has everything.",
        "",
        "| death | cut off | median | 95 % | **last** | sent meanwhile | processor: survivor | clients |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {number} | {len(one.seconds):,} | {one.share(0.5):.2f} s | {one.share(0.95):.2f} s "
            f"| **{one.last_s:.2f} s** | {one.sent_meanwhile} "
            f"| {one.survivor_cpu_s:.2f} s ({_part(one.survivor_cpu_s, one)}) "
            f"| {one.clients_cpu_s:.2f} s ({_part(one.clients_cpu_s, one)}) |"
            for number, one in enumerate(recoveries, 1)
        ),
        "",
        "What bounds it: the first attempt comes after anything up to "
        f"{2 * BACKOFF_BASE_S * 1000:.0f} ms (full jitter, up to {BACKOFF_CAP_S:.0f} s for later ones); then the one "
        "process that is left authenticates and resumes everybody on one core, while the clients, all in the process "
        "of the bench, want the other. Where the survivor's share is near 100 %, its processor is the bound, "
        f"{_each_ms(recoveries):.1f} ms of it for each client that comes back; a machine with more processes divides "
        "it. A balancer's own time to notice is not in it: clients are sent to the survivor at once.",
        "",
        f"After {len(recoveries)} deaths every record was held to the database: no gap, no repeat, nothing missing.",
    ]
    return "\n".join(lines) + "\n"


def _part(cpu_s: float, one: Recovery) -> str:
    return f"{cpu_s / one.last_s:.0%}"


def _each_ms(recoveries: Sequence[Recovery]) -> float:
    return 1000 * sum(one.survivor_cpu_s for one in recoveries) / sum(len(one.seconds) for one in recoveries)
