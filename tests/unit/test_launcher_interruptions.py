"""Signals are noted wherever they come and acted upon in a pause alone, however thick they fall."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.launcher.home import ROOT

# Polls a child, as the launcher does all day, while it is showered with signals. A handler that raised would sooner or
# later do so inside `poll`, whose lock would stay taken: the wait at the end would never return.
SHOWERED = """
import subprocess, sys, time
from scripts.launcher.interruptions import StopRequested, ignore, listen, noted, pause
listen()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("listening", flush=True)
ends_at = time.monotonic() + 1
while time.monotonic() < ends_at:
    child.poll()
assert noted() is not None
try:
    pause(5)
except StopRequested as request:
    ignore()
    child.kill()
    child.wait()
    print("stopped by", request.number, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_shower_of_signals_stops_at_the_next_pause_and_harms_nothing(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", SHOWERED], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    ends_at = time.monotonic() + 1.5
    while process.poll() is None and time.monotonic() < ends_at:
        process.send_signal(number)
        time.sleep(0.0005)
    try:
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert output == f"stopped by {int(number)}\n"
    assert process.returncode == 0


def test_a_command_with_servers_gets_the_signal_and_its_exit_code_is_passed_on(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(41))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)"
    )
    env = dict(os.environ) | {
        "MESSAGECORE_VENV": sys.prefix,
        "DATABASE_URL": "postgresql://given/db",
        "REDIS_URL": "redis://given/0",
    }
    process = subprocess.Popen([ROOT / "scripts" / "with-servers", sys.executable, "-c", code], env=env)
    try:
        deadline = time.monotonic() + 20
        while not ready.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 41
    finally:
        process.kill()
        process.wait()
