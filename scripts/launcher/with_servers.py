"""`scripts/with-servers`: runs any command with throw-away servers, and leaves nothing behind."""

import argparse
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from scripts.launcher.console import fail
from scripts.launcher.embedded import Servers, throwaway_servers
from scripts.launcher.failures import LauncherError
from scripts.launcher.home import caller_dir
from scripts.launcher.processes import die_with_parent


class Interrupted(BaseException):
    """A signal asked us to stop before the command had begun."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: list[str]) -> int:
    """Returns the command's exit code; 128 + n when signal n ended it, as shells do."""
    parser = argparse.ArgumentParser(prog="scripts/with-servers", description=(__doc__ or "").split(": ", 1)[1])
    parser.add_argument("--postgres-bin", type=Path, metavar="DIR", help="programs of another PostgreSQL, 15 or newer")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("say which command to run")
    return run_with_servers(command, postgres_bin=options.postgres_bin, cwd=caller_dir())


def run_with_servers(command: Sequence[str], *, cwd: Path, postgres_bin: Path | None = None) -> int:
    """Run `command` in `cwd` with servers that exist for it alone; those of DATABASE_URL and REDIS_URL where set."""
    relay = _Relay()
    try:
        with throwaway_servers(
            database_url=os.environ.get("DATABASE_URL", "") if postgres_bin is None else "",
            redis_url=os.environ.get("REDIS_URL", ""),
            postgres_bin=postgres_bin,
        ) as (directory, servers):
            return relay.run(command, env=environment_for(servers, home=directory / "home"), cwd=cwd)
    except LauncherError as error:
        return fail(error)
    except Interrupted as error:
        return 128 + error.number


def environment_for(servers: Servers, *, home: Path) -> dict[str, str]:
    """Our environment with the servers in it, and this Python's programs first on the path."""
    home.mkdir(mode=0o700, exist_ok=True)
    env = dict(os.environ)
    env.setdefault("MESSAGECORE_SECRET_KEY", secrets.token_urlsafe(48))
    env.setdefault("MESSAGECORE_MODE", "test")
    env.pop("MESSAGECORE_CALLER_DIR", None)
    return env | {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "MESSAGECORE_HOME": str(home),
        # A command that starts `scripts/up` in turn shall not make another environment.
        "MESSAGECORE_VENV": sys.prefix,
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}",
    }


class _Relay:
    """Passes the signals that are meant for the command on to it, and outlives it to stop the servers."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def run(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread when it forks
            )
        except OSError as error:
            raise LauncherError(f"{command[0]} cannot be run: {error.strerror}.") from error
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._process is None:
            raise Interrupted(number)
        if number == signal.SIGINT and _terminal_told_the_command():
            return
        if self._process.poll() is None:
            self._process.send_signal(number)


def _terminal_told_the_command() -> bool:
    """Whether Ctrl-C has reached the command already, which shares our process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
