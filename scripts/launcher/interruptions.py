"""Ctrl-C, SIGTERM and a closed terminal: noted when they come, acted upon where it is safe. Standard library only.

A handler that raises may do so anywhere, inside `Popen.poll` too, whose lock then stays taken and hangs the stopping.
So the handler takes a note, and `pause`, which every loop of ours sleeps in, raises.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Somebody asked us to stop, by the signal of that number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Note:
    number: int | None = None


def listen(tell: Callable[[int], None] = lambda number: None) -> None:
    """From here on signals are noted, and `tell` is called with each, from the handler: it shall not raise.

    Also SIGINT where a shell without job control started us with that signal ignored.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        _Note.number = _Note.number or number
        tell(number)

    for number in _NUMBERS:
        signal.signal(number, on_signal)


def ignore() -> None:
    """From here to the end of the process signals do nothing: stopping has begun."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def noted() -> int | None:
    """The first signal that came, if one did."""
    return _Note.number


def pause(seconds: float) -> None:
    """Sleep for a short while. Raises StopRequested if a signal came before or meanwhile."""
    check()
    time.sleep(seconds)
    check()


def check() -> None:
    """Raises StopRequested if a signal came."""
    if _Note.number is not None:
        raise StopRequested(_Note.number)
