"""Where things are: the repository, and the home directory that holds everything one installation keeps."""

import os
from pathlib import Path

from scripts.launcher.failures import LauncherError

ROOT = Path(__file__).resolve().parents[2]


def caller_dir() -> Path:
    """The directory the command was called from; `start.sh` leaves it for the repository's root."""
    return Path(os.environ.get("MESSAGECORE_CALLER_DIR") or Path.cwd())


def home_from_environment() -> Path:
    """MESSAGECORE_HOME, seen from the caller's directory when it is relative; else `.messagecore` in the repository.

    It need not exist. Raises LauncherError when it cannot be a directory.
    """
    named = os.environ.get("MESSAGECORE_HOME", "")
    home = (caller_dir() / Path(named).expanduser()).resolve() if named else ROOT / ".messagecore"
    if "\n" in str(home):
        raise LauncherError("MESSAGECORE_HOME holds a line break, which PostgreSQL's files cannot.")
    if home.exists() and not home.is_dir():
        raise LauncherError(f"MESSAGECORE_HOME={home} is not a directory.")
    return home
