"""A demo that runs in real server processes, and a Chromium to look at it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from psycopg import sql

from scripts.launcher.home import ROOT
from tests import databases

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY_WITHIN_S = 60


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


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo as `scripts/up` makes it, without worker and scheduler."""
    databases.require_servers()
    name = f"{settings.TEST_DATABASE}_demo"
    home = tmp_path_factory.mktemp("demo")
    port = free_port()
    with _database(name) as database_url:
        environment = databases.process_environment() | {
            "DATABASE_URL": database_url,
            "MESSAGECORE_MODE": "demo",
            "MESSAGECORE_HOME": str(home),
            "HOST": "127.0.0.1",
            "PORT": str(port),
        }
        made = Demo(environment, log=home / "web.log", url=f"http://127.0.0.1:{port}")
        made.manage("prepare")
        made.manage("demo")
        made.account = json.loads(made.file.read_text(encoding="utf-8"))
        made.start()
        try:
            yield made
        finally:
            made.kill()
        assert "Traceback" not in made.log.read_text()


@contextmanager
def _database(name: str) -> Iterator[str]:
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(drop)
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
            server.execute(drop)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)}): the demo page was not looked at")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=BROWSER_ARGUMENTS)
        yield launched
        launched.close()


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
        context.expose_function("noteViolation", lambda text: self.said.append(text))
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) =>"
            " noteViolation(`${event.violatedDirective} ${event.blockedURI}`));"
        )
        context.on("console", self.hear)
        context.on("weberror", lambda error: self.said.append(str(error.error)))


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Whatever a test does, the console stays silent and the content policy is kept."""
    collected = Complaints()
    yield collected
    assert collected.said == []


Open = Callable[..., Page]


@pytest.fixture
def open_page(demo: Demo, browser: Browser, complaints: Complaints) -> Iterator[Open]:
    """`open_page(query="", **context options)`: the demo in a browser profile of its own, connected."""
    contexts: list[BrowserContext] = []

    def open_(query: str = "", *, prepare: Callable[[Page], None] | None = None, **options: Any) -> Page:
        options.setdefault("locale", "en-US")
        context = browser.new_context(**options)
        contexts.append(context)
        complaints.watch(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if prepare is not None:
            prepare(page)
        page.goto(f"{demo.url}/demo/{query}")
        for pane in page.locator(".pane").all():
            pane.locator(".conversation[aria-current]").wait_for(state="attached")
        return page

    yield open_
    for context in contexts:
        assert all("undefined" not in page.locator("body").inner_text() for page in context.pages)
        context.close()
