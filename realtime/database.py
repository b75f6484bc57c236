"""Database work of the event loop: on a few threads of its own, each with a connection that it keeps."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseError  # the whole family: a connection that broke raises InterfaceError, too
from django.db import InterfaceError, OperationalError, close_old_connections

__all__ = ["DatabaseError", "in_database_thread", "read_in_database_thread", "read_in_turn"]

P = ParamSpec("P")
Result = TypeVar("Result")

READERS, WRITERS = 2, 2
CHECK_CONNECTION_AFTER_S = 5.0

IN_TURN = READERS + 1
"""Reads of those who come or catch up that are under way at once: enough for a thread never to wait for the loop."""

_thread = threading.local()
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, thread_name_prefix="realtime-read")


@cache
def _writers() -> ThreadPoolExecutor:
    """Apart from the readers: a write that waits for somebody's lock must not hold up authentication and gaps."""
    return ThreadPoolExecutor(WRITERS, thread_name_prefix="realtime-write")


def _run(work: Callable[[], Result]) -> Result:
    """Looks whether the connection still lives when it was idle for a while, or when the last work failed."""
    if time.monotonic() - getattr(_thread, "used_at", 0.0) > CHECK_CONNECTION_AFTER_S:
        close_old_connections()
    try:
        result = work()
    except BaseException:
        _thread.used_at = 0.0
        raise
    _thread.used_at = time.monotonic()
    return result


def _run_twice(work: Callable[[], Result]) -> Result:
    """A connection that broke since its last use costs nobody anything but time."""
    try:
        return _run(work)
    except (OperationalError, InterfaceError):
        return _run(work)


async def in_database_thread(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Runs `work`, which may write, on a database thread. It enters the tenant's scope itself: the schema belongs to
    the thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_writers(), _run, partial(work, *args, **kwargs))


async def read_in_database_thread(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """As `in_database_thread`, for work that may be done twice; it is, if the first time the connection was broken."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_readers(), _run_twice, partial(work, *args, **kwargs))


async def read_in_turn(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """As `read_in_database_thread`, for what thousands of connections may want at once: who comes, resumes or is behind
    waits for a turn here, and not in front of a gap that everybody waits for."""
    turns = _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(IN_TURN))
    async with turns:
        return await read_in_database_thread(work, *args, **kwargs)
