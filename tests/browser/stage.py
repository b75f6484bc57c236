"""What the browser tests act on: a demo in a process of its own, and an ear for a page's complaints."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import BrowserContext, ConsoleMessage, Page

from scripts.launcher.home import ROOT

READY_WITHIN_S = 60

Open = Callable[..., Page]
"""`open_page(query="", **context options)`, see the fixture."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Demo:
    """A web process in demo mode, over a database of its own."""

    environment: dict[str, str]
    log: Path
    url: str
    process: subprocess.Popen[bytes] | None = None
    account: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return Path(self.environment["MESSAGECORE_HOME"]) / "demo.json"

    def manage(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "messagecore.server"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The `data` of a call that the tenant's back end makes."""
        headers = {"X-API-Key": self.account["apiKey"]}
        answer = httpx.request(method, f"{self.url}/api/v1{path}", headers=headers, timeout=30, **arguments)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def texts(self, conversation: str) -> list[str]:
        """What the newest messages of a conversation say, oldest first."""
        found = self.call("GET", f"/messages/conversations/{conversation}", params={"limit": 100})
        return [message["content"]["text"] for message in found["messages"]]

    def new_conversation(self, title: str, *external_user_ids: str) -> str:
        body = {"type": "group", "title": title, "participantIds": list(external_user_ids)}
        return str(self.call("POST", "/conversations", json=body)["id"])

    def send(self, conversation: str, sender: str, text: str) -> None:
        body = {"conversationId": conversation, "senderId": sender, "type": "text", "content": {"text": text}}
        self.call("POST", "/messages/send", json=body)


@dataclass
class Complaints:
    """What the pages of a test complained of. `server_is_away`: that nobody answers is no complaint then."""

    said: list[str] = field(default_factory=list)
    server_is_away: bool = False

    def hear(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if self.server_is_away and ("ERR_CONNECTION" in message.text or "WebSocket connection" in message.text):
            return
        self.said.append(message.text)

    def watch(self, context: BrowserContext) -> None:
        def note(text: str) -> None:  # a list's own method cannot be exposed
            self.said.append(text)

        context.expose_function("noteViolation", note)
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) =>"
            " noteViolation(`${event.violatedDirective} ${event.blockedURI}`));"
        )
        context.on("console", self.hear)
        context.on("weberror", lambda error: self.said.append(str(error.error)))
