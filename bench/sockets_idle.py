"""What a connection costs that is open and silent, and what opening it takes."""

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.crowd import Crowd, deal, gather
from bench.report import as_table
from bench.swarm import swarm, web

SEED = 20_251_029
MEMBERS = 10
CONNECTIONS, CONVERSATIONS = 10_000, 20
DEFLATED = 2_000
WIDE, WIDE_CONVERSATIONS = 500, 1_000
WARM = 50
"""Clients that come and go before: what a process needs once is not a connection's."""
AT_ONCE = 50
SETTLE_S, IDLE_S = 5.0, 40.0
"""Two rounds of the server's pings, which are every 20 s."""
TARGET_KIB = 30


@dataclass(frozen=True, slots=True)
class Idle:
    """Per connection, but for `idle_share`, which is of one core, of all of them."""

    name: str
    connections: int
    conversations: int
    kib: float
    open_cpu_ms: float
    idle_share: float
    target_kib: float | None = None


def measure(scale: float) -> list[Idle]:
    """Three web processes, one after the other, so that each begins with clean memory."""
    draw = random.Random(SEED)
    now = datetime.now(UTC)
    count, deflated, wide = (_whole(number * scale) for number in (CONNECTIONS, DEFLATED, WIDE))
    usual = gather(
        "idle", users=count, rooms=list(deal(count, each=CONVERSATIONS, members=MEMBERS, draw=draw)), now=now
    )
    each = max(CONVERSATIONS, int(WIDE_CONVERSATIONS * min(scale, 1)))
    many = gather("wide", users=wide, rooms=list(deal(wide, each=each, members=MEMBERS, draw=draw)), now=now)
    return [
        _measure("idle", usual, count, scale, conversations=CONVERSATIONS, target_kib=TARGET_KIB),
        _measure("permessage-deflate", usual, deflated, scale, conversations=CONVERSATIONS, deflate=True),
        _measure("many conversations", many, wide, scale, conversations=each),
    ]


def _measure(
    name: str,
    crowd: Crowd,
    count: int,
    scale: float,
    *,
    conversations: int,
    deflate: bool = False,
    target_kib: float | None = None,
) -> Idle:
    settle_s, idle_s = max(0.3, SETTLE_S * min(scale, 1)), max(0.3, IDLE_S * min(scale, 1))
    options: Mapping[str, str] = {"SOCKET_DEFLATE": "1"} if deflate else {}
    with tempfile.TemporaryDirectory(prefix="mc-bench-") as folder, web(Path(folder) / "web", options) as process:
        everybody = crowd.write(Path(folder) / "people", range(count))
        with swarm(process.port, crowd.write(Path(folder) / "first", range(min(WARM, count)))) as first:
            first.ask("open", at_once=AT_ONCE, deflate=deflate)
        time.sleep(settle_s)
        with swarm(process.port, everybody) as clients:
            memory, cpu_s = process.memory_bytes(), process.cpu_s()
            clients.ask("open", at_once=AT_ONCE, deflate=deflate)
            time.sleep(settle_s)
            memory, opened_s = process.memory_bytes() - memory, process.cpu_s()
            time.sleep(idle_s)
            idle_cpu_s = process.cpu_s() - opened_s
            if (there := clients.ask("state")["open"]) != count:
                raise RuntimeError(f"{name}: of {count} connections {there} are open still")
    return Idle(
        name=name,
        connections=count,
        conversations=conversations,
        kib=memory / count / 1024,
        open_cpu_ms=1000 * (opened_s - cpu_s) / count,
        idle_share=idle_cpu_s / idle_s,
        target_kib=target_kib,
    )


def _whole(number: float) -> int:
    """As many people as can be dealt into conversations of MEMBERS."""
    return max(MEMBERS, round(number / MEMBERS) * MEMBERS)


def lines(rows: Sequence[Idle]) -> list[str]:
    """Markdown."""
    usual, deflated = rows[0], rows[1]
    return [
        "## Idle connections",
        "",
        f"One web process; everybody is a user of their own, in conversations of {MEMBERS}. Memory is what the process "
        "alone has (USS), from before the first of them was opened to when all are silent; processor seconds are the "
        "process's own.",
        "",
        *as_table(
            (
                "",
                "connections",
                "conversations of each",
                "memory of each",
                "target",
                "",
                "processor to open one",
                "of one core while idle",
            ),
            [_row(row) for row in rows],
        ),
        "",
        "A connection that compresses takes "
        f"**{deflated.kib / usual.kib:.1f}** times the memory of one that does not, and "
        f"**{deflated.open_cpu_ms / usual.open_cpu_ms:.1f}** times the processor to be opened.",
    ]


def _row(row: Idle) -> list[str]:
    target = "" if row.target_kib is None else f"{row.target_kib:g} KiB"
    verdict = "" if row.target_kib is None else "met" if row.kib <= row.target_kib else "**missed**"
    return [
        row.name,
        f"{row.connections:,}",
        f"{row.conversations:,}",
        f"**{row.kib:.1f} KiB**",
        target,
        verdict,
        f"{row.open_cpu_ms:.2f} ms",
        f"{row.idle_share:.1%}",
    ]
