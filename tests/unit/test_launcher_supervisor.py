"""The supervisor: a dead service is started again, ever more slowly, in the end given up; a server's death ends all."""

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.launcher.console import Console
from scripts.launcher.failures import LauncherError
from scripts.launcher.log_lines import for_people
from scripts.launcher.processes import spawn
from scripts.launcher.services import Service
from scripts.launcher.supervisor import DEATHS_BEFORE_GIVING_UP, STEADY_AFTER_S, Supervisor

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

DIES = Service("web", "web server", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"])
LIVES = Service("web", "web server", [sys.executable, "-c", "import time; time.sleep(60)"])


class Clock:
    """The supervisor's time, moved by the test; children run in real time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def supervise(service: Service, tmp_path: Path, clock: Clock, said: io.StringIO) -> Supervisor:
    supervisor = Supervisor(
        [service], console=Console(said), env=dict(os.environ), cwd=tmp_path, logs=tmp_path, clock=clock
    )
    supervisor.start()
    return supervisor


def check_until_said(supervisor: Supervisor, said: io.StringIO, text: str) -> None:
    def checked() -> bool:
        supervisor.check()
        return text in said.getvalue()

    until(checked)


def test_a_death_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    said = io.StringIO()
    supervisor = supervise(DIES, tmp_path, Clock(), said)

    check_until_said(supervisor, said, "again")

    assert said.getvalue() == (
        f"✗ The web server ended unexpectedly (exit code 3). The end of {tmp_path / 'web.log'}:\n"
        "    the reason\n"
        "  Starting it again in 0.5 s.\n"
    )


def test_it_waits_longer_each_time_and_gives_up(tmp_path: Path) -> None:
    clock, said = Clock(), io.StringIO()
    supervisor = supervise(DIES, tmp_path, clock, said)

    for delay_s in (0.5, 1.0, 2.0, 4.0):
        check_until_said(supervisor, said, f"again in {delay_s:g} s")
        clock.now += delay_s - 0.01
        supervisor.check()
        assert not said.getvalue().endswith("was started again\n")
        clock.now += 0.01
        supervisor.check()
        assert said.getvalue().endswith("✓ The web server was started again\n")

    def given_up() -> bool:
        try:
            supervisor.check()
        except LauncherError as error:
            assert f"death number {DEATHS_BEFORE_GIVING_UP} in a row" in str(error)  # noqa: PT017 - awaited, not raised
            return True
        return False

    until(given_up)


def test_a_long_life_makes_the_next_death_a_first_one(tmp_path: Path) -> None:
    clock, said = Clock(), io.StringIO()
    supervisor = supervise(DIES, tmp_path, clock, said)
    check_until_said(supervisor, said, "again in 0.5 s")
    clock.now += 1
    supervisor.check()
    clock.now += STEADY_AFTER_S

    said.truncate(0)
    check_until_said(supervisor, said, "again in")

    assert "again in 0.5 s" in said.getvalue()


def test_stopping_is_no_death(tmp_path: Path) -> None:
    said = io.StringIO()
    supervisor = supervise(LIVES, tmp_path, Clock(), said)

    assert supervisor.stop(within_s=5) == []

    assert said.getvalue() == ""


def test_a_server_that_dies_ends_the_run(tmp_path: Path) -> None:
    server = spawn("Valkey", [sys.executable, "-c", ""], env=dict(os.environ), cwd=tmp_path, log_path=None)
    server.process.wait()
    supervisor = Supervisor(
        [LIVES], console=Console(io.StringIO()), env=dict(os.environ), cwd=tmp_path, logs=tmp_path, servers=[server]
    )
    supervisor.start()
    try:
        with pytest.raises(LauncherError, match=r"Valkey ended unexpectedly \(exit code 0\)"):
            supervisor.check()
    finally:
        supervisor.stop(within_s=2)


def test_a_grown_log_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_bytes(b"x" * 5_000_001)
    supervisor = supervise(LIVES, tmp_path, Clock(), io.StringIO())
    supervisor.stop(within_s=2)

    assert (tmp_path / "web.log").stat().st_size == 0
    assert (tmp_path / "web.log.1").stat().st_size == 5_000_001


def test_json_lines_are_shown_as_level_message_and_cause() -> None:
    lines = [
        '{"level": "ERROR", "message": "no luck\\n", "exc_info": "Traceback …\\n  at\\nKeyError: 3"}',
        '{"level": "INFO", "message": "hello"}',
        "plain words",
        "[1]",
        "x" * 300,
    ]
    assert for_people(lines) == ["ERROR no luck: KeyError: 3", "INFO hello", "plain words", "[1]", "x" * 200]
