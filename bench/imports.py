"""The workload of bulk imports: how many lines a second the service takes in, with everything it does for a line."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from django.utils import timezone

from bench.words import Texts
from messaging.services import imports
from tenants.models import Tenant
from tenants.scope import tenant_scope

LINES = 100_000
USERS, ROOMS, MEMBERS = 1_000, 200, 10
CHUNK_LINES = 2_000
"""As `manage.py import_ndjson` sends them."""


@dataclass(frozen=True, slots=True)
class Imported:
    """`seconds` is what the chunks took, each in a transaction of its own; reading and making the lines is not in it.
    `first` and `last` are the lines a second of the first and the last tenth of the messages."""

    lines: int
    seconds: float
    first: float
    last: float

    @property
    def lines_per_second(self) -> float:
        return self.lines / self.seconds


def run_import(tenant: Tenant, *, lines: int) -> Imported:
    """Imports users and conversations, and then `lines` messages, which are what is measured. Raises RuntimeError when
    a line fails."""
    with tenant_scope(tenant):
        job = imports.create_import(name="bench", now=timezone.now())
    position = 0
    taken: list[tuple[int, float]] = []
    for source, is_measured in ((_people(), False), (_messages(lines), True)):
        while chunk := b"".join(islice(source, CHUNK_LINES)):
            began = time.perf_counter()
            with tenant_scope(tenant):
                done = imports.take_chunk(tenant_id=tenant.id, import_id=str(job.id), position=position, chunk=chunk)
            if is_measured:
                taken.append((done.lines, time.perf_counter() - began))
            if done.failures or done.created != done.lines:
                raise RuntimeError(f"{len(done.failures)} lines failed: {done.failures[:3]}")
            position += len(chunk)
    tenth = max(len(taken) // 10, 1)
    return Imported(
        lines=sum(count for count, _ in taken),
        seconds=sum(seconds for _, seconds in taken),
        first=_rate(taken[:tenth]),
        last=_rate(taken[-tenth:]),
    )


def _rate(taken: list[tuple[int, float]]) -> float:
    return sum(count for count, _ in taken) / sum(seconds for _, seconds in taken)


def _line(**fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _people() -> Iterator[bytes]:
    for number in range(USERS):
        yield _line(kind="user", externalUserId=f"person-{number}", displayName=f"Person {number}")
    for number in range(ROOMS):
        members = [{"userId": f"person-{(number * 7 + place) % USERS}"} for place in range(MEMBERS)]
        yield _line(
            kind="conversation",
            externalId=f"place-{number}",
            type="group",
            createdAt="2024-01-01T00:00:00Z",
            participants=members,
        )


def _messages(count: int) -> Iterator[bytes]:
    draw, texts = random.Random(5), Texts(5)
    began = datetime(2024, 1, 1, tzinfo=UTC)
    for number in range(count):
        room = draw.randrange(ROOMS)
        at = began + timedelta(seconds=60 * number)
        yield _line(
            kind="message",
            id=f"message-{number}",
            conversationId=f"place-{room}",
            senderId=f"person-{(room * 7 + draw.randrange(MEMBERS)) % USERS}",
            type="text",
            content={"text": texts.text()},
            createdAt=at.isoformat().replace("+00:00", "Z"),
        )
