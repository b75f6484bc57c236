"""What a run ran on: figures mean something only beside it."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from django.db import connection

_SETTINGS = ("shared_buffers", "work_mem", "fsync", "synchronous_commit", "jit")


def describe() -> list[str]:
    """Lines of a list, without names of machines, people or folders. To be asked when the measuring has just ended."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) name", [list(_SETTINGS)])
        settings = ", ".join(f"{name} {value}" for name, value in cursor.fetchall())
        cursor.execute("SHOW server_version")
        server = cursor.fetchone()[0].split()[0]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    libraries = ", ".join(f"{name} {version(name)}" for name in ("django", "djangorestframework", "psycopg"))
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"load average of the last minute: {os.getloadavg()[0]:.2f}, of which 1 is the measuring itself",
        f"{os.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB of memory, {platform.system()}",
        f"Python {platform.python_version()}, {libraries}",
        f"PostgreSQL {server}: {settings}",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
