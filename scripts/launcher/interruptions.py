"""Ctrl-C, SIGTERM and a closed terminal, turned into one exception that unwinds what was started."""

import signal
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Somebody asked us to stop."""


class Interruptions:
    """Raises StopRequested once in the main thread, at the first signal; while `held`, and after it, signals are noted.

    It also listens for SIGINT where a shell without job control started us with that signal ignored.
    """

    def __init__(self) -> None:
        self.requested = False
        self._held = False
        for number in _NUMBERS:
            signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """From here on nothing is interrupted: stopping has begun."""
        self._held = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        first = not self.requested
        self.requested = True
        if first and not self._held:
            raise StopRequested
