"""What a process's watchers were told of each user last, so that nothing older comes after it."""

import time
from collections.abc import Callable
from uuid import UUID

MAX_USERS = 10_000
FORGET_AFTER_S = 60.0
"""Announcements under way are milliseconds old; what is forgotten cannot be contradicted any more."""


class Told:
    """Numbers of announcements by user. Bounded: what is old or too much is forgotten."""

    __slots__ = ("_aged_at", "_before", "_clock", "_now", "_read", "_read_before")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._aged_at = clock()
        self._now: dict[UUID, int] = {}
        self._before: dict[UUID, int] = {}
        # What newcomers were shown from the store: an announcement number, and the frame that is true of it.
        self._read: dict[UUID, tuple[int, str]] = {}
        self._read_before: dict[UUID, tuple[int, str]] = {}

    def take(self, user_id: UUID, number: int, frame: str) -> str | None:
        """The frame that watchers get because of an announcement: none if they had a later one, and a later one if a
        newcomer among them has seen it already."""
        if number <= self._last(user_id):
            return None
        read_number, read_frame = self._read.get(user_id) or self._read_before.get(user_id) or (0, "")
        if read_number > number:
            number, frame = read_number, read_frame
        self._age()
        self._now[user_id] = number
        return frame

    def take_read(self, user_id: UUID, number: int, frame: str) -> bool:
        """Notes what a newcomer is to be shown, which was read when `number` was the last announcement. False if
        watchers, the newcomer among them, had a later one meanwhile."""
        last = self._last(user_id)
        if number < last:
            return False
        if number > last:
            self._age()
            self._read[user_id] = max((number, frame), self._read.get(user_id, (0, "")))
        return True

    def _last(self, user_id: UUID) -> int:
        return max(self._now.get(user_id, 0), self._before.get(user_id, 0))

    def _age(self) -> None:
        is_full = max(len(self._now), len(self._read)) >= MAX_USERS
        if is_full or self._clock() - self._aged_at > FORGET_AFTER_S:
            self._before, self._now = self._now, {}
            self._read_before, self._read = self._read, {}
            self._aged_at = self._clock()
