"""The launcher's children: how they are started, how they stop, and how those of a killed run are found and ended."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scripts.launcher.home import ROOT
from scripts.launcher.processes import RUN_VARIABLE, Child, end_run, kill_group, of_run, spawn, stop

# Python 3.12 warns of any fork beside threads, which the test runner has.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
# Ends at SIGQUIT alone, with a code that shows it.
URGENT = (
    "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "signal.signal(signal.SIGQUIT, lambda *_: os._exit(7)); print('up', flush=True); time.sleep(60)"
)
WITH_CHILD = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print('up', flush=True); time.sleep(60)"
)


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def start(code: str, tmp_path: Path, *, run_id: str = "", stop_signals: tuple[signal.Signals, ...] = ()) -> Child:
    child = spawn(
        "child",
        [sys.executable, "-c", code],
        env=dict(os.environ) | ({RUN_VARIABLE: run_id} if run_id else {}),
        cwd=tmp_path,
        log_path=tmp_path / "child.log",
        stop_signals=stop_signals or (signal.SIGTERM,),
    )
    until(lambda: "up" in child.log_tail() or not child.running())
    return child


def test_a_child_that_obeys_is_stopped_at_once_and_not_by_force(tmp_path: Path) -> None:
    child = start("import time; print('up', flush=True); time.sleep(60)", tmp_path)
    began = time.monotonic()

    assert stop([child], within_s=5) == []

    assert child.ended() == "signal SIGTERM"
    assert time.monotonic() - began < 2


def test_a_stubborn_child_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    child = start(STUBBORN, tmp_path)
    began = time.monotonic()

    assert stop([child], within_s=0.5) == ["child"]

    assert child.ended() == "signal SIGKILL"
    assert 0.5 <= time.monotonic() - began < 2


def test_the_second_signal_comes_before_force(tmp_path: Path) -> None:
    child = start(URGENT, tmp_path, stop_signals=(signal.SIGTERM, signal.SIGQUIT))

    assert stop([child], within_s=2) == []

    assert child.ended() == "exit code 7"


def test_killing_a_group_takes_the_grandchildren(tmp_path: Path) -> None:
    child = start(WITH_CHILD, tmp_path)
    grandchild = psutil.Process(child.pid).children()[0]
    os.kill(child.pid, signal.SIGKILL)
    child.process.wait()
    assert grandchild.is_running()

    kill_group(child.pid)

    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_a_run_is_ended_with_its_grandchildren_and_nobody_else(tmp_path: Path) -> None:
    run_id = secrets.token_hex(8)
    ours = start(WITH_CHILD, tmp_path, run_id=run_id)
    (tmp_path / "other").mkdir()
    other = start(STUBBORN, tmp_path / "other", run_id=secrets.token_hex(8))
    try:
        assert len(of_run(run_id)) == 2

        assert end_run(run_id, within_s=0.3) == 2

        assert of_run(run_id) == []
        assert other.running()
    finally:
        stop([other], within_s=0.1)
        stop([ours], within_s=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    run_id = secrets.token_hex(8)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, pathlib, sys, time\n"
            "from scripts.launcher.processes import spawn\n"
            "spawn('child', [sys.executable, '-c', 'import time; time.sleep(60)'], env=os.environ, "
            "cwd=pathlib.Path('.'), log_path=None)\n"
            "time.sleep(60)",
        ],
        cwd=ROOT,
        env=dict(os.environ) | {RUN_VARIABLE: run_id},
    )
    try:
        until(lambda: len(of_run(run_id)) == 2)
        parent.kill()
        parent.wait()
        until(lambda: of_run(run_id) == [])
    finally:
        parent.kill()
        parent.wait()
        end_run(run_id, within_s=0.1)


def test_a_log_tail_is_the_last_lines_however_long_the_log(tmp_path: Path) -> None:
    child = start("for n in range(20000): print('line', n)", tmp_path)
    child.process.wait()

    assert child.log_tail(3) == ["line 19997", "line 19998", "line 19999"]
