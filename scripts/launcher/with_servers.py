"""`scripts/with-servers`: runs any command with throw-away servers, and leaves nothing behind."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from scripts.launcher.console import fail
from scripts.launcher.embedded import Servers, throwaway_servers
from scripts.launcher.failures import LauncherError
from scripts.launcher.foreground import Foreground
from scripts.launcher.home import caller_dir
from scripts.launcher.interruptions import StopRequested, ignore


def main(arguments: list[str]) -> int:
    """Returns the command's exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/with-servers",
        description="Run a command with a PostgreSQL and a Valkey that exist for it alone.",
        epilog="DATABASE_URL and REDIS_URL, where set, are used as they are.",
    )
    parser.add_argument("--postgres-bin", type=Path, metavar="DIR", help="programs of another PostgreSQL, 15 or newer")
    parser.add_argument("--on-disk", action="store_true", help="also where there is plenty of memory for their data")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("say which command to run")
    foreground = Foreground()
    try:
        with throwaway_servers(
            database_url="" if options.postgres_bin else os.environ.get("DATABASE_URL", ""),
            redis_url=os.environ.get("REDIS_URL", ""),
            postgres_bin=options.postgres_bin,
            in_memory=not options.on_disk,
        ) as (directory, servers):
            code = foreground.run(command, env=environment_for(servers, home=directory / "home"), cwd=caller_dir())
            ignore()
            return code
    except LauncherError as error:
        return fail(error)
    except StopRequested as error:
        return 128 + error.number


def environment_for(servers: Servers, *, home: Path) -> dict[str, str]:
    """Our environment with the servers in it, a home that may be thrown away, and this Python's programs first."""
    home.mkdir(mode=0o700, exist_ok=True)
    env = dict(os.environ)
    env.pop("MESSAGECORE_CALLER_DIR", None)
    # Tests start processes by the hundred and rewrite their own assertions: each would compile everything once more.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env | {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "MESSAGECORE_SECRET_KEY": env.get("MESSAGECORE_SECRET_KEY") or secrets.token_urlsafe(48),
        "MESSAGECORE_MODE": env.get("MESSAGECORE_MODE") or "test",
        "MESSAGECORE_HOME": str(home),
        # A command that starts `scripts/up` in turn shall not make another environment.
        "MESSAGECORE_VENV": sys.prefix,
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
