"""Where requests wait whose answer is not there yet: on the event loop, without a thread or a database connection."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from messagecore.bodies import ClientDisconnected, Receive
from messagecore.kernel import metrics
from messagecore.kernel.api.waiting import Awaited, FindReady
from realtime.database import DatabaseError, read_in_database_thread

logger = logging.getLogger(__name__)

MAX_WAITING = 512
MAX_WAITING_OF_A_PARTY = 32
LOOK_EVERY_S = 0.25


@dataclass(eq=False, slots=True)
class _Waiter:
    awaited: Awaited
    outcome: asyncio.Future[bool]


class WaitingRoom:
    """All requests of a process that wait. While there are any, one statement every LOOK_EVERY_S asks for all of them
    together, so that who waits costs nothing but memory."""

    def __init__(self) -> None:
        self._waiters: set[_Waiter] = set()
        self._parties: Counter[Hashable] = Counter()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, awaited: Awaited, *, until: float, receive: Receive) -> bool:
        """True as soon as it is worth asking again; False when the loop's time is `until`, the process ends, or there
        is no place. Raises ClientDisconnected.

        Nothing is missed between asking and waiting: what is looked at is whether it is there, not whether it came.
        """
        loop = asyncio.get_running_loop()
        if (
            self._closed
            or loop.time() >= until
            or len(self._waiters) >= MAX_WAITING
            or self._parties[awaited.party] >= MAX_WAITING_OF_A_PARTY
        ):
            return False
        waiter = _Waiter(awaited, loop.create_future())
        self._enter(waiter)
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait((waiter.outcome, gone), timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                gone.result()
                raise ClientDisconnected
            return waiter.outcome.done() and waiter.outcome.result()
        finally:
            self._leave(waiter)
            gone.cancel()
            with suppress(asyncio.CancelledError, Exception):  # why it failed was raised above
                await gone

    def close(self) -> None:
        """The process ends: everyone is answered now, and who comes is not kept."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.outcome.done():
                waiter.outcome.set_result(False)

    def _enter(self, waiter: _Waiter) -> None:
        self._waiters.add(waiter)
        self._parties[waiter.awaited.party] += 1
        metrics.REQUESTS_HELD.inc()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_until_empty())

    def _leave(self, waiter: _Waiter) -> None:
        self._waiters.discard(waiter)
        self._parties[waiter.awaited.party] -= 1
        if not self._parties[waiter.awaited.party]:
            del self._parties[waiter.awaited.party]
        metrics.REQUESTS_HELD.dec()

    async def _look_until_empty(self) -> None:
        try:
            while self._waiters:
                await asyncio.sleep(LOOK_EVERY_S)
                by_function: defaultdict[FindReady, defaultdict[Hashable, list[_Waiter]]]
                by_function = defaultdict(lambda: defaultdict(list))
                for waiter in self._waiters:
                    by_function[waiter.awaited.find_ready][waiter.awaited.key].append(waiter)
                for find_ready, by_key in by_function.items():
                    await self._look(find_ready, by_key)
        finally:
            self._looking = None

    async def _look(self, find_ready: FindReady, by_key: defaultdict[Hashable, list[_Waiter]]) -> None:
        try:
            ready = await read_in_database_thread(find_ready, list(by_key))
        except DatabaseError as error:
            logger.warning("what requests wait for could not be looked at this time: %s", error)
            return
        except Exception:
            logger.exception("looking at what requests wait for failed")
            return
        for key in ready:
            for waiter in by_key[key]:
                if not waiter.outcome.done():
                    waiter.outcome.set_result(True)


@cache
def waiting_room() -> WaitingRoom:
    """The process's."""
    return WaitingRoom()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
