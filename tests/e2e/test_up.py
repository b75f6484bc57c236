"""`scripts/up` as a stranger meets it: started, chatted with, stopped, killed, started again; nothing is lost."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from scripts.launcher.home import ROOT
from scripts.launcher.processes import alive, end_run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed process"),
]

STARTED_WITHIN_S = 120
STOPPED_WITHIN_S = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def command(home: Path, port: int) -> dict[str, Any]:
    """What starts `scripts/up` the way an empty environment would, but in the Python that runs the tests."""
    return {
        "args": [ROOT / "scripts" / "up"],
        "cwd": "/",
        "env": {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "MESSAGECORE_HOME": str(home),
            "MESSAGECORE_VENV": sys.prefix,
            "PORT": str(port),
        },
        "stdin": subprocess.DEVNULL,
    }


def refused(home: Path, port: int) -> str:
    """Start where that must fail; returns what was said, having checked that it was said at once and in words."""
    began = time.monotonic()
    done = subprocess.run(
        **command(home, port), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert time.monotonic() - began < 10
    return done.stdout


@dataclass
class Up:
    """One run of `scripts/up` that said it was ready."""

    process: subprocess.Popen[bytes]
    home: Path
    port: int
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def demo(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "demo.json").read_text(encoding="utf-8"))
        return found

    def family(self) -> list[psutil.Process]:
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def named(self, fragment: str) -> psutil.Process:
        return next(process for process in self.family() if fragment in " ".join(process.cmdline()))

    def stop(self, number: signal.Signals) -> None:
        """Signal the launcher, and hold it to its promise: within 10 s it ends well and nobody is left."""
        family = self.family()
        began = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(timeout=STOPPED_WITHIN_S + 5) == 0, self.said
        assert time.monotonic() - began < STOPPED_WITHIN_S
        assert [process for process in family if alive(process)] == []


@contextmanager
def up(home: Path, port: int) -> Iterator[Up]:
    output = home.with_name(f"{home.name}-{time.monotonic_ns()}.out")
    with output.open("wb") as sink:
        process = subprocess.Popen(**command(home, port), stdout=sink, stderr=subprocess.STDOUT)
    run = Up(process=process, home=home, port=port, output=output)
    try:
        until(
            lambda: "Ctrl-C stops it." in run.said or process.poll() is not None,
            f"started; it said:\n{run.said}",
            STARTED_WITHIN_S,
        )
        assert process.poll() is None, run.said
        yield run
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOPPED_WITHIN_S + 5)
        with suppress(OSError, ValueError, KeyError):
            end_run(json.loads((home / "up.lock").read_text(encoding="utf-8"))["runId"], within_s=2)


def client_of(demo: dict[str, Any]) -> httpx.Client:
    return httpx.Client(base_url=demo["baseUrl"] + "/api/v1", headers={"X-API-Key": demo["apiKey"]}, timeout=10)


def send(demo: dict[str, Any], sender: dict[str, Any], text: str) -> dict[str, Any]:
    with client_of(demo) as client:
        answer = client.post(
            "/messages/send",
            json={
                "conversationId": demo["conversationId"],
                "senderId": sender["id"],
                "type": "text",
                "content": {"text": text},
            },
        )
    assert answer.status_code == 200, answer.text
    message: dict[str, Any] = answer.json()["data"]
    return message


def history(demo: dict[str, Any]) -> list[str]:
    with client_of(demo) as client:
        answer = client.get(f"/messages/conversations/{demo['conversationId']}", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return [message["content"].get("text", "") for message in answer.json()["data"]["messages"]]


def test_two_people_chat_and_neither_stop_nor_kill_loses_a_word(tmp_path: Path) -> None:
    home, port = tmp_path / "ein Zuhause 家", free_port()

    with up(home, port) as run:
        demo = run.demo
        first, second = demo["users"][:2]
        assert stat.S_IMODE((home / "demo.json").stat().st_mode) == 0o600
        assert demo["baseUrl"] == f"http://127.0.0.1:{port}"
        assert len(demo["users"]) >= 3
        for address in ("/demo/", "/admin/", "/api/docs/"):
            assert f"http://127.0.0.1:{port}{address}" in run.said
            assert httpx.get(demo["baseUrl"] + address, follow_redirects=True).status_code == 200
        assert demo["admin"]["password"] in run.said
        assert "\033" not in run.said

        with connect(demo["wsUrl"]) as socket_of_second:
            socket_of_second.send(
                json.dumps(
                    {"type": "authenticate", "data": {"apiKey": demo["publishableKey"], "token": second["token"]}}
                )
            )
            assert json.loads(socket_of_second.recv(timeout=10))["type"] == "authenticated"
            sent = send(demo, first, "Grüße, 你好")
            frames = iter(lambda: json.loads(socket_of_second.recv(timeout=10)), None)
            seen = next(frame["data"] for frame in frames if frame["type"] == "new_message")
        assert seen["message"]["id"] == sent["id"]
        assert seen["message"]["content"] == {"text": "Grüße, 你好"}

        run.stop(signal.SIGTERM)
        assert run.said.endswith("✓ Everything is stopped; the data stays.\n")

    with up(home, port) as run:
        assert "Grüße, 你好" in history(run.demo)
        assert run.demo["conversationId"] == demo["conversationId"]
        assert run.demo["users"][0]["token"] != first["token"]
        send(run.demo, first, "said just before the kill")
        run.process.kill()
        run.process.wait()

        # At once, while the children of the killed launcher are still on their way out.
        with up(home, port) as after:
            assert history(after.demo)[-2:] == ["Grüße, 你好", "said just before the kill"]
            after.stop(signal.SIGINT)


def test_a_home_and_a_port_are_had_by_one_and_a_dead_service_comes_back(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    other_home, other_port = tmp_path / "other", free_port()

    with up(home, port) as run:
        assert re.fullmatch(
            rf"✗ MessageCore is already running from \S+home, pid {run.process.pid}, at http://127\.0\.0\.1:{port}\.\n.*\n",
            refused(home, other_port),
        )
        assert refused(other_home, port).startswith(f"✗ Port {port} is in use by another program.\n")
        assert not other_home.exists()

        with up(other_home, other_port) as beside:
            send(beside.demo, beside.demo["users"][0], "in the other home alone")
            assert "in the other home alone" not in history(run.demo)
            beside.stop(signal.SIGTERM)
        assert httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200

        for fragment, name in (("messagecore.server", "web server"), ("celery", "worker")):
            run.named(fragment).kill()
            until(lambda name=name: f"The {name} was started again" in run.said, f"the {name} is back")
        until(lambda: answers(port), "the web server answers again")
        assert "The web server ended unexpectedly (signal SIGKILL)" in run.said

        run.stop(signal.SIGHUP)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False
