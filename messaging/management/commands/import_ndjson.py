"""`manage.py import_ndjson`: a file of lines as `POST /imports` takes them, read from this machine's disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from messagecore.kernel.errors import Refusal
from messaging.models import ImportJob
from messaging.services import imports
from tenants.models import Tenant
from tenants.scope import tenant_scope

CHUNK_LINES = 2000
CHUNK_BYTES = 1024 * 1024
SHOWN_FAILURES = 10


class Command(BaseCommand):
    help = "Import users, conversations and messages from an NDJSON file; exits with 1 when lines were left out."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("subdomain")
        parser.add_argument("file", type=Path)
        parser.add_argument("--name", help="what the import is called (default: the file's name)")
        parser.add_argument("--job", metavar="ID", help="go on with this import where it stands")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(subdomain=options["subdomain"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant with the subdomain {options['subdomain']!r}.")
        try:
            job = self._run(tenant, options["file"], options["job"], options["name"])
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from None
        except Refusal as refusal:
            raise CommandError(f"{refusal.message} ({refusal.code})") from None
        self.stdout.write(
            f"{job.lines} lines: {job.created_count} created, {job.updated_count} updated, "
            f"{job.unchanged_count} unchanged, {job.failed_count} failed."
        )
        if job.failed_count:
            self._show_failures(tenant, job)
            raise CommandError(f"{job.failed_count} lines were left out.")

    def _run(self, tenant: Tenant, file: Path, job_id: str | None, name: str | None) -> ImportJob:
        with file.open("rb") as source:
            with tenant_scope(tenant):
                if job_id is None:
                    job = imports.create_import(name=(name or file.name)[:255], now=timezone.now())
                else:
                    job = imports.get_import(job_id)
            self.stdout.write(f"Import {job.id}, from byte {job.position_bytes}.")
            source.seek(job.position_bytes)
            for chunk in chunks(source):
                with tenant_scope(tenant):
                    taken = imports.take_chunk(
                        tenant_id=tenant.id, import_id=str(job.id), position=job.position_bytes, chunk=chunk
                    )
                job = taken.job
        with tenant_scope(tenant):
            return imports.finish_import(import_id=str(job.id), now=timezone.now())

    def _show_failures(self, tenant: Tenant, job: ImportJob) -> None:
        with tenant_scope(tenant):
            failures = imports.list_failures(job, after=None, limit=SHOWN_FAILURES)
        for failure in failures:
            self.stdout.write(f"line {failure.line}: {failure.code} {failure.pointer} {failure.message}")


def chunks(source: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines, at most CHUNK_LINES and about CHUNK_BYTES together; the last line ends like the others."""
    lines: list[bytes] = []
    size = 0
    for line in source:
        lines.append(line if line.endswith(b"\n") else line + b"\n")
        size += len(line)
        if len(lines) >= CHUNK_LINES or size >= CHUNK_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)
