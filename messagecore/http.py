"""Django over ASGI, on threads that live as long as the process.

Django's own ASGI handler starts and joins a thread for every request (asgiref's ThreadSensitiveContext): about a
millisecond each, and a database connection that no later request can reuse. All our views are synchronous, so a
request here is read on the event loop, answered on one of a fixed number of threads, and written on the loop again.
A thread keeps its connection; there are never more connections than threads. Files come in and go out beside them, on
threads of their own that only touch the disk or the object store: a client, however slow, holds none of the others.
What has no answer yet and may wait for one does so on the loop, and is asked again when there is something; what is
answered on the loop altogether, a stream for one, leaves its thread when it is known who asks for what.
"""

import asyncio
import contextvars
import io
import logging
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from messagecore.bodies import (
    BodyStalled,
    BodyTooLarge,
    ClientDisconnected,
    Receive,
    Scope,
    body_limit,
    declares_too_much,
    discard,
    is_upload,
    read_body,
    spool_body,
)
from messagecore.kernel import context, metrics
from messagecore.kernel.api import middleware
from messagecore.kernel.api.envelope import plain_failure
from messagecore.kernel.api.later import LaterResponse
from messagecore.kernel.api.paths import SLASH
from messagecore.kernel.api.streams import FileStream
from messagecore.kernel.api.waiting import WaitingResponse
from messagecore.later import answer_later
from messagecore.waiting import waiting_room

logger = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]

WAITING_PER_THREAD = 64
FILE_THREADS = 4


class ThreadedHandler(BaseHandler):
    """An ASGI application for HTTP scopes."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()
        self._threads = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="web")
        self._files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")
        self._uploads = 0
        self._waiting = 0
        self._limit = settings.WEB_THREADS * WAITING_PER_THREAD

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientDisconnected):
            if is_upload(scope):
                await self._take_upload(scope, receive, send)
                return
            try:
                body = await read_body(receive, body_limit(scope))
            except BodyTooLarge:
                await _send_response(_refuse(scope, "payload_too_large"), send, close=True)
                return
            response = await self._answer_on_a_thread(scope, body)
            if isinstance(response, LaterResponse):
                whole = await answer_later(response, scope, receive, send)
                if whole is not None:
                    await _send_response(whole, send)
                return
            if isinstance(response, WaitingResponse):
                response = await self._ask_again(response, scope, receive)
            await self._send(response, send)

    async def _take_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None
        if declares_too_much(scope):
            refused = "payload_too_large"
        elif self._uploads >= settings.MAX_UPLOADS_AT_ONCE:
            refused = "service_unavailable"
        if refused is not None:
            # Said before anything is read: a client that listens while it sends, or waits for `100 Continue`, stops.
            with suppress(BodyStalled):
                await _send_response(_refuse(scope, refused), send, close=True, before_end=lambda: discard(receive))
            return
        self._uploads += 1
        try:
            with await spool_body(receive, self._files) as body:
                await self._send(await self._answer_on_a_thread(scope, body), send)
        except BodyTooLarge:
            await _send_response(_refuse(scope, "payload_too_large"), send, close=True)
        except BodyStalled:
            await _send_response(_refuse(scope, "bad_request"), send, close=True)
        finally:
            self._uploads -= 1

    async def _answer_on_a_thread(self, scope: Scope, body: IO[bytes]) -> HttpResponse | FileStream:
        if self._waiting >= self._limit:
            return _refuse(scope, "service_unavailable")
        self._waiting += 1
        metrics.REQUESTS_WAITING.inc()
        try:
            loop = asyncio.get_running_loop()
            run = contextvars.copy_context().run
            return await loop.run_in_executor(self._threads, run, self._answer, scope, body)
        finally:
            self._waiting -= 1
            metrics.REQUESTS_WAITING.dec()

    async def _ask_again(self, response: WaitingResponse, scope: Scope, receive: Receive) -> HttpResponse | FileStream:
        """Asks again whenever there may be something, until there is or the time is over. Each asking is a request of
        its own: credentials that were revoked meanwhile are refused. Raises ClientDisconnected."""
        until = asyncio.get_running_loop().time() + response.awaited.seconds
        while await waiting_room().wait(response.awaited, until=until, receive=receive):
            answer = await self._answer_on_a_thread(scope, io.BytesIO())
            if not isinstance(answer, WaitingResponse):
                return answer
            response = answer
        return response

    async def _send(self, response: HttpResponse | FileStream, send: Send) -> None:
        if isinstance(response, FileStream):
            await self._send_file(response, send)
        else:
            await _send_response(response, send)

    def _answer(self, scope: Scope, body: IO[bytes]) -> HttpResponse | FileStream:
        """On a web thread: the whole of Django, from the first middleware to the closed response. Only a file is left
        open: its bytes follow from another thread."""
        metrics.THREADS_BUSY.inc()
        try:
            set_script_prefix(scope.get("root_path", ""))
            signals.request_started.send(sender=type(self), scope=scope)
            response = self.get_response(ASGIRequest(_with_slashes(scope), body))
            if isinstance(response, FileStream):
                # What closing would do, but for the file: checks and keeps the thread's connection.
                signals.request_finished.send(sender=type(self))
                return response
            # Static files stream: bounded, and read here so that the loop never touches a disk.
            whole = _whole(response)
            whole.close()  # sends request_finished
            return whole
        finally:
            metrics.THREADS_BUSY.dec()

    async def _send_file(self, response: FileStream, send: Send) -> None:
        """Reads on as fast as the client takes it, a chunk in memory."""
        loop = asyncio.get_running_loop()
        chunks = iter(response)
        try:
            await send(_start(response))
            while chunk := await loop.run_in_executor(self._files, next, chunks, b""):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await loop.run_in_executor(self._files, response.source.close)


def _whole(streaming: HttpResponseBase) -> HttpResponse:
    if isinstance(streaming, HttpResponse):
        return streaming
    assert isinstance(streaming, StreamingHttpResponse)
    whole = HttpResponse(streaming.getvalue(), status=streaming.status_code, headers=dict(streaming.items()))
    whole.cookies = streaming.cookies
    streaming.close()
    return whole


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


async def _send_response(
    response: HttpResponse, send: Send, *, close: bool = False, before_end: Callable[[], Awaitable[None]] | None = None
) -> None:
    """`before_end` runs when all of the answer is on its way, and before the server may read the next request."""
    if close:
        response["Connection"] = "close"
    await send(_start(response))
    if before_end is not None:
        await send({"type": "http.response.body", "body": response.content, "more_body": True})
        await before_end()
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": response.content})


def _start(response: HttpResponseBase) -> dict[str, Any]:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    headers += [(b"set-cookie", cookie.OutputString().encode()) for cookie in response.cookies.values()]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
