"""What one participant of a scenario did and saw: lines of JSON, written as it happens and kept when the run fails."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]
"""`at` (seconds of the wall clock, so that records can be laid side by side), `what`, and what belongs to it; see
`tests.faults.client`."""


class Recorder:
    """Appends to one file. A line is with the operating system when `note` returns, so that a run that is killed has
    left everything up to then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def note(self, what: str, **facts: Any) -> None:
        at = round(time.time(), 4)
        self._file.write(json.dumps({"at": at, "what": what, **facts}, ensure_ascii=False) + "\n")

    def seqs_of(self, conversation: str) -> list[int]:
        """Of the events of a conversation that are noted, in that order."""
        events = (entry for entry in _lines(self.path) if entry["what"] == "event")
        return [entry["seq"] for entry in events if entry["conversation"] == conversation]

    def close(self) -> None:
        self._file.close()


def read_record(path: Path) -> list[Entry]:
    return list(_lines(path))


def read_records(folder: Path) -> dict[str, Sequence[Entry]]:
    """Every record of a folder, by the name of who wrote it."""
    return {path.stem: read_record(path) for path in sorted(folder.glob("*.jsonl"))}


def _lines(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
