"""Serving answers that are made on the event loop (messagecore.kernel.api.later)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from django.http import HttpResponse

from messagecore.bodies import Receive, Scope
from messagecore.kernel import catalogue, context, metrics, wire
from messagecore.kernel.api import envelope
from messagecore.kernel.api.later import LaterResponse
from messagecore.kernel.errors import Refusal, ServiceUnavailable
from messagecore.transport import WIRE_KEY, Wire
from realtime.database import DatabaseError

logger = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]


class HttpLine:
    """The client behind ASGI's `receive` and `send`. With our own transport it can be hurried and cut, too."""

    def __init__(self, response: LaterResponse, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_streaming = False
        self._response = response
        self._send = send
        self._wire: Wire | None = scope.get("extensions", {}).get(WIRE_KEY)
        self.gone: asyncio.Future[None] = asyncio.ensure_future(_until_gone(receive))

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        self.is_streaming = True
        kept = {name: value for name, value in self._response.items() if name not in {"Content-Type", "Content-Length"}}
        together = kept | dict(headers) | {"Connection": "close"}
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in together.items()]
        if self._wire is not None:
            self._wire.notice_a_dead_peer()
        _count(self._response, 200)
        await self._send({"type": "http.response.start", "status": 200, "headers": encoded})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        if self._wire is not None:
            self._wire.give_up_soon()
        await self._send({"type": "http.response.body", "body": b""})

    def hurry(self) -> None:
        if self._wire is not None:
            self._wire.hurry()

    def abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    async def close(self) -> None:
        self.gone.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self.gone


async def answer_later(response: LaterResponse, scope: Scope, receive: Receive, send: Send) -> HttpResponse | None:
    """The whole answer, good to be sent; None if it was streamed, or nobody is there to take it."""
    context.request_id.set(response["X-Request-Id"])
    response.forget_request()
    line = HttpLine(response, scope, receive, send)
    try:
        body = envelope.success(await response.later.answer(line))
        status = 200
    except Refusal as refusal:
        status, body = refusal.status, envelope.refusal_body(refusal)
        for name, value in refusal.headers.items():
            response[name] = value
    except DatabaseError as error:
        logger.warning("the database did not do it: %s", error)
        refused = ServiceUnavailable()
        status, body = refused.status, envelope.refusal_body(refused)
    except Exception:
        logger.exception("an answer on the event loop failed")
        entry = catalogue.error("internal_error")
        status, body = entry.status, envelope.failure(entry.code, entry.title, retryable=entry.retryable)
    finally:
        await line.close()
    if line.is_streaming:
        line.abort()  # whatever ended it without an end
        return None
    _count(response, status)
    response.status_code = status
    response.content = wire.dumps(body)
    if response.has_header("Content-Length"):
        response["Content-Length"] = str(len(response.content))
    return response


def _count(response: LaterResponse, status: int) -> None:
    if response.counted_as is not None:
        metrics.REQUESTS.labels(*response.counted_as, str(status)).inc()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
