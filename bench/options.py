"""What the command line says to a workload."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """`scale` is the part of the full size that is loaded, `repetitions` how often each request is measured, `output`
    the folder that the results go to."""

    scale: float
    repetitions: int
    output: Path
