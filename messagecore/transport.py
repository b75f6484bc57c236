"""uvicorn's HTTP protocol, which tells of the process's end while there is time to answer. Loaded before Django is."""

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_endings: list[Callable[[], None]] = []


def before_shutdown(act: Callable[[], None]) -> None:
    """Calls `act`, on the loop and once for each open connection, when the process was told to end: before it waits
    for what is under way. The lifespan's own end comes after that."""
    _endings.append(act)


class HttpTransport(HttpToolsProtocol):
    def shutdown(self) -> None:
        for act in _endings:
            act()
        super().shutdown()
