"""Real server processes under test: web processes, worker and scheduler over one database and one Valkey, each of which
can be hurt."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
import redis

from scripts.launcher.home import ROOT
from scripts.launcher.processes import Child, spawn, stop
from scripts.launcher.valkey import wheel_binary
from tests.databases import create_database, drop_database, require_servers

STARTED_WITHIN_S = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


@dataclass
class Database:
    """A database of its own on the server that the environment names, prepared like an installation's."""

    name: str
    url: str = ""

    def create(self) -> None:
        require_servers()
        self.url = create_database(self.name)

    def drop(self) -> None:
        drop_database(self.name)

    def terminate_backends(self) -> int:
        """Ends every connection that others have to this database, in whatever they are doing."""
        with self._server() as server:
            rows = server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user",
                [self.name],
            )
            return len(rows.fetchall())

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url, autocommit=True)

    def _server(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


@dataclass
class Valkey:
    """A Valkey of our own on a port that it keeps over restarts. It stores nothing: each start is empty."""

    folder: Path
    port: int = field(default_factory=free_port)
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        settings = f'bind 127.0.0.1\nport {self.port}\nsave ""\nappendonly no\ndir ./\n'
        self.child = spawn(
            "Valkey",
            [wheel_binary(), "-"],
            env=os.environ,
            cwd=self.folder,
            log_path=self.folder / "valkey.log",
            standard_input=settings.encode(),
        )
        with self.client() as client:
            until(lambda: _answers(client), "Valkey answers")

    def stop(self) -> None:
        if self.child is not None:
            self.child.process.kill()
            self.child.process.wait()
            self.child = None

    def freeze(self) -> None:
        """It still takes connections and says nothing any more."""
        assert self.child is not None
        self.child.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.child is not None
        self.child.process.send_signal(signal.SIGCONT)

    def drop_subscribers(self) -> None:
        """Ends every subscription; what is published until they are back is lost."""
        with self.client() as client:
            client.client_kill_filter(_type="pubsub")

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=5)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@dataclass
class Server:
    """One process of the product, and what it logged."""

    name: str
    env: dict[str, str]
    log: Path
    command: Sequence[str] = (sys.executable, "-m", "messagecore.server")
    port: int = field(default_factory=free_port)
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self.child is not None
        return self.child.process

    def start(self) -> "Server":
        env = self.env | {"PORT": str(self.port), "MESSAGECORE_HOME": str(self.log.parent)}
        self.child = spawn(self.name, self.command, env=env, cwd=ROOT, log_path=self.log)
        return self

    def wait_until_up(self) -> "Server":
        until(self._is_up, f"{self.name} answers", STARTED_WITHIN_S)
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = httpx.get(f"{self.url}/metrics", trust_env=False).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def faults(self) -> list[str]:
        """Log lines that say that something happened which nobody expected."""
        if not self.log.exists():
            return []
        return [line for line in self.log.read_text("utf-8", "replace").splitlines() if _is_fault(line)]

    def _is_up(self) -> bool:
        assert self.child is not None
        assert self.child.running(), f"{self.name} ended: {self.child.ended()}\n" + "\n".join(self.child.log_tail())
        try:
            return httpx.get(f"{self.url}/ready", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


def _is_fault(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return bool(line.strip())  # whatever was not logged but printed: a traceback, a warning of the interpreter
    return entry.get("level") in {"ERROR", "CRITICAL"} or "exc_info" in entry


@dataclass
class Cluster:
    """Web processes that share a database and a Valkey."""

    folder: Path
    database: Database
    valkey: Valkey
    options: dict[str, str] = field(default_factory=dict)
    servers: list[Server] = field(default_factory=list)
    others: list[Server] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return (
            dict(os.environ)
            | {
                "DATABASE_URL": self.database.url,
                "REDIS_URL": self.valkey.url,
                "DJANGO_SETTINGS_MODULE": "messagecore.settings",
                "MESSAGECORE_MODE": "test",
                "MESSAGECORE_HOME": str(self.folder),
                "LOG_FORMAT": "json",
            }
            | self.options
        )

    def start(self, count: int) -> None:
        started = [self._server(f"web{len(self.servers) + number}") for number in range(count)]
        self.servers += started
        for server in started:
            server.start()
        for server in started:
            server.wait_until_up()

    def start_worker(self) -> None:
        """The worker and the scheduler."""
        celery = (sys.executable, "-m", "celery", "--app", "messagecore")
        quiet = ("--without-gossip", "--without-mingle", "--concurrency", "1")
        for name, arguments in (
            ("worker", ("worker", "--loglevel", "WARNING", *quiet)),
            ("beat", ("beat", "--loglevel", "WARNING", "--schedule", str(self.folder / "beat"), "--pidfile", "")),
        ):
            server = Server(name, self.env, self.folder / name / "log", (*celery, *arguments))
            self.others.append(server.start())

    def stop(self) -> None:
        stop([server.child for server in (*self.servers, *self.others) if server.child is not None], within_s=12)

    def manage(self, *arguments: str) -> str:
        """What a management command says."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _server(self, name: str) -> Server:
        return Server(name, self.env, self.folder / name / "log")
