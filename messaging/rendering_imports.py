"""Imports and their reports as clients see them."""

from typing import Any

from messagecore.kernel import wire
from messaging.models import ImportFailure, ImportJob
from messaging.services.imports_lines import Failure


def render_import(job: ImportJob) -> dict[str, Any]:
    return {
        "id": str(job.id),
        "name": job.name or None,
        "status": "open" if job.finished_at is None else "finished",
        "positionBytes": job.position_bytes,
        "lines": job.lines,
        "created": job.created_count,
        "updated": job.updated_count,
        "unchanged": job.unchanged_count,
        "failed": job.failed_count,
        "createdAt": wire.timestamp(job.created_at),
        "updatedAt": wire.timestamp(job.updated_at),
        "finishedAt": wire.optional_timestamp(job.finished_at),
    }


def render_failure(failure: ImportFailure | Failure) -> dict[str, Any]:
    return {
        "line": failure.line,
        "code": failure.code,
        "pointer": failure.pointer,
        "message": failure.message,
    }
