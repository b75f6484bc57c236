"""Calling the API in process, and what a call took: the whole of it, and the database's part."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.test.client import Client, ClientHandler

PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Get:
    """A request: what is asked, as whom (an external id; None: the integrator)."""

    path: str
    query: dict[str, str | int] = field(default_factory=dict)
    acting_user: str | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """One that was run, and its parameters."""

    sql: str
    parameters: Any


class Api:
    """The product's REST stack from middleware to rendered bytes, on this thread, as the holder of a secret key."""

    def __init__(self, secret_key: str, handler: ClientHandler) -> None:
        self._key = secret_key
        self._client = Client(raise_request_exception=False)
        self._client.handler = handler

    def get(self, wanted: Get) -> Any:
        """The parsed body. Raises RuntimeError for anything but a 200."""
        status, content = self.call(wanted)
        if status != 200:
            raise RuntimeError(f"GET {wanted.path} {wanted.query}: {status} {content[:500]!r}")
        return json.loads(content)

    def call(self, wanted: Get) -> tuple[int, bytes]:
        headers = {"X-API-Key": self._key}
        if wanted.acting_user is not None:
            headers["X-Acting-User"] = wanted.acting_user
        response = self._client.get(PREFIX + wanted.path, query_params=wanted.query, headers=headers)
        return response.status_code, response.content


class _Watch:
    """Stands between Django and the driver: sums up what statements take, and keeps them."""

    def __init__(self) -> None:
        self.nanoseconds = 0
        self.statements: list[Statement] = []

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter_ns()
        try:
            return execute(sql, params, many, context)
        finally:
            self.nanoseconds += time.perf_counter_ns() - began
            self.statements.append(Statement(sql, params))


@contextmanager
def watched() -> Iterator[_Watch]:
    """What the block asks of the database: from handing a statement over until its rows are there. BEGIN, COMMIT and
    the schema's SET LOCAL are not among it."""
    watch = _Watch()
    with connection.execute_wrapper(watch):
        yield watch


@dataclass(slots=True)
class Times:
    """Of the same request again and again, in milliseconds. `statements`: the fewest that it took; every five seconds
    the key is looked up anew, which takes more."""

    whole: list[float] = field(default_factory=list)
    database: list[float] = field(default_factory=list)
    statements: int = 0


def measure(api: Api, wanted: Get, times: Times) -> None:
    """Adds one measurement. Raises RuntimeError if the request is refused."""
    with watched() as watch:
        began = time.perf_counter_ns()
        status, content = api.call(wanted)
        taken = time.perf_counter_ns() - began
    if status != 200:
        raise RuntimeError(f"GET {wanted.path} {wanted.query}: {status} {content[:500]!r}")
    times.whole.append(taken / 1e6)
    times.database.append(watch.nanoseconds / 1e6)
    times.statements = min(times.statements or len(watch.statements), len(watch.statements))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The value that 95 % are not above."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def p99(values: Sequence[float]) -> float:
    """The value that 99 % are not above."""
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]
