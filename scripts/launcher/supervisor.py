"""Keeping the services running: starting, noticing a death, starting again ever more slowly, giving up, stopping."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.launcher.console import Console
from scripts.launcher.failures import LauncherError
from scripts.launcher.log_lines import for_people
from scripts.launcher.processes import Child, kill_group, spawn, stop
from scripts.launcher.services import Service

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 15.0
# A service that lived this long had started well: its next death is a first one again.
STEADY_AFTER_S = 30.0
DEATHS_BEFORE_GIVING_UP = 5
_LOG_KEPT_BYTES = 5_000_000


@dataclass(slots=True)
class _Kept:
    """A service and how it fares."""

    service: Service
    log_path: Path
    child: Child | None = None
    deaths: int = 0
    start_at: float = field(default=0.0)


class Supervisor:
    """Runs services as children. Call `check` several times a second; it never blocks."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        console: Console,
        env: Mapping[str, str],
        cwd: Path,
        logs: Path,
        servers: Sequence[Child] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` are watched but not started again: without them nothing works, so their death ends the run."""
        self._kept = [_Kept(service, logs / f"{service.key}.log") for service in services]
        self._console = console
        self._env = env
        self._cwd = cwd
        self._servers = servers
        self._clock = clock

    def start(self) -> None:
        for kept in self._kept:
            _roll(kept.log_path)
            self._spawn(kept)

    def check(self) -> None:
        """Notice deaths and start again what is due. Raises LauncherError when there is no point in going on."""
        for server in self._servers:
            if not server.running():
                raise LauncherError(_epitaph(server.name, server))
        for kept in self._kept:
            if kept.child is None:
                if self._clock() >= kept.start_at:
                    self._spawn(kept)
                    self._console.good(f"The {kept.service.name} was started again")
            elif not kept.child.running():
                self._bury(kept, kept.child)

    def stop(self, *, within_s: float) -> list[str]:
        """Stop all services at once, with everything they started; returns the names of those killed by force."""
        children = [kept.child for kept in self._kept if kept.child is not None]
        killed = stop(children, within_s=within_s)
        for child in children:
            kill_group(child.pid)
        for kept in self._kept:
            kept.child = None
        return killed

    def _spawn(self, kept: _Kept) -> None:
        kept.child = spawn(
            kept.service.name,
            kept.service.command,
            env=self._env,
            cwd=self._cwd,
            log_path=kept.log_path,
            stop_signals=kept.service.stop_signals,
        )
        kept.child.started_at = self._clock()

    def _bury(self, kept: _Kept, child: Child) -> None:
        kill_group(child.pid)
        lived_s = self._clock() - child.started_at
        kept.child = None
        kept.deaths = 1 if lived_s >= STEADY_AFTER_S else kept.deaths + 1
        epitaph = _epitaph(f"The {child.name}", child)
        if kept.deaths >= DEATHS_BEFORE_GIVING_UP:
            raise LauncherError(f"{epitaph}\n  That was its death number {kept.deaths} in a row; giving up.")
        delay_s = min(FIRST_DELAY_S * 2 ** (kept.deaths - 1), LONGEST_DELAY_S)
        kept.start_at = self._clock() + delay_s
        self._console.clear()
        self._console.bad(f"{epitaph}\n  Starting it again in {delay_s:g} s.")


def _epitaph(name: str, child: Child) -> str:
    tail = "".join(f"\n    {line}" for line in for_people(child.log_tail(12)))
    return f"{name} ended unexpectedly ({child.ended()}). The end of {child.log_path}:{tail}"


def _roll(log_path: Path) -> None:
    """Begin a new log when the old one has grown, keeping that one."""
    if log_path.exists() and log_path.stat().st_size > _LOG_KEPT_BYTES:
        log_path.replace(log_path.with_suffix(".log.1"))
