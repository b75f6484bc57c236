"""`scripts/test`: every check of the house at once, with servers of their own; or pytest alone, with arguments."""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.launcher.console import Console, fail
from scripts.launcher.embedded import throwaway_servers
from scripts.launcher.failures import LauncherError
from scripts.launcher.foreground import Foreground
from scripts.launcher.home import ROOT, caller_dir
from scripts.launcher.interruptions import StopRequested, check, ignore, pause
from scripts.launcher.processes import Child, kill_group, spawn, stop
from scripts.launcher.with_servers import environment_for

# Those that need no server; they run beside the tests and speak only when they fail.
STATIC_CHECKS: dict[str, Sequence[str]] = {
    "ruff check": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "import-linter": ("lint-imports",),
    "mypy": ("mypy",),
}
# One more than the smallest machine has cores: in one of them tests wait for processes most of the time.
TESTS: Sequence[str] = ("pytest", "-n", "3")


@dataclass(slots=True)
class _Result:
    name: str
    passed: bool
    seconds: float
    output: str = ""


def main(arguments: list[str]) -> int:
    """Returns 0 when everything passed; pytest's own exit code when it was given arguments."""
    foreground = Foreground()
    try:
        with throwaway_servers(
            database_url=os.environ.get("DATABASE_URL", ""),
            redis_url=os.environ.get("REDIS_URL", ""),
            in_memory=True,
        ) as (directory, servers):
            env = environment_for(servers, home=directory / "home")
            if arguments:
                code = foreground.run(("pytest", *arguments), env=env, cwd=_inside_the_repository())
                ignore()
                return code
            return _all(foreground, env=env, logs=directory / "checks")
    except LauncherError as error:
        return fail(error)
    except StopRequested as error:
        return 128 + error.number


def _inside_the_repository() -> Path:
    # Paths of the caller's mean what they say where they can; pytest finds its settings from any directory below.
    here = caller_dir()
    return here if here.is_relative_to(ROOT) else ROOT


def _all(foreground: Foreground, *, env: Mapping[str, str], logs: Path) -> int:
    console = Console()
    console.line(f"Running {', '.join(STATIC_CHECKS)} and the tests …")
    beside = _Beside(env, logs)
    try:
        began = time.monotonic()
        code = foreground.run(TESTS, env=env, cwd=ROOT, meanwhile=beside.collect)
        check()
        tests = _Result("tests", code == 0, time.monotonic() - began)
        while beside.running:
            beside.collect()
            pause(0.05)
    finally:
        beside.stop()
    ignore()
    results = [*beside.results, tests]
    for result in results:
        if not result.passed and result.output:
            console.line(f"\n──── {result.name} ────\n{result.output.rstrip()}")
    console.line()
    for result in results:
        (console.good if result.passed else console.bad)(f"{result.name:<14} {result.seconds:6.1f} s")
    return 0 if all(result.passed for result in results) else 1


class _Beside:
    """The static checks, all started at once, their output kept until they have ended."""

    def __init__(self, env: Mapping[str, str], logs: Path) -> None:
        self.results: list[_Result] = []
        self.running: list[Child] = [
            spawn(
                name,
                command,
                env=env,
                cwd=ROOT,
                log_path=logs / f"{name.replace(' ', '-')}.log",
                stop_signals=(signal.SIGTERM,),
            )
            for name, command in STATIC_CHECKS.items()
        ]

    def collect(self) -> None:
        """Note those that have ended since the last look."""
        for child in [child for child in self.running if not child.running()]:
            self.running.remove(child)
            output = child.log_path.read_text(encoding="utf-8", errors="replace") if child.log_path else ""
            seconds = time.monotonic() - child.started_at
            self.results.append(_Result(child.name, child.process.returncode == 0, seconds, output))

    def stop(self) -> None:
        stop(self.running, within_s=2)
        for child in self.running:
            kill_group(child.pid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
