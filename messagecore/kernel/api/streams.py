"""Bytes that are no JSON: bodies that are files, and answers that are."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header
from rest_framework.request import Request

from messagecore.kernel.errors import PayloadTooLarge

CHUNK_BYTES = 64 * 1024
IN_MEMORY_BYTES = 256 * 1024
"""Of a file on its way in or out, no more than this is in memory at once."""


@contextmanager
def body_file(request: Request, *, limit_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """The request's body as a file that one can seek in, and its size in bytes; gone when the block ends.

    Raises PayloadTooLarge, whatever the body's declared length was.
    """
    size = 0
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as body:
        while chunk := request._request.read(CHUNK_BYTES):
            size += len(chunk)
            if size > limit_bytes:
                raise PayloadTooLarge(f"A file may have {limit_bytes} bytes.")
            body.write(chunk)
        body.seek(0)
        yield cast(BinaryIO, body), size


class FileStream(StreamingHttpResponse):
    """A file as a download: read while it is sent, and never shown in the browser's own window.

    `media_type` is sent as it is if browsers do nothing with it but display (pictures, sound, video, plain text, PDF);
    what can hold scripts is sent as mere bytes. Its end closes `source`; whoever stops before it does so themselves.
    """

    def __init__(self, source: IO[bytes], *, name: str, media_type: str, size_bytes: int) -> None:
        self.source = source
        super().__init__(_chunks(source), content_type=_harmless(media_type))
        self["Content-Length"] = str(size_bytes)
        self["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
        self["X-Content-Type-Options"] = "nosniff"
        self["Content-Security-Policy"] = "default-src 'none'; sandbox"
        # The bytes of an id never change; who may have them does.
        self["Cache-Control"] = "private, max-age=3600"
        self["Vary"] = "X-API-Key, Authorization, X-Acting-User"
        self._resource_closers.append(source.close)  # type: ignore[attr-defined]  # as Django's own FileResponse does


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    with source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def _harmless(media_type: str) -> str:
    family = media_type.partition("/")[0]
    shown = family in {"image", "audio", "video"} and not media_type.endswith("+xml")
    return media_type if shown or media_type in {"text/plain", "application/pdf"} else "application/octet-stream"
