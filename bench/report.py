"""Results as they are recorded: a page of figures and a page of plans."""

import re
from collections.abc import Mapping, Sequence

from bench.imports import CHUNK_LINES, Imported
from bench.measuring import Statement, Times, median, p95
from bench.shape import BUSY_MEMBERS, MEMBERS, Shape

_HEAD = """# Messaging

Made by `scripts/bench messaging`; see [how](../README.md).

"""

_LONG_LIST = re.compile(r"'\{([^{},']+),([^{}']{200,})\}'")

_COLUMNS = (
    "request",
    "small: median, p95",
    "large: median, p95",
    "ratio",
    "target",
    "",
    "database: small",
    "large",
    "ratio",
    "statements",
)


def figures(
    *,
    about: Sequence[str],
    shapes: Sequence[Shape],
    rows: Sequence[tuple[str, float, Times, Times]],
    repetitions: int,
    loaded_s: float,
    imported: Imported,
) -> str:
    """Markdown."""
    lines = [*(f"- {line}" for line in about), "", *_tenants(shapes), ""]
    lines += [
        f"Milliseconds, of {repetitions} repetitions each; the tenants by turns. The whole request by Django's test "
        "client, in process, from middleware to rendered bytes; the database's part is its statements, each from being "
        "handed to the driver until its rows are there.",
        "",
        *as_table(_COLUMNS, [_row(*row) for row in rows]),
        "",
        f"Loading the large tenant took {loaded_s:.0f} s.",
        "",
        "## Import",
        "",
        f"{imported.lines:,} lines of messages through `messaging.services.imports.take_chunk`, {CHUNK_LINES:,} in a "
        f"chunk and transaction: **{imported.lines_per_second:,.0f} lines a second** ({imported.first:,.0f} in the "
        f"first tenth, {imported.last:,.0f} in the last).",
    ]
    return _HEAD + "\n".join(lines) + "\n"


def _tenants(shapes: Sequence[Shape]) -> list[str]:
    columns = ("tenant", "messages", "in the largest conversation", "members of the crowd, messages there")
    more = ("conversations", "the reader's conversations")
    rows = [
        [
            shape.name,
            f"{shape.messages:,}",
            f"{shape.busiest:,} ({BUSY_MEMBERS} members)",
            f"{shape.users:,}, {shape.crowds:,}",
            f"{shape.conversations:,} (others of {MEMBERS} members)",
            f"{shape.readers:,}",
        ]
        for shape in shapes
    ]
    return as_table((*columns, *more), rows)


def _row(name: str, target: float, small: Times, big: Times) -> list[str]:
    ratio = median(big.whole) / median(small.whole)
    return [
        name,
        f"{median(small.whole):.2f}, {p95(small.whole):.2f}",
        f"{median(big.whole):.2f}, {p95(big.whole):.2f}",
        f"**{ratio:.2f}**",
        f"{target:g}",
        "met" if ratio <= target else "**missed**",
        f"{median(small.database):.2f}",
        f"{median(big.database):.2f}",
        f"{median(big.database) / median(small.database):.2f}",
        f"{small.statements}, {big.statements}",
    ]


def as_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def plans(shape: Shape, found: Mapping[str, Sequence[tuple[Statement, str]]]) -> str:
    """Plain text: under each request its statements, each with its plan, of whose long lists the first is shown."""
    parts = [f"EXPLAIN (ANALYZE, BUFFERS) of every statement, on the tenant of {shape.messages:,} messages."]
    for name, statements in found.items():
        parts.append(f"{'=' * 120}\n{name}\n{'=' * 120}")
        for number, (statement, plan) in enumerate(statements, 1):
            shown = _LONG_LIST.sub(lambda found: f"'{{{found[1]}, and {found[2].count(',') + 1} more}}'", plan)
            parts.append(f"-- {number} of {len(statements)}\n{statement.sql.strip()}\n\n{shown}")
    return "\n\n".join(parts) + "\n"
