"""Who is typing in a room: shown once when they start, and gone by itself when nothing more is heard."""

import asyncio
from collections.abc import Callable
from uuid import UUID

EXPIRES_AFTER_S = 6.0


class Typists:
    """Every process keeps its own clocks, so that a typist whose process died stops, too."""

    __slots__ = ("_clocks",)

    def __init__(self) -> None:
        self._clocks: dict[UUID, asyncio.TimerHandle] = {}

    def update(self, user_id: UUID, *, is_typing: bool, show: Callable[[bool], None]) -> None:
        """Takes a sign of typing, or of its end; `show` is called only when something changes."""
        clock = self._clocks.pop(user_id, None)
        if clock is not None:
            clock.cancel()
        if is_typing:
            loop = asyncio.get_running_loop()
            self._clocks[user_id] = loop.call_later(EXPIRES_AFTER_S, self._expire, user_id, show)
        if is_typing != (clock is not None):
            show(is_typing)

    def clear(self) -> None:
        for clock in self._clocks.values():
            clock.cancel()
        self._clocks.clear()

    def _expire(self, user_id: UUID, show: Callable[[bool], None]) -> None:
        if self._clocks.pop(user_id, None) is not None:
            show(False)
