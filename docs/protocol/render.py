"""Renders the tables of this folder's README.md from the catalogue: `python docs/protocol/render.py` rewrites them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE / "README.md"


def _index(file: str, key: str) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((HERE / file).read_text(encoding="utf-8"))[key]
    return index


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    # A bar inside a cell would start another cell.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def errors() -> str:
    return _table(
        ("code", "status", "retry", "meaning"),
        (
            (f"`{code}`", str(error["status"]), "yes" if error["retryable"] else "no", error["description"])
            for code, error in _index("errors.json", "x-errors").items()
        ),
    )


def close_codes() -> str:
    return _table(
        ("code", "name", "reconnect", "meaning"),
        (
            (code, f"`{close['name']}`", "yes" if close["reconnect"] else "no", close["description"])
            for code, close in _index("errors.json", "x-close-codes").items()
        ),
    )


def commands() -> str:
    return _table(
        ("command", "data", "event without an id", "data of the ack", "meaning"),
        (
            (
                f"`{name}`",
                f"`{command['schema']}`",
                f"`{command['event']}`" if command["event"] else "none",
                f"`{command['ack']}`",
                command["description"],
            )
            for name, command in _index("commands.json", "x-commands").items()
        ),
    )


def events() -> str:
    durability = {True: "yes", False: "no", "resume": "found again at resume"}
    return _table(
        ("event", "data", "durable", "meaning"),
        (
            (f"`{name}`", f"`{event['schema']}`", durability[event["durable"]], event["description"])
            for name, event in _index("events.json", "x-events").items()
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "errors": errors,
    "close-codes": close_codes,
    "commands": commands,
    "events": events,
}


def render(text: str) -> str:
    """Return `text` with what stands between each table's begin and end marks replaced.

    Raises ValueError when a mark is missing, so that no table can fall out of the page unseen.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"README.md lacks the marks of the table {name}")
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8")
