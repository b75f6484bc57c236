"""Which system user a server runs as. PostgreSQL refuses to run as root, so root lends it an unprivileged one."""

import ctypes
import os
import pwd
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.launcher.failures import LauncherError

# Tried in this order; `nobody` exists on every system.
_CANDIDATES = ("postgres", "nobody")

_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAP_SETPCAP = 8
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to run as. `capability` is one that it keeps, to get through directories that only root may enter."""

    name: str
    uid: int
    gid: int
    capability: int | None = None

    def assume(self) -> None:
        """Become this user for good. For the child, between fork and exec; needs root."""
        if self.capability is not None:
            # Or the change of user would drop it, and access(2), by which PostgreSQL finds its programs, ignore it.
            _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        if self.capability is not None:
            _keep_only(self.capability)

    def give(self, *paths: Path) -> None:
        """Make the user the owner of `paths` (not of what is in them)."""
        for path in paths:
            os.chown(path, self.uid, self.gid)


def unprivileged(*, data_dir: Path, reaches: Iterable[Path]) -> Identity | None:
    """The user that a server over `data_dir` has to run as, or None when that is ourselves (we are not root).

    Existing data decides: its owner stays its owner. `reaches` are the paths the server must get at. Where a directory
    above them is closed to others (`/root`, a `mktemp -d`), it keeps the one capability that lets it pass, rather than
    our opening the directory to everyone.
    """
    if os.geteuid() != 0:
        return None
    entry = _owner(data_dir) or _first_known()
    identity = Identity(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    closed = next((path for path in reaches if not _enterable(path, identity)), None)
    if closed is None:
        return identity
    capability = _held_capability()
    if capability is None:
        raise LauncherError(
            f"PostgreSQL runs as the user {entry.pw_name!r}, who may not enter the directories above {closed}.",
            hint="Set MESSAGECORE_HOME to a directory that others may enter, or run as an ordinary user.",
        )
    return Identity(name=identity.name, uid=identity.uid, gid=identity.gid, capability=capability)


def current_user_name() -> str:
    """The system's name of the user we run as. Raises LauncherError when it has none, which PostgreSQL needs."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise LauncherError(
            f"The user id {os.geteuid()} has no name on this system, and PostgreSQL refuses such users.",
            hint="Run as a user of /etc/passwd, or set DATABASE_URL to a PostgreSQL that exists.",
        ) from error


def _owner(data_dir: Path) -> pwd.struct_passwd | None:
    try:
        uid = data_dir.stat().st_uid
        return pwd.getpwuid(uid) if uid != 0 else None
    except (FileNotFoundError, KeyError):
        return None


def _first_known() -> pwd.struct_passwd:
    for name in _CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LauncherError(
        "PostgreSQL refuses to run as root, and this system has neither the user 'postgres' nor 'nobody'.",
        hint="Run as an ordinary user, or set DATABASE_URL to a PostgreSQL that exists.",
    )


def _enterable(path: Path, identity: Identity) -> bool:
    for directory in path.resolve().parents:
        found = directory.stat()
        mine = found.st_uid == identity.uid and found.st_mode & stat.S_IXUSR
        if not mine and not found.st_mode & stat.S_IXOTH:
            return False
    return True


def _held_capability() -> int | None:
    """The weaker of the two capabilities that open directories, if we hold one of them (containers drop some).

    None also when we may not hand it on.
    """
    if _LIBC is None:
        return None
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapPrm:"):
            held = int(line.split()[1], 16)
            if not held >> _CAP_SETPCAP & 1:
                return None
            return next((bit for bit in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if held >> bit & 1), None)
    return None


def _keep_only(capability: int) -> None:
    assert _LIBC is not None
    mask = 1 << capability
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    data = (_CapabilityData * 2)(_CapabilityData(mask, mask, mask), _CapabilityData(0, 0, 0))
    if _LIBC.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _prctl(option: int, *values: int) -> None:
    assert _LIBC is not None
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if _LIBC.prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
