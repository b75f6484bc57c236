"""A command that shares our terminal: it gets the signals that were meant for it, and we outlive it to clean up."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from scripts.launcher.failures import LauncherError
from scripts.launcher.lifetime import die_with_parent


class Interrupted(BaseException):
    """A signal asked us to stop while no command was running."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Foreground:
    """Runs one command after the other. Signals go to the one that runs, and are noted in `interrupted`.

    Make it in the main thread, before anything that has to be cleaned up.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._process: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> int:
        """Returns the exit code; 128 + n when signal n ended it, as shells do. `meanwhile` is called now and then."""
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread when it forks
            )
        except OSError as error:
            raise LauncherError(f"{command[0]} cannot be run: {error.strerror}.") from error
        while True:
            try:
                code = self._process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                meanwhile()
                continue
            self._process = None
            return code if code >= 0 else 128 - code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        first, self.interrupted = not self.interrupted, True
        if self._process is None:
            if first:
                raise Interrupted(number)
        elif not (number == signal.SIGINT and _terminal_told_the_command()) and self._process.poll() is None:
            self._process.send_signal(number)


def _terminal_told_the_command() -> bool:
    """Whether Ctrl-C has reached the command already, which shares our process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
