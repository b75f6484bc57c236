"""The first half of every command, under any Python 3.11: quick refusals, the environment, then the command inside it.

Standard library only, since nothing is installed yet.
"""

import os
import sys
from pathlib import Path

from scripts.launcher.console import Console, fail
from scripts.launcher.environment import python_for
from scripts.launcher.failures import LauncherError
from scripts.launcher.home import ROOT, home_from_environment
from scripts.launcher.interruptions import StopRequested, listen
from scripts.launcher.ports import address_from_environment, require_free
from scripts.launcher.running import left_behind


def main(command: str, arguments: list[str]) -> int:
    """Replace this process by `command` under the right Python; returns an exit code when that is refused."""
    # What a chat writes to its standard output may be read by a program: frames, and nothing about an installation.
    console = Console(sys.stderr if command == "chat" else None)
    listen()
    try:
        home = home_from_environment()
        if command == "up" and not {"-h", "--help"} & set(arguments):
            address = address_from_environment()
            # What a killed run left may have the port still; the second half ends that first and looks then.
            if not left_behind(home):
                require_free(address)
        python = python_for(root=ROOT, home=home, console=console)
    except LauncherError as error:
        return fail(error)
    except PermissionError as error:
        return fail(
            LauncherError(
                f"No permission to write {error.filename}.", hint="Set MESSAGECORE_HOME to a directory of yours."
            )
        )
    except StopRequested:
        console.line("Stopped.")
        return 130
    env = dict(os.environ) | {"MESSAGECORE_HOME": str(home)}
    sys.stdout.flush()
    # The command names a module beside this one; Python finds it from the root, where start.sh has gone.
    return os.execve(python, [str(python), "-m", f"scripts.launcher.{command}", *arguments], env)  # noqa: S606


if __name__ == "__main__":
    os.chdir(Path(ROOT))
    sys.exit(main(sys.argv[1], sys.argv[2:]))
