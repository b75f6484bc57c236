"""A command that shares our terminal: it gets the signals that were meant for it, and we outlive it to clean up."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.launcher import interruptions
from scripts.launcher.failures import LauncherError
from scripts.launcher.lifetime import die_with_parent


class Foreground:
    """Runs one command after the other, and passes signals on to the one that runs.

    Make it in the main thread, before anything that has to be cleaned up. A signal while no command runs is noted, as
    `interruptions` says.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        interruptions.listen(self._tell)

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> int:
        """Returns the exit code; 128 + n when signal n ended it, as shells do. `meanwhile` is called now and then.

        Raises StopRequested when a signal came before, LauncherError when the command cannot be run.
        """
        interruptions.check()
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread when it forks
            )
        except OSError as error:
            raise LauncherError(f"{command[0]} cannot be run: {error.strerror}.") from error
        missed = interruptions.noted()
        if missed is not None:  # between the check and the start
            self._tell(missed)
        while True:
            try:
                code = self._process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                meanwhile()
                continue
            self._process = None
            return code if code >= 0 else 128 - code

    def _tell(self, number: int) -> None:
        if self._process is not None and not (number == signal.SIGINT and _terminal_told_the_command()):
            self._process.send_signal(number)


def _terminal_told_the_command() -> bool:
    """Whether Ctrl-C has reached the command already, which shares our process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
