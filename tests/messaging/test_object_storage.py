"""Files in an S3-compatible store: the same calls, over real HTTP, to a stand-in that keeps objects in memory."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from django.core.files.storage import storages
from django.core.files.storage.handler import StorageHandler
from django.utils import timezone

from messagecore.settings.storage import storage_from_url
from messaging.services import files as services
from messaging.tasks import sweep_removals
from tenants import removals
from tests.accounts import Account

MIB = 1024 * 1024


@dataclass
class Bucket:
    """What the stand-in holds, and how it behaves."""

    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_away: bool = False
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """As much of the S3 protocol as keeping, giving and removing objects takes, large ones in parts."""

    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        key, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
        body = self._body()
        self.bucket.asked.append(self.command)
        assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=KEY/")
        if self.bucket.is_away:
            self._answer(503)
            return
        getattr(self, f"_{self.command.lower()}")(key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - the library's names

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return raw
        whole = b""
        while raw:
            size, _, raw = raw.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16)
            whole, raw = whole + raw[:length], raw[length + 2 :] if length else b""
        return whole

    def _put(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        if "partNumber" in query:
            self.bucket.parts[key, int(query["partNumber"][0])] = body
        else:
            self.bucket.objects[key] = body
        self._answer(200, ETag='"etag"')

    def _post(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        if "uploads" in query:
            name = b"InitiateMultipartUploadResult"
            self._answer(200, b"<%s><UploadId>1</UploadId></%s>" % (name, name))
            return
        numbers = sorted(number for of, number in self.bucket.parts if of == key)
        self.bucket.objects[key] = b"".join(self.bucket.parts.pop((key, number)) for number in numbers)
        name = b"CompleteMultipartUploadResult"
        self._answer(200, b"<%s><ETag>etag</ETag></%s>" % (name, name))

    def _head(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        found = self.bucket.objects.get(key)
        if found is None:
            self._answer(404)
        else:
            self._answer(200, b"x" * len(found), ETag='"etag"', Last_Modified="Wed, 29 Oct 2025 08:15:30 GMT")

    def _get(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        found = self.bucket.objects.get(key)
        if found is None:
            self._answer(404)
            return
        wanted = self.headers.get("Range", "")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = int(last) if last else len(found) - 1
            whole = f"bytes {first}-{end}/{len(found)}"
            self._answer(206, found[int(first) : end + 1], ETag='"etag"', Content_Range=whole)
        else:
            self._answer(200, found, ETag='"etag"')

    def _delete(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        self.bucket.objects.pop(key, None)
        self._answer(204)

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests say what happened."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The file storage of this test."""
    bucket = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"bucket": bucket}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    bucket.url = f"s3://KEY:SECRET@bucket/prefix?endpoint={endpoint}&region=eu&addressing=path"
    entry = storage_from_url(bucket.url, None)  # type: ignore[arg-type]  # a bucket needs no home
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    storage: Any = StorageHandler({"default": entry})["default"]
    monkeypatch.setitem(storages._storages, "default", storage)
    yield bucket
    storage.connection.meta.client.close()
    server.shutdown()
    thread.join(5)
    server.server_close()


def upload(account: Account, data: bytes) -> Any:
    return account.api.raw("POST", "/files", data, content_type="image/png", query={"name": "a.png"})


@pytest.mark.parametrize("size", [1, 100_000, 9 * MIB + 1, 20 * MIB])
def test_a_file_goes_into_a_bucket_and_comes_out(committed_tenant: Account, bucket: Bucket, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    file = upload(committed_tenant, data[:size]).data
    ((key, kept),) = bucket.objects.items()
    assert key.startswith(f"/bucket/prefix/{committed_tenant.id}/{timezone.now():%Y/%m}/")
    assert kept == data[:size]
    content = committed_tenant.api.get(f"/files/{file['id']}/content")
    assert content.content == data[:size]
    assert committed_tenant.api.delete(f"/files/{file['id']}").status == 200
    assert sweep_removals() == 1
    assert bucket.objects == {}


def test_what_is_removed_already_counts_as_removed(committed_tenant: Account, bucket: Bucket) -> None:
    file = upload(committed_tenant, b"x").data
    bucket.objects.clear()
    assert committed_tenant.api.delete(f"/files/{file['id']}").status == 200
    assert sweep_removals() == 1
    assert removals.sweep(services.remove_bytes, limit=10, now=timezone.now() + removals.RETRY_AFTER) == 0


def test_a_bucket_that_is_away_is_an_outage_and_nothing_is_lost(committed_tenant: Account, bucket: Bucket) -> None:
    file = upload(committed_tenant, b"x").data
    bucket.is_away = True
    upload(committed_tenant, b"y").refuses(503, "service_unavailable")
    committed_tenant.api.get(f"/files/{file['id']}/content").refuses(503, "service_unavailable")
    assert committed_tenant.api.delete(f"/files/{file['id']}").status == 200
    assert sweep_removals() == 2
    bucket.is_away = False
    assert len(bucket.objects) == 1
    assert removals.sweep(services.remove_bytes, limit=10, now=timezone.now() + removals.RETRY_AFTER) == 2
    assert bucket.objects == {}


@pytest.mark.logs_errors
def test_an_object_that_is_lost_is_an_outage(committed_tenant: Account, bucket: Bucket) -> None:
    file = upload(committed_tenant, b"x").data
    bucket.objects.clear()
    committed_tenant.api.get(f"/files/{file['id']}/content").refuses(503, "service_unavailable")
