"""Answers that can wait: there is nothing yet, and the caller would rather hear of the next thing than ask again."""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any

from rest_framework.response import Response

from messagecore.kernel.api.paging import Page

FindReady = Callable[[Collection[Any]], Collection[Any]]
"""Which of these keys there is something for by now. Runs on a database thread, for everyone who waits by it at once;
it may say too much, and then the operation finds nothing once more."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """What an answer waits for: until `find_ready` names `key`, `seconds` at most. `party` is who waits, of which each
    gets only so many places."""

    find_ready: FindReady
    key: Hashable
    party: Hashable
    seconds: float


@dataclass(frozen=True, slots=True)
class NotYet:
    """What a handler returns for a page with nothing on it that may wait. The page is what is answered in the end, if
    nothing comes, or at once where nobody can wait. Meanwhile the operation, which has no body, is asked again from
    the start."""

    page: Page
    awaited: Awaited


class WaitingResponse(Response):
    """`NotYet` as a response: whole, and good to be sent. Who serves it may keep it back and ask again."""

    def __init__(self, data: Any, awaited: Awaited) -> None:
        self.awaited = awaited
        super().__init__(data)
