"""A demo that runs in real server processes, and a Chromium to look at it."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests import databases
from tests.browser.stage import Complaints, Demo, Open, free_port

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
    url = databases.create_database(name)
    try:
        yield url
    finally:
        databases.drop_database(name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: Playwright keeps an event loop running in this thread, which nobody else here may see."""
    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)}): the demo page was not looked at")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=BROWSER_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Whatever a test does, the console stays silent and the content policy is kept."""
    collected = Complaints()
    yield collected
    assert collected.said == []


@pytest.fixture
def open_page(demo: Demo, browser: Browser, complaints: Complaints) -> Iterator[Open]:
    """`open_page(query="", **context options)`: the demo in a browser profile of its own, connected.

    `prepare(page)` is called before the page is loaded; `connected=False` does not wait for the connection.
    """
    contexts: list[BrowserContext] = []

    def open_(
        query: str = "", *, prepare: Callable[[Page], None] | None = None, connected: bool = True, **options: Any
    ) -> Page:
        options.setdefault("locale", "en-US")
        context = browser.new_context(**options)
        contexts.append(context)
        complaints.watch(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if prepare is not None:
            prepare(page)
        page.goto(f"{demo.url}/demo/{query}")
        for pane in page.locator(".pane").all() if connected else []:
            pane.locator(".conversation[aria-current]").wait_for(state="attached")
        return page

    yield open_
    for context in contexts:
        assert all("undefined" not in page.locator("body").inner_text() for page in context.pages)
        context.close()
