"""Doing a few of many things in each turn of the loop, so that whatever else is due comes between."""

import asyncio
from collections import deque


class Turns:
    """Lets `at_once` of those who ask go on in one turn of the loop, in the order in which they asked."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = 0
        self._next: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def mine(self) -> None:
        """Returns when it is the caller's turn; at once where nobody waits and the turn has room."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the last one has ended, and with it whoever waited
            self._loop, self._next, self._taken = loop, None, 0
            self._waiting.clear()
        if self._next is None:
            self._next = loop.call_soon(self._begin, loop)
        if self._taken < self._at_once and not self._waiting:
            self._taken += 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._taken = 0
        while self._waiting and self._taken < self._at_once:
            turn = self._waiting.popleft()
            if not turn.done():  # who was cancelled does not come
                turn.set_result(None)
                self._taken += 1
        self._next = loop.call_soon(self._begin, loop) if self._taken else None
