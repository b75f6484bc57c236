"""Django over ASGI, on threads that live as long as the process.

Django's own ASGI handler starts and joins a thread for every request (asgiref's ThreadSensitiveContext): about a
millisecond each, and a database connection that no later request can reuse. All our views are synchronous, so a
request here is read on the event loop, answered on one of a fixed number of threads, and written on the loop again.
A thread keeps its connection; there are never more connections than threads.
"""

import asyncio
import contextvars
import io
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from messagecore.kernel import context, metrics
from messagecore.kernel.api import middleware
from messagecore.kernel.api.envelope import plain_failure
from messagecore.kernel.api.paths import SLASH

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

WAITING_PER_THREAD = 64
MAX_DISCARDED_BYTES = 32 * 1024 * 1024
"""Of a body that is refused, so much is read and thrown away: most clients read the answer only after they have sent
everything, and closing on them earlier looks like a broken network."""


class ClientDisconnected(Exception):
    """The client went away before its request was whole."""


class BodyTooLarge(Exception):
    """More bytes came than MAX_BODY_BYTES."""


class ThreadedHandler(BaseHandler):
    """An ASGI application for HTTP scopes."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()
        self._threads = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="web")
        self._waiting = 0
        self._limit = settings.WEB_THREADS * WAITING_PER_THREAD

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _read_body(receive)
        except ClientDisconnected:
            return
        except BodyTooLarge:
            await _send_response(_refuse(scope, "payload_too_large"), send, close=True)
            return
        if self._waiting >= self._limit:
            await _send_response(_refuse(scope, "service_unavailable"), send)
            return
        self._waiting += 1
        metrics.REQUESTS_WAITING.inc()
        try:
            loop = asyncio.get_running_loop()
            run = contextvars.copy_context().run
            response = await loop.run_in_executor(self._threads, run, self._answer, scope, body)
        finally:
            self._waiting -= 1
            metrics.REQUESTS_WAITING.dec()
        await _send_response(response, send)

    def _answer(self, scope: Scope, body: bytes) -> HttpResponse:
        """On a web thread: the whole of Django, from the first middleware to the closed response."""
        metrics.THREADS_BUSY.inc()
        try:
            set_script_prefix(scope.get("root_path", ""))
            signals.request_started.send(sender=type(self), scope=scope)
            request = ASGIRequest(_with_slashes(scope), io.BytesIO(body))
            # Static files and exports stream: bounded, and read here so that the loop never touches a disk.
            response = _whole(self.get_response(request))
            response.close()  # sends request_finished, which checks and keeps the thread's connection
            return response
        finally:
            metrics.THREADS_BUSY.dec()


def _whole(streaming: HttpResponseBase) -> HttpResponse:
    if isinstance(streaming, HttpResponse):
        return streaming
    assert isinstance(streaming, StreamingHttpResponse)
    whole = HttpResponse(streaming.getvalue(), status=streaming.status_code, headers=dict(streaming.items()))
    whole.cookies = streaming.cookies
    streaming.close()
    return whole


async def _read_body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= settings.MAX_BODY_BYTES:
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > MAX_DISCARDED_BYTES:
            raise BodyTooLarge
        if not message.get("more_body", False):
            if size > settings.MAX_BODY_BYTES:
                raise BodyTooLarge
            return b"".join(chunks)


def _with_slashes(scope: Scope) -> Scope:
    """The scope with percent-encoded slashes of the raw path kept apart from the slashes between segments."""
    raw: bytes = scope.get("raw_path") or b""
    raw = raw.partition(b"?")[0]
    if b"%2f" not in raw.lower():
        return scope
    parts = [unquote_to_bytes(part).decode("utf-8", "replace") for part in re.split(rb"%2[fF]", raw)]
    return {**scope, "path": SLASH.join(parts)}


def _refuse(scope: Scope, code: str) -> HttpResponse:
    """An answer given before Django is asked: with the request's id, and readable to browsers, all the same."""
    headers = dict(scope["headers"])
    request_id = middleware.choose_request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
    token = context.request_id.set(request_id)
    try:
        response = plain_failure(code)
    finally:
        context.request_id.reset(token)
    response["X-Request-Id"] = request_id
    if b"origin" in headers and scope["path"].startswith("/api/"):
        middleware.let_browsers_read(response)
    return response


async def _send_response(response: HttpResponse, send: Send, *, close: bool = False) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    headers += [(b"set-cookie", cookie.OutputString().encode()) for cookie in response.cookies.values()]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
