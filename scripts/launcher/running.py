"""Whether a home is in use: the lock that a running `scripts/up` holds, and the note it leaves about itself.

Standard library only. The kernel lets go of the lock however the process dies, so a stale note blocks nothing.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from scripts.launcher.failures import LauncherError


@dataclass(frozen=True, slots=True)
class Note:
    """What a running launcher says of itself; `run_id` marks every process it started."""

    pid: int
    run_id: str
    url: str


def left_behind(home: Path) -> bool:
    """Whether an earlier run of the home was killed and so left its note.

    Raises LauncherError when a live launcher holds the home. A look only: making a `Hold` decides.
    """
    try:
        with _path(home).open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _read(_path(home)) is not None
    except FileNotFoundError:
        return False
    except BlockingIOError:
        raise _already_running(home) from None


class Hold:
    """The home, held until `release` or our end. `left` is the note of a run that was not stopped."""

    def __init__(self, home: Path) -> None:
        """Raises LauncherError when a live launcher holds it."""
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = _path(home)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._handle: TextIOWrapper = os.fdopen(descriptor, "r+", encoding="utf-8")
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handle.close()
            raise _already_running(home) from None
        self.left = _read(self._path)

    def write(self, note: Note) -> None:
        self._handle.seek(0)
        self._handle.truncate()
        json.dump({"pid": note.pid, "runId": note.run_id, "url": note.url}, self._handle)
        self._handle.flush()

    def release(self) -> None:
        """Say that everything was stopped, and let go."""
        self._handle.seek(0)
        self._handle.truncate()
        self._handle.close()


def _path(home: Path) -> Path:
    return home / "up.lock"


def _read(path: Path) -> Note | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Note(pid=int(found["pid"]), run_id=str(found["runId"]), url=str(found["url"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _already_running(home: Path) -> LauncherError:
    note = _read(_path(home))
    where = f", pid {note.pid}, at {note.url}" if note else ""
    return LauncherError(
        f"MessageCore is already running from {home}{where}.",
        hint="Stop that one first, or start another beside it: MESSAGECORE_HOME=/elsewhere PORT=8001 scripts/up",
    )
