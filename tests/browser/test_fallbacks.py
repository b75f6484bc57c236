"""Event streams and polls as a browser has them: in a page of another origin, by its own `EventSource` and `fetch`,
while the server ends and comes back."""

import json
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from scripts.launcher.home import ROOT
from tests.browser.stage import Demo

pytestmark = pytest.mark.browser

ROOM = "demo-lounge"


@cache
def _client() -> bytes:
    """The guide's, as a reader would take it."""
    guide = (ROOT / "docs/guides/fallbacks.md").read_text("utf-8")
    return guide.split("```js\n")[1].split("```")[0].encode()


class _Shop(BaseHTTPRequestHandler):
    """A page of somebody else's, and the client's module."""

    def do_GET(self) -> None:
        found = {
            "/": ("text/html", b"<!doctype html><title>A shop</title>"),
            "/fallbacks.js": ("text/javascript", _client()),
        }
        kind, body = found.get(self.path, ("text/plain", b""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shop(browser: Browser) -> Iterator[Page]:
    """A page at another origin than the server's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{server.server_port}/")
    yield page
    context.close()
    server.shutdown()
    server.server_close()


def texts(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        "frames.filter(({type}) => type === 'new_message').map(f => f.data.message.content.text)"
    )
    return found


@pytest.mark.parametrize("kind", ["EventSourceStream", "Stream", "Polls"])
def test_a_page_elsewhere_misses_nothing(demo: Demo, shop: Page, kind: str) -> None:
    """Also of what is said while the server is away."""
    token = demo.call("POST", "/users/alice/tokens")["token"]
    options = json.dumps({"url": demo.url, "apiKey": demo.account["publishableKey"]})
    shop.evaluate(
        f"""async () => {{
            const {{ {kind}: Kind }} = await import("/fallbacks.js");
            window.frames = [];
            window.chat = new Kind({{
                ...{options}, getToken: async () => {json.dumps(token)}, onFrame: (frame) => window.frames.push(frame),
            }});
        }}"""
    )
    shop.wait_for_function("frames.some(({type}) => type === 'resumed')")
    room = demo.new_conversation(f"by {kind}", "alice", "wang-fang")
    shop.wait_for_function(
        f"frames.some(({{type, data}}) => type === 'conversation_created' && data.conversation.id === '{room}')"
    )
    sent = shop.evaluate(f"chat.send('{room}', '一 one')")
    demo.send(room, "wang-fang", "two")
    shop.wait_for_function("frames.filter(({type}) => type === 'new_message').length === 2")
    assert sent["content"]["text"] == "一 one"
    before = shop.evaluate("frames.length")
    demo.kill()
    demo.start()
    for number in range(3, 8):
        demo.send(room, "wang-fang", str(number))
    shop.wait_for_function("frames.filter(({type}) => type === 'new_message').length >= 7", timeout=30_000)
    assert texts(shop) == ["一 one", "two", "3", "4", "5", "6", "7"]
    seqs = shop.evaluate(
        "(room) => frames.filter(({data}) => data.conversationId === room && data.seq).map(({data}) => data.seq)", room
    )
    assert seqs == list(range(1, 8))
    if kind != "Polls":
        later = shop.evaluate(f"frames.slice({before}).map(({{type}}) => type)")
        assert later[0] == "authenticated"
        joined = shop.evaluate("(room) => chat.command('join_conversation', {conversationId: room})", room)
        assert joined["lastSeq"] == 7
    shop.evaluate("chat.close()")


def test_a_browsers_own_way_back_asks_for_the_old_address(demo: Demo, shop: Page) -> None:
    """What the guide warns of: an `EventSource` that is left alone is told again what came since it was opened."""
    token = demo.call("POST", "/users/alice/tokens")["token"]
    room = demo.new_conversation("left alone", "alice", "wang-fang")
    query = f"apiKey={demo.account['publishableKey']}&token={token}&resume=%7B%22{room}%22%3A0%7D"
    shop.evaluate(
        f"""() => {{
            window.frames = [];
            window.source = new EventSource("{demo.url}/api/v1/realtime/sse?{query}");
            source.onmessage = ({{ data }}) => window.frames.push(JSON.parse(data));
        }}"""
    )
    shop.wait_for_function("frames.some(({type}) => type === 'resumed')")
    demo.send(room, "wang-fang", "one")
    shop.wait_for_function("frames.some(({type}) => type === 'new_message')")
    demo.kill()
    demo.start()
    demo.send(room, "wang-fang", "two")
    shop.wait_for_function("frames.filter(({type}) => type === 'new_message').length >= 3", timeout=30_000)
    assert texts(shop) == ["one", "one", "two"]
    shop.evaluate("source.close()")


def test_a_page_elsewhere_is_told_why_it_is_refused(demo: Demo, shop: Page) -> None:
    """By `fetch`; an `EventSource` learns nothing, and gives up."""
    token = demo.call("POST", "/users/alice/tokens")["token"]
    wrong = f"{demo.url}/api/v1/realtime/sse?apiKey=mc_pk_wrong&token={token}"
    assert shop.evaluate(f"fetch('{wrong}').then(async (a) => [a.status, (await a.json()).error.code])") == [
        401,
        "invalid_api_key",
    ]
    ended = f"new Promise((done) => {{ const s = new EventSource('{wrong}'); s.onerror = () => done(s.readyState); }})"
    assert shop.evaluate(ended) == 2  # closed for good: it does not come back
