"""Doing things at the same moment, on threads with connections of their own."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

Result = TypeVar("Result")


def at_once(*functions: Callable[[], Result], within_s: float = 60) -> list[Result]:
    """Runs each function on its own thread, all let go together; their results in order. Raises what one raised."""
    gate = threading.Barrier(len(functions))

    def run(function: Callable[[], Result]) -> Result:
        try:
            gate.wait(within_s)
            return function()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.result(within_s) for future in futures]


def times(count: int, function: Callable[[int], Result]) -> list[Result]:
    """`function(0)` to `function(count - 1)`, at once."""
    calls: Sequence[Callable[[], Result]] = [lambda number=number: function(number) for number in range(count)]
    return at_once(*calls)
