"""A whole installation of the suite's own, so that everything in it may be hurt: a durable PostgreSQL, a Valkey behind
a proxy that makes the weather, and web processes."""

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from scripts.launcher.postgres import RunningPostgres, start_postgres
from scripts.launcher.processes import stop
from tests.e2e.cluster import Cluster, Database, Server, Valkey
from tests.faults.proxies import HintWeather

# Shorter than in production, so that tests need not wait for what only takes its time.
QUICK = {"PRESENCE_LEASE_SECONDS": "6", "PRESENCE_GRACE_SECONDS": "2", "PRESENCE_SETTLE_SECONDS": "0"}
EXIT_WITHIN_S = 30
"""How long a process may take from SIGTERM to its end (contract)."""


@dataclass
class OwnPostgres(Database):
    """A PostgreSQL that may be restarted and crashed: what it said is committed is on the disk."""

    folder: Path = field(default_factory=Path)
    running: RunningPostgres | None = None

    def start(self) -> None:
        """On the main thread: the kernel ends the server with the thread that started it."""
        self.running = start_postgres(
            data_dir=self.folder / "data",
            run_dir=self.folder / "run",
            log_path=self.folder / "postgres.log",
            env=os.environ,
            durable=True,
        )

    def create(self) -> None:
        self.start()
        with self._server() as server:
            server.execute(sql.SQL("CREATE DATABASE {} OWNER messagecore").format(sql.Identifier(self.name)))
        assert self.running is not None
        self.url = self.running.url.replace("/messagecore?", f"/{self.name}?")

    def drop(self) -> None:
        if self.running is not None:
            stop([self.running.child], within_s=10)
            self.running = None

    def end(self, how: signal.Signals) -> None:
        """SIGINT: sends everybody away and ends; SIGQUIT: as in a crash, its log is read again at the next start."""
        assert self.running is not None
        self.running.child.process.send_signal(how)
        self.running.child.process.wait(30)

    def terminate_backends(self) -> int:
        """Ends every connection that others have to this database, in whatever they are doing."""
        with self._server() as server:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            return len(server.execute(ended, [self.name]).fetchall())

    def _server(self) -> psycopg.Connection[tuple[object, ...]]:
        assert self.running is not None
        return psycopg.connect(self.running.admin_url, autocommit=True)


@dataclass
class WeatheredValkey(Valkey):
    """A Valkey that the web processes reach through the weather only."""

    weather: HintWeather = field(init=False)

    def __post_init__(self) -> None:
        self.weather = HintWeather(self.port)
        self.weather.start()

    @property
    def outer_url(self) -> str:
        """What the processes are told."""
        return f"redis://127.0.0.1:{self.weather.port}/0"

    def kill_clients(self) -> int:
        """`CLIENT KILL` of everybody but us: those that publish, those that listen, in whatever they are doing."""
        with self.client() as client:
            return int(client.client_kill_filter(skipme=True))


@dataclass
class Installation:
    """Web processes over the two. Every fault leaves it so that the next scenario can begin."""

    postgres: OwnPostgres
    valkey: WeatheredValkey
    cluster: Cluster
    platform_token: str = ""

    @property
    def servers(self) -> list[Server]:
        return self.cluster.servers

    async def kill(self, server: Server) -> None:
        """SIGKILL, and a new process on the same port."""
        server.process.kill()
        await asyncio.to_thread(server.process.wait)
        await self.start(server)

    async def replace(self, server: Server) -> float:
        """SIGTERM, and a new process on the same port. Returns how long the old one took to end, in seconds; raises
        TimeoutExpired when that is longer than it may."""
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.process.wait, EXIT_WITHIN_S)
        took_s = time.monotonic() - began
        await self.start(server)
        return took_s

    @asynccontextmanager
    async def clocks(self, folder: Path, library: Path, count: int) -> AsyncIterator[list["Clock"]]:
        """Gives the first `count` processes a clock of their own each, and at the end the machine's again. They are
        replaced for both."""
        servers = self.servers[:count]
        clocks = [Clock(folder / f"{server.name}.clock", library) for server in servers]
        envs = [server.env for server in servers]
        try:
            for server, clock in zip(servers, clocks, strict=True):
                clock.set(0)
                server.env = server.env | clock.environment
            await asyncio.gather(*(self.replace(server) for server in servers))
            yield clocks
        finally:
            for server, env in zip(servers, envs, strict=True):
                server.env = env
            await asyncio.gather(*(self.replace(server) for server in servers))

    async def start(self, server: Server) -> None:
        server.start()  # on the main thread: the kernel ends the process with the thread that started it
        await asyncio.to_thread(server.wait_until_up)

    @contextmanager
    def stopped(self, server: Server) -> Iterator[None]:
        """SIGSTOP: it keeps its connections and says nothing; SIGCONT at the end."""
        server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            server.process.send_signal(signal.SIGCONT)

    async def restart_postgres(self, how: signal.Signals = signal.SIGINT, *, away_s: float = 0.0) -> None:
        await asyncio.to_thread(self.postgres.end, how)
        await asyncio.sleep(away_s)
        self.postgres.start()

    async def restart_valkey(self, *, away_s: float = 0.0) -> None:
        await asyncio.to_thread(self.valkey.stop)
        await asyncio.sleep(away_s)
        self.valkey.start()

    def faults(self) -> list[str]:
        """Log lines that say that something happened which nobody expected, in the order of time."""
        lines = [(line, server.name) for server in self.servers for line in server.faults()]
        return [f"{name}: {line}" for line, name in sorted(lines, key=_time_of)]


def _time_of(fault: tuple[str, str]) -> str:
    """As the line says it; what is no entry of the log comes first."""
    try:
        return str(json.loads(fault[0])["time"])
    except (ValueError, KeyError):
        return ""


@contextmanager
def installed(folder: Path, *, servers: int, options: dict[str, str] | None = None) -> Iterator[Installation]:
    """A running installation; `options` are environment variables of its processes. Takes about ten seconds."""
    with ExitStack() as stack:
        # A path that is short enough for PostgreSQL's socket, and that its user may enter.
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mc-faults-")))
        own.chmod(0o755)
        postgres = OwnPostgres("faults", folder=own)
        stack.callback(postgres.drop)
        postgres.create()
        valkey = WeatheredValkey(folder)
        stack.callback(valkey.weather.stop)
        stack.callback(valkey.stop)
        valkey.start()
        cluster = Cluster(folder, postgres, valkey, QUICK | {"REDIS_URL": valkey.outer_url} | (options or {}))
        stack.callback(cluster.stop)
        installation = Installation(postgres, valkey, cluster)
        cluster.manage("prepare")
        installation.platform_token = cluster.manage("create_platform_token", "faults")
        cluster.start(servers)
        yield installation


def clock_library() -> Path | None:
    """Debian's libfaketime (package `libfaketime`), with which one process has a clock of its own."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


@dataclass
class Clock:
    """The wall clock of the processes that were started with `environment`; their monotonic clock is the machine's."""

    path: Path
    library: Path

    def set(self, offset_s: float) -> None:
        """From now on the clock is that far ahead (below 0: behind) of the machine's."""
        # Put in place at once: half a line would be no time at all.
        written = self.path.with_suffix(".new")
        written.write_text(f"{offset_s:+.0f}")
        written.replace(self.path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
