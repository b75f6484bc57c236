"""`/imports`: bulk imports, fed chunk by chunk."""

from django.conf import settings

from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, decode_cursor, page_of, time_and_id
from messagecore.kernel.api.streams import body_file
from messagecore.kernel.errors import UnsupportedMediaType
from messaging.api.users import require_integrator
from messaging.rendering_imports import render_failure, render_import
from messaging.services import imports as services
from tenants.api.views import TenantView

NDJSON = "application/x-ndjson"


class Imports(TenantView):
    @operation(
        "createImport",
        summary="Open an import",
        tag="Imports",
        request="CreateImport",
        optional_body=True,
        response="Import",
        statuses=(201,),
        errors=("permission_denied",),
        scope="imports:write",
    )
    def post(self, call: Call) -> Reply:
        require_integrator(call.caller)
        job = services.create_import(name=call.body.get("name"), now=call.now)
        return Reply(render_import(job), status=201)

    @operation(
        "listImports",
        summary="List imports",
        tag="Imports",
        response="Import",
        many=True,
        query=(CURSOR, limit_param()),
        errors=("permission_denied", "invalid_cursor"),
        scope="imports:read",
        description="Latest first.",
    )
    def get(self, call: Call) -> Page:
        require_integrator(call.caller)
        limit = call.query["limit"]
        return page_of(
            services.list_imports(before=time_and_id(call.query["cursor"]), limit=limit + 1),
            limit=limit,
            key=lambda job: (job.created_at.isoformat(), str(job.id)),
            render=render_import,
        )


class ImportDetail(TenantView):
    @operation(
        "getImport",
        summary="Read an import",
        tag="Imports",
        response="Import",
        errors=("permission_denied", "import_not_found"),
        scope="imports:read",
        description="After whatever went wrong, `positionBytes` says where in the file to go on.",
    )
    def get(self, call: Call, importId: str) -> object:  # noqa: N803 - the contract's name for the path
        require_integrator(call.caller)
        return render_import(services.get_import(importId))


class ImportChunks(TenantView):
    @operation(
        "takeImportChunk",
        summary="Take in a chunk of an import",
        tag="Imports",
        raw_body=NDJSON,
        response="ImportChunk",
        query=(
            Param(
                "position",
                "integer",
                maximum=2**53 - 1,
                required=True,
                description="Where in the file the chunk begins, in bytes: the job's `positionBytes`.",
            ),
        ),
        errors=(
            "permission_denied",
            "import_not_found",
            "import_position",
            "conflict",
            "unsupported_media_type",
            "payload_too_large",
        ),
        scope="imports:write",
        description=(
            "Whole lines of NDJSON: `ImportedUser`, `ImportedConversation`, `ImportedMessage`. When the answer comes "
            "all of the chunk is done, or nothing is. A line that cannot be taken in is reported and stops no other."
        ),
    )
    def post(self, call: Call, importId: str) -> object:  # noqa: N803
        require_integrator(call.caller)
        if (call.request.content_type or "").partition(";")[0].strip().lower() != NDJSON:
            raise UnsupportedMediaType(f"The body must be {NDJSON}.")
        with body_file(call.request, limit_bytes=settings.MAX_IMPORT_CHUNK_BYTES) as (body, _):
            chunk = body.read()
        taken = services.take_chunk(
            tenant_id=call.caller.tenant.id, import_id=importId, position=call.query["position"], chunk=chunk
        )
        return {
            "import": render_import(taken.job),
            "lines": taken.lines,
            "created": taken.created,
            "updated": taken.updated,
            "unchanged": taken.unchanged,
            "failed": len(taken.failures),
            "failures": [render_failure(failure) for failure in taken.failures[: services.SHOWN_FAILURES]],
        }


class ImportFinish(TenantView):
    @operation(
        "finishImport",
        summary="Finish an import",
        tag="Imports",
        response="Import",
        errors=("permission_denied", "import_not_found"),
        scope="imports:write",
        description="It takes no further chunk. Finishing twice changes nothing.",
    )
    def post(self, call: Call, importId: str) -> object:  # noqa: N803
        require_integrator(call.caller)
        return render_import(services.finish_import(import_id=importId, now=call.now))


class ImportFailures(TenantView):
    @operation(
        "listImportFailures",
        summary="List the lines that an import left out",
        tag="Imports",
        response="ImportFailure",
        many=True,
        query=(CURSOR, limit_param()),
        errors=("permission_denied", "import_not_found", "invalid_cursor"),
        scope="imports:read",
        description="In order of lines.",
    )
    def get(self, call: Call, importId: str) -> Page:  # noqa: N803
        require_integrator(call.caller)
        cursor, limit = call.query["cursor"], call.query["limit"]
        after = None
        if cursor is not None:
            line, failure_id = decode_cursor(cursor, _row_number, _row_number)
            after = (line, failure_id)
        return page_of(
            services.list_failures(services.get_import(importId), after=after, limit=limit + 1),
            limit=limit,
            key=lambda failure: (failure.line, failure.id),
            render=render_failure,
        )


def _row_number(value: object) -> int:
    """Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("not a row's number")
    return value
