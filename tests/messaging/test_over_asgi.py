"""The same routes through the server's own HTTP handler: raw paths, big bodies, what a test client hides."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from messagecore.http import ThreadedHandler
from tests.accounts import Account, draft
from tests.api import fits

Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def ask(committed_tenant: Account) -> AsyncIterator[Ask]:
    """Sends as the back end of `committed_tenant`."""
    handler = ThreadedHandler()
    transport = httpx.ASGITransport(app=handler, raise_app_exceptions=True)
    headers = {"X-API-Key": committed_tenant.secret_key}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", headers=headers) as client:

        async def send(method: str, path: str, **options: Any) -> httpx.Response:
            response = await client.request(method, path, **options)
            assert response.headers["content-type"] == "application/json"
            if response.status_code >= 400:
                fits("Failure", response.json())
            assert response.headers["x-request-id"]
            return response

        yield send
    await sync_to_async(_end_threads, thread_sensitive=False)(handler)


def _end_threads(handler: ThreadedHandler) -> None:
    """Closes each thread's connection, so that the tenant can be dropped, and ends the threads."""
    threads = handler._threads
    # As many as there may be: a pool that starts another thread for a closer would leave one out.
    gate = threading.Barrier(threads._max_workers)

    def close() -> None:
        gate.wait(10)
        connection.close()

    for closed in [threads.submit(close) for _ in range(gate.parties)]:
        closed.result(10)
    threads.shutdown()


@pytest.mark.parametrize("name", ["a/b", "/", "a%2Fb", "a b", "å😀", "a/../b", "?#", "x" * 255])
async def test_any_external_id_is_found_in_a_path(ask: Ask, name: str) -> None:
    made = await ask("POST", "/users", json={"externalUserId": name})
    assert made.status_code == 201
    found = await ask("GET", f"/users/{quote(name, safe='')}")
    assert found.status_code == 200
    assert found.json() == made.json()


async def test_the_whole_way_of_a_message(ask: Ask, committed_tenant: Account) -> None:
    await ask("POST", "/users", json={"externalUserId": "用户/王芳"})
    room = (await ask("POST", "/messages/conversations", json={"type": "group", "externalId": "a/b"})).json()["data"]
    path = f"/conversations/{quote('a/b', safe='')}/participants"
    assert (await ask("POST", path, json={"participantIds": ["用户/王芳"]})).status_code == 200
    body = draft(room, None)
    sent = await ask("POST", "/messages/send", json=body, headers={"X-Acting-User": "用户/王芳".encode()})
    assert sent.status_code == 200
    assert sent.json()["data"]["sender"]["externalUserId"] == "用户/王芳"
    history = await ask("GET", f"/messages/conversations/{quote('a/b', safe='')}")
    assert [message["id"] for message in history.json()["data"]["messages"]] == [sent.json()["data"]["id"]]


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 10_000_000])
async def test_a_big_body_is_refused_before_it_is_parsed(ask: Ask, size: int) -> None:
    response = await ask("POST", "/messages/send", content=b"x" * size, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "payload_too_large")


async def test_a_body_at_the_limit_is_read(ask: Ask) -> None:
    padding = b" " * (1024 * 1024 - 2)
    response = await ask("POST", "/users", content=b"{" + padding + b"}", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_failed")


async def test_a_streamed_body_is_counted_too(ask: Ask) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536

    response = await ask("POST", "/users", content=chunks(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413


@pytest.mark.parametrize("path", ["/users/%00", "/users/a%0Ab", "/users/a%2Fb%7F", "/nope"])
async def test_control_characters_in_a_path_are_not_found(ask: Ask, path: str) -> None:
    response = await ask("GET", path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_a_preflight_needs_no_database(ask: Ask, committed_tenant: Account) -> None:
    transport = httpx.ASGITransport(app=ThreadedHandler())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        response = await client.options("/api/v1/messages/send", headers=headers)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "*"


async def test_what_is_refused_before_django_is_asked_is_named_and_readable_too(ask: Ask) -> None:
    headers = {"Content-Type": "application/json", "X-Request-Id": "mine-1", "Origin": "https://app.example"}
    response = await ask("POST", "/messages/send", content=b"x" * 2_000_000, headers=headers)
    assert response.json()["error"]["requestId"] == response.headers["X-Request-Id"] == "mine-1"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]


async def test_only_chunks_of_imports_may_be_larger_than_other_bodies(ask: Ask) -> None:
    job = (await ask("POST", "/imports", json={})).json()["data"]["id"]

    async def feed(size: int, path: str = f"/imports/{job}/chunks") -> httpx.Response:
        headers = {"content-type": "application/x-ndjson"}
        return await ask("POST", path, params={"position": 0}, content=b" " * (size - 1) + b"\n", headers=headers)

    too_much = await feed(8 * 1024 * 1024 + 1)
    assert (too_much.status_code, too_much.json()["error"]["code"]) == (413, "payload_too_large")
    elsewhere = await feed(1024 * 1024 + 1, f"/imports/{job}/finish")
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (413, "payload_too_large")
    taken = await feed(8 * 1024 * 1024)
    assert (taken.status_code, taken.json()["data"]["import"]["positionBytes"]) == (200, 8 * 1024 * 1024)
