"""PostgreSQL and Valkey for whoever needs both: lasting ones in a home, or throw-away ones for a test or a bench."""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.launcher.postgres import RunningPostgres, start_postgres
from scripts.launcher.processes import RUN_VARIABLE, end_run, stop
from scripts.launcher.valkey import RunningValkey, start_valkey

_THROWAWAY_PREFIX = "messagecore-throwaway-"
_STOP_WITHIN_S = 3.5

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the directories in it are made as in any other
_PLENTY_BYTES = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the two servers are. A part is None when the caller said that it has that server already."""

    database_url: str
    redis_url: str
    postgres: RunningPostgres | None
    valkey: RunningValkey | None


@contextmanager
def embedded_servers(
    home: Path,
    *,
    durable: bool = True,
    database_url: str = "",
    redis_url: str = "",
    postgres_bin: Path | None = None,
    run_id: str = "",
    valkey_password: str = "",
) -> Iterator[Servers]:
    """Run PostgreSQL over `home/postgres` and Valkey over `home/valkey` for the length of the block.

    Both are shut down cleanly at its end, within 4 s, and by the kernel should this process die (Linux). A server whose
    URL is given is not started. `durable=False` gives up safety against a crash of the machine for speed.
    `postgres_bin` is the directory of another PostgreSQL's programs (15 and newer). One process at a time per home: the
    caller sees to that. Raises LauncherError when a server does not start.
    """
    home = home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = dict(os.environ) | {RUN_VARIABLE: run_id or secrets.token_hex(8)}
    logs = home / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    postgres: RunningPostgres | None = None
    valkey: RunningValkey | None = None
    try:
        if not redis_url:
            valkey = start_valkey(
                data_dir=home / "valkey",
                log_path=logs / "valkey.log",
                env=env,
                durable=durable,
                password=valkey_password or secrets.token_hex(16),
            )
        if not database_url:
            postgres = start_postgres(
                data_dir=home / "postgres",
                run_dir=home / "run",
                log_path=logs / "postgres.log",
                env=env,
                durable=durable,
                bin_dir=postgres_bin,
            )
        yield Servers(
            database_url=postgres.url if postgres else database_url,
            redis_url=valkey.url if valkey else redis_url,
            postgres=postgres,
            valkey=valkey,
        )
    finally:
        stop([server.child for server in (postgres, valkey) if server is not None], within_s=_STOP_WITHIN_S)
        if postgres is not None and postgres.socket_dir != home / "run":
            shutil.rmtree(postgres.socket_dir, ignore_errors=True)


@contextmanager
def throwaway_servers(
    *, database_url: str = "", redis_url: str = "", postgres_bin: Path | None = None, in_memory: bool = False
) -> Iterator[tuple[Path, Servers]]:
    """Servers in a new temporary directory, which is yielded beside them and removed with everything in it.

    Also removes what killed runs left there. `in_memory`: not on disk, where there is plenty of memory (Linux); tests
    make and drop schemas all the time, whose many small files cost a fifth of what their PostgreSQL does.
    """
    _sweep()
    parent = _IN_MEMORY if in_memory and _has_plenty_of_memory() else None
    directory = Path(tempfile.mkdtemp(prefix=_THROWAWAY_PREFIX, dir=parent)).resolve()
    run_id = directory.name
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.enter_context(_owned(directory))
        stack.callback(end_run, run_id, within_s=2)
        servers = stack.enter_context(
            embedded_servers(
                directory / "servers",
                durable=False,
                database_url=database_url,
                redis_url=redis_url,
                postgres_bin=postgres_bin,
                run_id=run_id,
            )
        )
        yield directory, servers


@contextmanager
def _owned(directory: Path) -> Iterator[None]:
    """Hold the lock that tells a live run's directory from one that a killed run left."""
    # Under its name only once it is held: a sweep beside us takes a lock that is free for that of a killed run.
    unnamed = directory / "lock.new"
    with unnamed.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(directory / "lock")
        yield


def _has_plenty_of_memory() -> bool:
    if os.environ.get("TMPDIR") or not os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        return False
    memory = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    available = 1024 * int(memory.group(1)) if memory else 0
    return min(available, shutil.disk_usage(_IN_MEMORY).free) >= _PLENTY_BYTES


def _sweep() -> None:
    folders = {Path(tempfile.gettempdir()), _IN_MEMORY}
    for directory in (directory for folder in folders for directory in folder.glob(_THROWAWAY_PREFIX + "*")):
        try:
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            with (directory / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_run(directory.name, within_s=2)
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:  # in use, or just being made
            continue
