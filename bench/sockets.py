"""What sockets cost: idle ones, one that missed much, all at once, and those whose users others watch."""

import time

from bench import machine, sockets_idle, sockets_presence, sockets_resume, sockets_storm
from bench.options import Options


def run(options: Options) -> None:
    """Writes `sockets.md`. Cost: about ten minutes and 2 GB of memory at full scale."""
    began = time.monotonic()
    turns = min(sockets_resume.TURNS, options.repetitions)
    sections = [
        sockets_idle.lines(sockets_idle.measure(options.scale)),
        sockets_resume.lines(sockets_resume.measure(options.scale, turns=turns)),
        sockets_storm.lines(sockets_storm.measure(options.scale)),
        sockets_presence.lines(sockets_presence.measure(options.scale)),
    ]
    lines = ["# Sockets", "", "Made by `scripts/bench sockets`; see [how](../README.md).", ""]
    lines += [f"- {line}" for line in machine.describe()]
    lines.append(f"- The whole run took {(time.monotonic() - began) / 60:.0f} minutes")
    for section in sections:
        lines += ["", *section]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "sockets.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
