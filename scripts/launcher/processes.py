"""Child processes: starting them so that none outlives us, stopping them, finding what an earlier run left."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from scripts.launcher.identity import Identity
from scripts.launcher.lifetime import die_with_parent

# Every process we start carries this variable, so that whatever a killed launcher left behind can be told apart from
# everything else on the machine, grandchildren included.
RUN_VARIABLE = "MESSAGECORE_RUN"


@dataclass(slots=True)
class Child:
    """A process in a session and group of its own. `stop_signals` are what asks it to stop: politely, then urgently."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path | None = None
    log_begins_at: int = 0
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    started_at: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> str:
        """How the process ended, for people: `exit code 3` or `signal SIGKILL`."""
        code = self.process.poll()
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"

    def log_tail(self, lines: int = 15) -> list[str]:
        """The last lines that it has logged itself, not a process before it; empty when it has no log."""
        if self.log_path is None or not self.log_path.exists():
            return []
        with self.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self.log_begins_at, end - 32_768))
            return log.read().decode("utf-8", "replace").splitlines()[-lines:]


def spawn(
    name: str,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log_path: Path | None,
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
    identity: Identity | None = None,
    standard_input: bytes = b"",
) -> Child:
    """Start `command` in a session of its own, writing its output behind what `log_path` holds already.

    The terminal's Ctrl-C does not reach it, so the order of stopping is ours. Where the system offers it (Linux), the
    kernel sends it the first of `stop_signals` when this process dies, however it dies; call it from the main thread
    only, since the kernel ties that to the thread. `identity` is the user it runs as.
    """
    tie_to_parent = die_with_parent(stop_signals[0])

    def prepare() -> None:  # between fork and exec
        os.umask(0o077)
        if identity is not None:
            identity.assume()
        tie_to_parent()  # after the change of user, which would undo it

    if log_path is not None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    else:
        output = os.open(os.devnull, os.O_WRONLY)
    begins_at = os.lseek(output, 0, os.SEEK_END) if log_path is not None else 0
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE if standard_input else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - the launcher has one thread when it forks
        )
    finally:
        os.close(output)
    if process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(standard_input)
    return Child(name=name, process=process, log_path=log_path, log_begins_at=begins_at, stop_signals=stop_signals)


def stop(children: Iterable[Child], *, within_s: float) -> list[str]:
    """Ask every child at once to stop, then insist, then kill their groups; all are gone within about `within_s`.

    A child's signals are spread evenly over that time. Returns the names of those that had to be killed.
    """
    waiting = [child for child in children if child.running()]
    started = time.monotonic()
    sent = {child.pid: 0 for child in waiting}
    killed: list[str] = []
    while waiting:
        elapsed = time.monotonic() - started
        for child in waiting:
            due = int(elapsed / within_s * len(child.stop_signals)) + 1
            while sent[child.pid] < min(due, len(child.stop_signals)):
                _signal(child.pid, child.stop_signals[sent[child.pid]])
                sent[child.pid] += 1
        if elapsed >= within_s:
            break
        time.sleep(0.02)
        waiting = [child for child in waiting if child.running()]
    for child in waiting:
        killed.append(child.name)
        kill_tree(child.pid)
        child.process.wait()
    return killed


def kill_group(pgid: int) -> None:
    """Kill what is left of a process group whose leader has ended."""
    try:
        os.killpg(pgid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def kill_tree(pid: int) -> None:
    """Kill a process, its descendants (PostgreSQL's have sessions of their own) and its group."""
    try:
        descendants = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        descendants = []
    kill_group(pid)
    _signal(pid, signal.SIGKILL)
    for process in descendants:
        _signal(process.pid, signal.SIGKILL)


def of_run(run_id: str) -> list[psutil.Process]:
    """Every live process, other than this one, that was started by the run of that id."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(RUN_VARIABLE) == run_id and alive(process):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie that nobody has waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_run(run_id: str, *, within_s: float) -> int:
    """End what is left of an earlier run: politely, then, after `within_s`, by force. Returns how many there were.

    PostgreSQL is asked through its postmaster alone (a fast shutdown), because its backends follow it.
    """
    found = of_run(run_id)
    pids = {process.pid for process in found}
    for process in found:
        try:
            name = process.name()
            if name.startswith("postgres"):
                if process.ppid() not in pids:
                    process.send_signal(signal.SIGINT)
            else:
                process.terminate()
        except psutil.NoSuchProcess:
            continue
    remaining = found
    deadline = time.monotonic() + within_s
    while remaining and time.monotonic() < deadline:
        time.sleep(0.05)
        remaining = [process for process in remaining if alive(process)]
    for process in remaining:
        _signal(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while remaining and time.monotonic() < deadline:
        remaining = [process for process in remaining if alive(process)]
        time.sleep(0.02)
    return len(found)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
