"""What sockets cost: idle ones, one that missed much, all at once, and those whose users others watch."""

import tempfile
import time
from pathlib import Path

from bench import machine, sockets_idle, sockets_presence, sockets_resume, sockets_storm
from bench.options import Options
from bench.swarm import web


def run(options: Options) -> None:
    """Writes `sockets.md`. Cost: about a quarter of an hour and 3 GB of memory at full scale."""
    began = time.monotonic()
    turns = min(sockets_resume.TURNS, options.repetitions)
    sections = [sockets_idle.lines(sockets_idle.measure(options.scale))]
    with (
        tempfile.TemporaryDirectory(prefix="mc-bench-") as folder,
        web(Path(folder) / "web", sockets_presence.options(options.scale)) as process,
    ):
        sections += [
            sockets_resume.lines(sockets_resume.measure(process, options.scale, turns=turns)),
            sockets_storm.lines(sockets_storm.measure(process, options.scale)),
            sockets_presence.lines(sockets_presence.measure(process, options.scale)),
        ]
    lines = ["# Sockets", "", "Made by `scripts/bench sockets`; see [how](../README.md).", ""]
    lines += [f"- {line}" for line in machine.describe()]
    lines.append(f"- The whole run took {(time.monotonic() - began) / 60:.0f} minutes")
    for section in sections:
        lines += ["", *section]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "sockets.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
