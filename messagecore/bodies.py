"""Reading the bodies of requests off the wire, on the event loop: small ones whole, files by way of the disk."""

import asyncio
import io
import re
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import IO, Any

from django.conf import settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]

MAX_DISCARDED_BYTES = 32 * 1024 * 1024
"""Of a body that is refused, so much is read and thrown away: most clients read the answer only after they have sent
everything, and closing on them earlier looks like a broken network."""

GATHERED_BYTES = 256 * 1024
"""An upload's bytes go to the disk in pieces of this size; one that is smaller never sees it."""


class ClientDisconnected(Exception):
    """The client went away before its request was whole."""


class BodyTooLarge(Exception):
    """More bytes came than the route takes."""


class BodyStalled(Exception):
    """Nothing came for UPLOAD_IDLE_SECONDS."""


def is_upload(scope: Scope) -> bool:
    return scope["method"] == "POST" and scope["path"] in settings.UPLOAD_PATHS


def declares_too_much(scope: Scope) -> bool:
    """Whether the client says beforehand that its upload is larger than the limit."""
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return declared.isdigit() and (len(declared) > 18 or int(declared) > settings.MAX_UPLOAD_BYTES)


def body_limit(scope: Scope) -> int:
    """How large a body may be that is read into memory: MAX_BODY_BYTES, or what LARGER_BODIES says of the path."""
    larger = (limit for path, limit in settings.LARGER_BODIES.items() if re.fullmatch(path, scope["path"]))
    return next(larger, settings.MAX_BODY_BYTES) if scope["method"] == "POST" else settings.MAX_BODY_BYTES


async def read_body(receive: Receive, limit_bytes: int) -> IO[bytes]:
    """The body, in memory. Raises ClientDisconnected, BodyTooLarge (more than `limit_bytes`)."""
    chunks: list[bytes] = []
    size = 0
    while True:
        chunk, more = await _next_chunk(receive)
        size += len(chunk)
        if size <= limit_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > MAX_DISCARDED_BYTES:
            raise BodyTooLarge
        if not more:
            if size > limit_bytes:
                raise BodyTooLarge
            return io.BytesIO(b"".join(chunks))


async def spool_body(receive: Receive, disk: Executor) -> IO[bytes]:
    """The body, in a nameless file that goes with its last reader; written on `disk`, so that the loop never waits for
    one. The request gets a thread only when all of it is here: a slow client holds none.

    Raises ClientDisconnected, BodyTooLarge (more than MAX_UPLOAD_BYTES), BodyStalled; then nothing is left.
    """
    loop = asyncio.get_running_loop()
    # Its memory is one piece: the first write rolls over to the disk.
    spool = tempfile.SpooledTemporaryFile(max_size=GATHERED_BYTES)  # noqa: SIM115 - the request's, which closes it
    gathered: list[bytes] = []
    waiting = size = 0
    try:
        while True:
            chunk, more = await _next_upload_chunk(receive)
            size += len(chunk)
            waiting += len(chunk)
            gathered.append(chunk)
            if size > settings.MAX_UPLOAD_BYTES:
                if more:
                    await discard(receive)
                raise BodyTooLarge
            if waiting >= GATHERED_BYTES or not more:
                await loop.run_in_executor(disk, spool.write, b"".join(gathered))
                gathered, waiting = [], 0
            if not more:
                spool.seek(0)
                return spool
    except BaseException:
        spool.close()
        raise


async def discard(receive: Receive) -> None:
    """Reads what still comes and throws it away, MAX_DISCARDED_BYTES at most.

    Raises ClientDisconnected, BodyStalled.
    """
    size, more = 0, True
    while more and size <= MAX_DISCARDED_BYTES:
        chunk, more = await _next_upload_chunk(receive)
        size += len(chunk)


async def _next_upload_chunk(receive: Receive) -> tuple[bytes, bool]:
    try:
        async with asyncio.timeout(settings.UPLOAD_IDLE_SECONDS):
            return await _next_chunk(receive)
    except TimeoutError:
        raise BodyStalled from None


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    return message.get("body", b""), message.get("more_body", False)
