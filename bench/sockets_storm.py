"""Everybody comes back at once and resumes, while others send: what it does to their sends, and how long it lasts."""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.crowd import deal, gather
from bench.measuring import median, p99
from bench.report import as_table
from bench.swarm import Web, swarm

SEED = 20_251_030
CLIENTS, CONVERSATIONS, MEMBERS = 5_000, 20, 10
SENDERS, SENDS_PER_SECOND = 10, 100
STEADY_S, AWAY_S = 15.0, 1.0
AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Storm:
    """`back` is for each client the seconds from when all began to connect until it had resumed; the sends are seconds
    from when they were due to their acks, by the time at which they were due."""

    clients: int
    back: Sequence[float]
    attempts: int
    missed: int
    cpu_s: float
    steady_share: float
    """Of one core, what the sends alone took before."""
    before: Sequence[float]
    during: Sequence[float]
    after: Sequence[float]


def measure(process: Web, scale: float) -> Storm:
    """Raises RuntimeError if anybody lost an event, or a send failed."""
    count = max(MEMBERS, round(CLIENTS * scale / MEMBERS) * MEMBERS)
    steady_s = max(1.0, STEADY_S * min(scale, 1))
    rooms = list(deal(count, each=CONVERSATIONS, members=MEMBERS, draw=random.Random(SEED)))
    crowd = gather("storm", users=count, rooms=rooms, now=datetime.now(UTC))
    with tempfile.TemporaryDirectory(prefix="mc-bench-") as folder:
        everybody = crowd.write(Path(folder) / "people", range(count))
        some = crowd.write(Path(folder) / "senders", range(SENDERS))
        with swarm(process.port, everybody) as clients, swarm(process.port, some) as senders:
            clients.ask("open", at_once=AT_ONCE, resume=True)
            senders.ask("open", at_once=AT_ONCE)
            senders.ask("send", per_second=SENDS_PER_SECOND)
            steady_cpu_s = process.cpu_s()
            time.sleep(steady_s)
            steady_share = (process.cpu_s() - steady_cpu_s) / steady_s
            seen, cpu_s = clients.ask("state")["events"], process.cpu_s()
            cut_at = clients.ask("cut")["at"]
            time.sleep(AWAY_S)
            came = clients.ask("open", at_once=count, resume=True)
            cpu_s, missed = process.cpu_s() - cpu_s, clients.ask("state")["events"] - seen
            over_at = came["began"] + max(came["seconds"])
            time.sleep(steady_s)
            sent = senders.ask("sent")
            time.sleep(AWAY_S)  # until the last of them has reached everybody
            state = clients.ask("state")
    if sent["failed"] or state["gaps"] or state["incomplete"] or state["open"] != count:
        raise RuntimeError(f"the storm lost something: {sent['failed']} sends; of {count} clients {state}")
    return Storm(
        clients=count,
        back=came["seconds"],
        attempts=came["attempts"],
        missed=missed,
        cpu_s=cpu_s,
        steady_share=steady_share,
        before=[took_s for due, took_s in sent["sends"] if due < cut_at],
        during=[took_s for due, took_s in sent["sends"] if cut_at <= due < over_at],
        after=[took_s for due, took_s in sent["sends"] if due >= over_at],
    )


def lines(storm: Storm) -> list[str]:
    """Markdown."""
    phases = {"before": storm.before, "during": storm.during, "after": storm.after}
    return [
        "## A storm of reconnects",
        "",
        f"{storm.clients:,} clients in {CONVERSATIONS} conversations of {MEMBERS} each are cut off from one web "
        f"process and {AWAY_S:g} s later connect again all at once, without any spread, authenticate and resume; "
        f"{SENDERS} others send {SENDS_PER_SECOND} messages a second through the same process, before, meanwhile and "
        "afterwards. A send takes from the moment at which it is due to its ack. Nobody lost anything: every client "
        "saw each of its conversations without a gap.",
        "",
        *as_table(
            ("sends", "", "p50", "p99", "slowest", "p99 to before"),
            [
                [
                    name,
                    f"{len(taken):,}",
                    f"{1000 * median(taken):.1f} ms",
                    f"{1000 * p99(taken):.1f} ms",
                    f"{1000 * max(taken):.1f} ms",
                    f"**{p99(taken) / p99(storm.before):.1f}**",
                ]
                for name, taken in phases.items()
            ],
        ),
        "",
        f"Everybody had resumed **{max(storm.back):.1f} s** after the beginning (half of them after "
        f"{median(storm.back):.1f} s), with {storm.attempts:,} attempts to connect, {storm.missed:,} events and "
        f"{1000 * storm.cpu_s / storm.clients:.1f} ms of the process's processor time for each client, its cutting off "
        f"and the sends included, which take {storm.steady_share:.0%} of a core while nobody comes or goes.",
    ]
