"""What people see: one line per step, with a tick and the seconds it took. The standard library only."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from scripts.launcher.failures import LauncherError

# Without a terminal a long step speaks at this interval, so that a log shows that it lives.
_QUIET_INTERVAL_S = 10.0

Note = Callable[[str], None]


class Console:
    """Writes for a person at a terminal, or, plainly and without control codes, for a log."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()
        self._shown = ""
        if hasattr(self.stream, "reconfigure"):
            self.stream.reconfigure(errors="replace")

    def line(self, text: str = "") -> None:
        """One whole line. A reader that went away (`scripts/up | head`, a closed terminal) is no reason to fail."""
        with suppress(OSError):
            print(text, file=self.stream, flush=True)

    def good(self, text: str) -> None:
        self.line(f"{self._coloured('✓', 32)} {text}")

    def bad(self, text: str) -> None:
        self.line(f"{self._coloured('✗', 31)} {text}")

    @contextmanager
    def step(self, doing: str) -> Iterator["Step"]:
        """Say what is being done while the block runs, and at its end that it is done, with the seconds it took."""
        step = Step(self, doing)
        step.note("")
        try:
            yield step
        except BaseException:
            self.clear()
            self.bad(f"{doing} ({step.seconds():.1f} s)")
            raise
        self.clear()
        self.good(f"{step.done or doing} ({step.seconds():.1f} s)")

    def transient(self, text: str) -> None:
        """A line that the next one replaces; terminals only."""
        if self.terminal and text != self._shown:
            self._shown = text
            with suppress(OSError):
                self.stream.write("\r\033[K" + text[: shutil.get_terminal_size().columns - 1])
                self.stream.flush()

    def clear(self) -> None:
        self.transient("")

    def _coloured(self, text: str, colour: int) -> str:
        return f"\033[{colour}m{text}\033[0m" if self.terminal else text


class Step:
    """One step while it runs. Setting `done` changes the line that remains of it."""

    def __init__(self, console: Console, doing: str) -> None:
        self.console = console
        self.doing = doing
        self.done = ""
        self._started = time.monotonic()
        self._spoke = self._started

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def note(self, detail: str) -> None:
        """How far it is; call it as often as you like."""
        text = f"… {self.doing}{': ' + detail if detail else ''}"
        if self.console.terminal:
            self.console.transient(f"{text} ({self.seconds():.0f} s)" if detail else text)
        elif time.monotonic() - self._spoke >= _QUIET_INTERVAL_S:
            self._spoke = time.monotonic()
            self.console.line(f"{text} ({self.seconds():.0f} s)")


def fail(error: LauncherError) -> int:
    """Say what went wrong on the standard error; returns the exit code."""
    console = Console(sys.stderr)
    console.bad(str(error))
    if error.hint:
        console.line(f"  {error.hint}")
    return 1
