"""`/files`: what messages link to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings

from messagecore.kernel.api.operations import Call, Param, Reply, operation
from messagecore.kernel.api.streams import FileStream, body_file
from messaging import rendering
from messaging.access import find_acting_user
from messaging.services import files as services
from tenants.api.views import TenantView

SEEN = ("file_not_found", "user_not_found")


class Files(TenantView):
    @contextmanager
    def entered(self, call: Call) -> Iterator[None]:
        """In no transaction: the service has two of its own, and none while bytes are on their way."""
        self.require_scope(call)
        yield

    @operation(
        "uploadFile",
        summary="Upload a file",
        tag="Files",
        upload=True,
        query=(Param("name", maximum=4096, description="The file's name, of at most 255 characters; `file` if none."),),
        response="File",
        statuses=(201,),
        errors=("user_not_found", "payload_too_large", "unsupported_media_type", "storage_quota_exceeded"),
        scope="files:write",
        description=(
            "The body is the file itself, `Content-Type` its media type. It belongs to the acting user; where a secret "
            "key acts as nobody, to the tenant. Until a message links to it, nobody else sees it."
        ),
    )
    def post(self, call: Call) -> Reply:
        with body_file(call.request, limit_bytes=settings.MAX_UPLOAD_BYTES) as (source, size_bytes):
            file = services.upload_file(
                caller=call.caller,
                name=call.query["name"],
                content_type=call.request.headers.get("Content-Type"),
                source=source,
                size_bytes=size_bytes,
                now=call.now,
            )
        return Reply(rendering.render_file(file), status=201)


class FileDetail(TenantView):
    @operation(
        "getFile",
        summary="Read a file's record",
        tag="Files",
        response="File",
        errors=SEEN,
        scope="files:read",
        description="Its owner may, everybody who sees a message that links to it, and a secret key.",
    )
    def get(self, call: Call, fileId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name for the path
        return rendering.render_file(services.access_file(fileId, find_acting_user(call.caller)))

    @operation(
        "deleteFile",
        summary="Delete a file",
        tag="Files",
        errors=(*SEEN, "permission_denied", "conflict"),
        scope="files:write",
        description="Its owner may, and a secret key, while no message links to it. With the last it goes by itself.",
    )
    def delete(self, call: Call, fileId: str) -> None:  # noqa: N803
        actor = find_acting_user(call.caller)
        services.delete_file(tenant_id=call.caller.tenant.id, file_id=fileId, actor=actor)


class FileContent(TenantView):
    @operation(
        "downloadFile",
        summary="Download a file",
        tag="Files",
        download=True,
        errors=SEEN,
        scope="files:read",
        description="Its bytes, always as an attachment. For those who may read its record.",
    )
    def get(self, call: Call, fileId: str) -> FileStream:  # noqa: N803
        file = services.access_file(fileId, find_acting_user(call.caller))
        source = services.open_file(file)
        return FileStream(source, name=file.name, media_type=file.media_type, size_bytes=file.size_bytes)
