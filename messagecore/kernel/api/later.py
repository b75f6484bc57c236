"""Answers that are made on the event loop: for who waits for something or is sent a stream, without a thread."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rest_framework.response import Response

from messagecore.kernel import catalogue
from messagecore.kernel.api.envelope import failure


class Line(Protocol):
    """The client of a request, as who answers it on the loop sees them."""

    @property
    def gone(self) -> asyncio.Future[None]:
        """Done when the client went away."""

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """Begins an answer of 200 whose bytes follow by `write`, and end with `end`."""

    async def write(self, data: bytes) -> None:
        """Returns when the client has taken enough of what was written before. Nothing is raised if it is gone."""

    async def end(self) -> None: ...

    def hurry(self) -> None:
        """From now on nothing waits for the client."""

    def abort(self) -> None:
        """Cuts the connection, with all that the client did not take."""


Answering = Callable[[Line], Awaitable[Any]]
"""Makes the `data` of the answer, or streams. Runs on the loop; a Refusal that it raises before it streams is answered
as everywhere."""


@dataclass(frozen=True, slots=True)
class Later:
    """What a handler returns when the thread has done its part: who it is was found, what they ask was understood."""

    answer: Answering


class LaterResponse(Response):
    """`Later` as a response on its way through the middleware, which gives it its headers. As it stands it says what
    is so wherever nobody serves it on a loop: that this cannot be had there."""

    counted_as: tuple[str, str] | None = None
    """Method and route, for whoever counts it once its status is known."""

    def __init__(self, later: Later) -> None:
        self.later = later
        entry = catalogue.error("service_unavailable")
        super().__init__(failure(entry.code, entry.title, retryable=entry.retryable), status=entry.status)

    def forget_request(self) -> None:
        """Lets go of the view and the request that it was rendered for: it may live as long as a stream."""
        for name in ("renderer_context", "accepted_renderer", "data"):
            self.__dict__.pop(name, None)
