"""A swarm of clients in a process of its own, so that what they cost is not what is measured; and the web process that
they connect to, with what it takes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import redis

from scripts.launcher.home import ROOT
from tests.e2e.cluster import Cluster, Database, Server, Valkey

OPTIONS = {"SOCKET_WAITING_PER_ADDRESS": "20000"}
"""All clients of a bench come from one address."""


@dataclass(frozen=True, slots=True)
class Swarm:
    process: "subprocess.Popen[str]"

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """What `bench.swarmer.Swarmer` answers. Raises RuntimeError if its process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the clients ended instead of an answer to {do!r}: exit {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def swarm(port: int, people: Path) -> Iterator[Swarm]:
    """Nobody is connected yet. All are cut off at the end."""
    command = [sys.executable, "-m", "bench.swarmer", str(port), str(people)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield Swarm(process)
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True, slots=True)
class Web:
    """One web process of the product with a Valkey of its own."""

    server: Server
    valkey: Valkey

    @property
    def port(self) -> int:
        return self.server.port

    def memory_bytes(self) -> int:
        """What the system would get back if the process ended."""
        return int(psutil.Process(self.server.process.pid).memory_full_info().uss)

    def cpu_s(self) -> float:
        times = psutil.Process(self.server.process.pid).cpu_times()
        return float(times.user + times.system)

    def commands(self) -> dict[str, int]:
        """How often Valkey was told each command, those of scripts included."""
        with self.valkey.client() as client:
            return _calls(client)


def _calls(client: redis.Redis) -> dict[str, int]:
    stats: Mapping[str, Mapping[str, Any]] = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}


@contextmanager
def web(folder: Path, options: Mapping[str, str]) -> Iterator[Web]:
    """On the database of the environment. Raises RuntimeError at the end if the process logged what nobody expected.
    Takes a few seconds."""
    folder.mkdir()
    valkey = Valkey(folder)
    cluster = Cluster(folder, Database("", os.environ["DATABASE_URL"]), valkey, OPTIONS | dict(options))
    try:
        valkey.start()
        cluster.start(1)
        yield Web(cluster.servers[0], valkey)
        if faults := cluster.servers[0].faults():
            raise RuntimeError("the web process logged:\n" + "\n".join(faults[:10]))
    finally:
        for server in cluster.servers:
            server.kill()  # there is nothing left that it should finish
        valkey.stop()
