"""What it costs when a thousand users go and come back: for those who watch, for the process and for Valkey."""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.crowd import Room, gather
from bench.report import as_table
from bench.swarm import Swarm, Web, swarm

USERS, WATCHERS = 1_000, 20
IN_A_ROOM, ROOMS_EACH = 20, 2
GRACE_S, LEASE_S, MARGIN_S = 15, 45, 10.0
"""The first two are the product's defaults; a process asks for changes every ninth part of the lease."""
AWAY_S = 1.0
AT_ONCE = 200
SHOWN_COMMANDS = 6
ALLOWED = (0, 0, 1, 1)
"""Frames about one user that a watcher may get, by phase."""


@dataclass(frozen=True, slots=True)
class Phase:
    """`frames` are the `user_presence` frames of each watcher, `most` those that one of them got about one user."""

    name: str
    frames: Sequence[int]
    most: int
    commands: Counter[str]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Presence:
    users: int
    watchers: int
    phase_s: float
    grace_s: int
    phases: Sequence[Phase]


@dataclass(frozen=True, slots=True)
class _Scene:
    process: Web
    users: Swarm
    watchers: Swarm
    phase_s: float

    def phase(self, name: str, *deeds: str) -> Phase:
        """Does what `deeds` say, one after the other, and lasts as long as every phase."""
        self.watchers.ask("presence")
        began, commands, cpu_s = time.monotonic(), Counter(self.process.commands()), self.process.cpu_s()
        for deed in deeds:
            if deed == "cut":
                self.users.ask("cut")
                time.sleep(AWAY_S)
            else:
                self.users.ask("open", at_once=AT_ONCE)
        time.sleep(max(0.0, began + self.phase_s - time.monotonic()))
        heard = self.watchers.ask("presence")
        return Phase(
            name=name,
            frames=heard["frames"],
            most=heard["most"],
            commands=Counter(self.process.commands()) - commands - Counter(info=1),  # our own question
            cpu_s=self.process.cpu_s() - cpu_s,
        )


def options(scale: float) -> dict[str, str]:
    """Of the process that is measured."""
    lease_s = max(3, round(LEASE_S * min(scale, 1)))
    return {"PRESENCE_GRACE_SECONDS": str(_grace_s(scale)), "PRESENCE_LEASE_SECONDS": str(lease_s)}


def _grace_s(scale: float) -> int:
    return max(2, round(GRACE_S * min(scale, 1)))


def measure(process: Web, scale: float) -> Presence:
    """Everybody shares two conversations with all watchers, who look at all conversations."""
    users = max(IN_A_ROOM, round(USERS * scale / IN_A_ROOM) * IN_A_ROOM)
    watchers = range(users, users + WATCHERS)
    rooms = [
        Room([*range(first, first + IN_A_ROOM), *watchers])
        for first in range(0, users, IN_A_ROOM)
        for _ in range(ROOMS_EACH)
    ]
    crowd = gather("presence", users=users + WATCHERS, rooms=rooms, now=datetime.now(UTC))
    grace_s = _grace_s(scale)
    phase_s = grace_s + max(2.5, MARGIN_S * min(scale, 1))
    with tempfile.TemporaryDirectory(prefix="mc-bench-") as folder:
        those = crowd.write(Path(folder) / "watchers", range(users, users + WATCHERS))
        others = crowd.write(Path(folder) / "users", range(users))
        with swarm(process.port, others) as coming, swarm(process.port, those) as watching:
            coming.ask("open", at_once=AT_ONCE)
            watching.ask("open", at_once=AT_ONCE)
            watching.ask("look", conversations=list(crowd.rooms))
            time.sleep(phase_s)
            scene = _Scene(process, coming, watching, phase_s)
            phases = [
                scene.phase("nobody moves"),
                scene.phase(f"all are cut off and back {AWAY_S:g} s later", "cut", "open"),
                scene.phase("all are cut off and stay away", "cut"),
                scene.phase("all come back", "open"),
            ]
    return Presence(users, WATCHERS, phase_s, grace_s, phases)


def lines(presence: Presence) -> list[str]:
    """Markdown."""
    return [
        "## Presence",
        "",
        f"{presence.users:,} users, each in {ROOMS_EACH} conversations with all of {presence.watchers} others who look "
        f"at all conversations, on one web process; the grace is {presence.grace_s} s. Each phase lasts "
        f"{presence.phase_s:g} s. The target is one frame for each user at most, and none for who is back within the "
        "grace. Commands are Valkey's own count, those inside scripts included.",
        "",
        *as_table(
            (
                "",
                "frames of each watcher: fewest, most",
                "most about one user",
                "target",
                "",
                "Valkey commands",
                "for each user",
                "processor",
                "for each user",
            ),
            [_row(*pair, presence.users) for pair in zip(presence.phases, ALLOWED, strict=True)],
        ),
        "",
        *(f"- {phase.name}: {_spelled(phase.commands)}" for phase in presence.phases),
    ]


def _row(phase: Phase, allowed: int, users: int) -> list[str]:
    return [
        phase.name,
        f"{min(phase.frames):,}, {max(phase.frames):,}",
        f"**{phase.most}**",
        f"{allowed}",
        "met" if phase.most <= allowed else "**missed**",
        f"{phase.commands.total():,}",
        f"{phase.commands.total() / users:.2f}",
        f"{phase.cpu_s:.2f} s",
        f"{1000 * phase.cpu_s / users:.2f} ms",
    ]


def _spelled(commands: Counter[str]) -> str:
    shown = [f"{name} {calls:,}" for name, calls in commands.most_common(SHOWN_COMMANDS)]
    return ", ".join(shown) or "nothing"
