"""Log lines as people read them: our processes log JSON, one object a line, which no terminal does justice."""

import json
from collections.abc import Iterable

_WIDTH = 200


def for_people(lines: Iterable[str]) -> list[str]:
    """Each JSON line as its level and message, with the last line of its traceback behind it; others as they are."""
    return [_plain(line)[:_WIDTH] for line in lines]


def _plain(line: str) -> str:
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict) or "message" not in record:
        return line
    text = f"{record.get('level', '')} {record['message']}".strip()
    cause = str(record.get("exc_info") or "").strip().splitlines()
    return f"{text}: {cause[-1]}" if cause else text
