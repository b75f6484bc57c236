"""The virtual environment that everything runs in: which one, whether it is whole, and making it.

Standard library only, since nothing is installed yet. Installing goes through pip or uv and the lock file with its
hashes, so what runs here is what was tested.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from scripts.launcher.console import Console, Step
from scripts.launcher.failures import LauncherError
from scripts.launcher.installer import run_installer
from scripts.launcher.interruptions import pause

# Written last, inside the environment: no stamp means that an installation did not end.
_STAMP = "messagecore-installed.json"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)\s*(;)?")


def python_for(*, root: Path, home: Path, console: Console) -> Path:
    """The Python to run under, its environment made or repaired first where needed; milliseconds when all is there.

    MESSAGECORE_VENV names one to use as it is; an activated one (VIRTUAL_ENV) is used if it holds what the lock file
    pins; otherwise it is `home/venv`. Raises LauncherError when that fails.
    """
    lock = root / "requirements.lock"
    named = os.environ.get("MESSAGECORE_VENV", "")
    if named:
        missing = lacking(Path(named), lock)
        if missing:
            listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise LauncherError(
                f"MESSAGECORE_VENV={named} lacks {listed}.",
                hint=f"Install {lock} into it, or unset MESSAGECORE_VENV to have an environment made.",
            )
        return _python_of(Path(named))
    active = os.environ.get("VIRTUAL_ENV", "")
    if active and not lacking(Path(active), lock):
        return _python_of(Path(active))
    venv = home / "venv"
    if not _whole(venv, lock):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(home, console):
            if not _whole(venv, lock):
                _make(venv, lock, home=home, console=console)
    return _python_of(venv)


def lacking(venv: Path, lock: Path) -> list[str]:
    """What the lock file pins and the environment has not, as `name==version`. Pins for some platforms only are passed
    over: it would take the packaging library to read their conditions."""
    installed: set[tuple[str, str]] = set()
    for entry in venv.glob("lib/python3*/site-packages/*.dist-info"):
        name, _, version = entry.name.removesuffix(".dist-info").rpartition("-")
        installed.add((_normal(name), version))
    return [f"{name}=={version}" for name, version in _pins(lock) if (name, version) not in installed]


def _pins(lock: Path) -> list[tuple[str, str]]:
    found = (_PIN.match(line) for line in lock.read_text(encoding="utf-8").splitlines())
    return [(_normal(match[1]), match[2]) for match in found if match and not match[3]]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _python_of(venv: Path) -> Path:
    # Not resolved: the link's own place is what makes it an environment.
    return venv.absolute() / "bin" / "python"


def _expected_stamp(lock: Path) -> dict[str, str]:
    return {"lock": hashlib.sha256(lock.read_bytes()).hexdigest()}


def _read_stamp(venv: Path) -> dict[str, str] | None:
    try:
        stamp = json.loads((venv / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def _whole(venv: Path, lock: Path) -> bool:
    # The link to the Python that made it breaks when that Python is removed.
    return _read_stamp(venv) == _expected_stamp(lock) and os.access(_python_of(venv), os.X_OK)


@contextmanager
def _alone(home: Path, console: Console) -> Iterator[None]:
    with (home / "venv.lock").open("w") as handle:
        if not _taken(handle):
            with console.step("Waiting for another start that is installing the dependencies"):
                while not _taken(handle):
                    pause(0.1)
        yield


def _taken(handle: TextIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make(venv: Path, lock: Path, *, home: Path, console: Console) -> None:
    if _read_stamp(venv) is None or not os.access(_python_of(venv), os.X_OK):
        # Nothing, or what an interruption left: pip would take a half-written package for an installed one.
        shutil.rmtree(venv, ignore_errors=True)
    (venv / _STAMP).unlink(missing_ok=True)
    log_path = home / "logs" / "install.log"
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path.write_bytes(b"")
    # Whoever runs the servers has to read the packages, also when root installs them under a strict umask.
    previous_umask = os.umask(0o022)
    try:
        _install(venv, lock, uv=shutil.which("uv"), log_path=log_path, console=console)
    finally:
        os.umask(previous_umask)
    (venv / _STAMP).write_text(json.dumps(_expected_stamp(lock)), encoding="utf-8")


def _install(venv: Path, lock: Path, *, uv: str | None, log_path: Path, console: Console) -> None:
    total = len(_pins(lock))
    try:
        if not _python_of(venv).exists():
            with console.step("Making a virtual environment") as step:
                _create(venv, uv=uv, log_path=log_path, step=step)
        with console.step(f"Installing {total} packages (once; later starts skip this)") as step:
            step.done = f"Installed {total} packages"
            run_installer(_install_command(venv, lock, uv=uv), log_path=log_path, step=step, total=total)
    except LauncherError:
        if uv is None or not _pip_can_install():
            raise
        # A mirror or a certificate is often configured for pip alone.
        console.line("  uv could not do it; trying pip.")
        shutil.rmtree(venv, ignore_errors=True)
        _install(venv, lock, uv=None, log_path=log_path, console=console)


def _pip_can_install() -> bool:
    return any(importlib.util.find_spec(name) is not None for name in ("ensurepip", "pip"))


def _create(venv: Path, *, uv: str | None, log_path: Path, step: Step) -> None:
    if uv:
        run_installer([uv, "venv", "--python", sys.executable, str(venv)], log_path=log_path, step=step)
        return
    if importlib.util.find_spec("venv") is None:
        raise _without_venv()
    if importlib.util.find_spec("ensurepip") is not None:
        run_installer([sys.executable, "-m", "venv", str(venv)], log_path=log_path, step=step)
    elif importlib.util.find_spec("pip") is not None:
        # Debian parts ensurepip from Python; a pip of the system can install into an environment that has none.
        run_installer([sys.executable, "-m", "venv", "--without-pip", str(venv)], log_path=log_path, step=step)
    else:
        raise _without_venv()


def _without_venv() -> LauncherError:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return LauncherError(
        f"{sys.executable} cannot make virtual environments: its modules venv and ensurepip are not installed.",
        hint=f"Debian and Ubuntu keep them apart: apt install python{version}-venv. Then start again.",
    )


def _install_command(venv: Path, lock: Path, *, uv: str | None) -> list[str]:
    python = str(_python_of(venv))
    if uv:
        return [uv, "pip", "install", "--python", python, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
    has_own_pip = any(venv.glob("lib/python3*/site-packages/pip"))
    pip = [python, "-m", "pip"] if has_own_pip else [sys.executable, "-m", "pip", "--python", python]
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--root-user-action", "ignore"]
    return [*pip, "install", *quiet, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
