"""One run of pip or uv: its output in a log, its progress on a step, its failure in words. Standard library only."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from scripts.launcher.console import Step
from scripts.launcher.failures import LauncherError
from scripts.launcher.interruptions import pause
from scripts.launcher.lifetime import die_with_parent

_OFFLINE = re.compile(
    r"name resolution|NameResolutionError|NewConnectionError|ConnectTimeout|ConnectionError|Network is unreachable"
    r"|Connection refused|dns error|error sending request|tcp connect error|Failed to establish a new connection",
    re.IGNORECASE,
)


def run_installer(command: list[str], *, log_path: Path, step: Step, total: int = 0) -> None:
    """Run it to its end; `total` is how many packages it is about. Raises LauncherError with what it said last."""
    # PIP_USER and PYTHONHOME of the caller would aim past the environment.
    env = {name: value for name, value in os.environ.items() if name not in {"PIP_USER", "PIP_TARGET", "PYTHONHOME"}}
    # A scratch directory of our own: a killed installer leaves nothing outside, and `/tmp` is often small.
    scratch = log_path.with_name("install-scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    env |= {"PYTHONUNBUFFERED": "1", "TMPDIR": str(scratch)}
    begins_at = log_path.stat().st_size
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - one thread when it forks
        )
    try:
        while process.poll() is None:
            step.note(_progress(_lines(log_path, begins_at), total))
            pause(0.1)
    except BaseException:
        _end(process)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if process.returncode != 0:
        raise _explain(_lines(log_path, begins_at), log_path)


def _lines(log_path: Path, begins_at: int) -> list[str]:
    with log_path.open("rb") as log:
        log.seek(begins_at)
        return [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]


def _progress(lines: list[str], total: int) -> str:
    collected = [line for line in lines if line.startswith("Collecting ")]
    if any(line.startswith("Installing collected") for line in lines):
        return "all downloaded, unpacking"
    if collected:
        return f"{min(len(collected), total)} of {total}, {collected[-1].split()[1].split('==')[0]}"
    return lines[-1].strip()[:60] if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _explain(lines: list[str], log_path: Path) -> LauncherError:
    text = "\n".join(lines)
    tail = "\n  ".join(line for line in lines if line.strip() and not line.startswith("[notice]"))[-1200:]
    if re.search(r"UnknownIssuer|CERTIFICATE_VERIFY_FAILED|certificate verify failed", text):
        return LauncherError(
            "The package index's certificate was not accepted, so the dependencies were not installed.",
            hint=f"Behind a proxy, name its certificate: SSL_CERT_FILE for uv, PIP_CERT for pip. Details: {log_path}",
        )
    if _OFFLINE.search(text):
        return LauncherError(
            "The package index could not be reached, so the dependencies were not installed.",
            hint=f"Is this machine online? Behind a mirror or proxy, set what pip and uv read. Details: {log_path}",
        )
    if "No space left" in text:
        return LauncherError("The disk is full: the dependencies need about 600 MB.", hint=f"Details: {log_path}")
    if re.search(r"No matching distribution|no wheels? with a matching|has no usable wheels", text, re.IGNORECASE):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return LauncherError(
            f"A dependency has no build for Python {version} on this machine:\n  {tail}",
            hint="Python 3.11 to 3.14 on Linux (x86-64, ARM64) and macOS are supported.",
        )
    return LauncherError(f"The dependencies were not installed:\n  {tail}", hint=f"Details: {log_path}")
