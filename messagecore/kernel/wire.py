"""JSON and times as they cross the wire."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from messagecore.kernel.errors import InvalidJson, InvalidText

MAX_DEPTH = 64
"""Objects and arrays nested deeper than this are refused, wherever they come from."""


def dumps(value: Any) -> bytes:
    """UTF-8 JSON. UUIDs as strings; datetimes must be formatted before (see `timestamp`)."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # What a client sent as 5.6e+290 comes back from the database as a whole number of 291 digits.
        return orjson.dumps(_with_large_numbers_as_floats(value))


def _with_large_numbers_as_floats(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if isinstance(value, Mapping):
        return {key: _with_large_numbers_as_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_large_numbers_as_floats(item) for item in value]
    return value


def loads(raw: bytes | str) -> Any:
    """Parses what a client sent.

    Raises InvalidJson for what is not JSON (lone surrogates and bytes that are not UTF-8 included) or nests deeper
    than MAX_DEPTH, and InvalidText for a NUL character, which PostgreSQL cannot store. Cost: linear; the walk over
    the parsed value happens only where the text gives a reason for it.
    """
    try:
        value = orjson.loads(raw)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        # The parser's own message quotes no content, only what and where.
        raise InvalidJson(f"Not valid JSON: {error}.") from None
    if isinstance(raw, str):
        has_nul, brackets = "\\u0000" in raw, raw.count("[") + raw.count("{")
    else:
        has_nul, brackets = b"\\u0000" in raw, raw.count(b"[") + raw.count(b"{")
    if has_nul or brackets > MAX_DEPTH:
        _check(value)
    return value


def _check(root: Any) -> None:
    level = [root]
    depth = 0
    while level:
        depth += 1
        deeper: list[Any] = []
        for value in level:
            if depth > MAX_DEPTH and isinstance(value, dict | list):
                raise InvalidJson(f"Nested deeper than {MAX_DEPTH} levels.")
            if isinstance(value, str):
                if "\0" in value:
                    raise InvalidText
            elif isinstance(value, dict):
                if any("\0" in key for key in value):
                    raise InvalidText
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
        level = deeper


@lru_cache(4096)
def id_text(id_: UUID) -> str:
    """As `str`. Remembered, for ids that many objects on a page have in common."""
    return str(id_)


@lru_cache(1024)
def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`. Remembered: most messages have one time three times, and writing times
    was a seventh of reading a log."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    # Not strftime: it writes the year 1 as `1`. The last six characters are `+00:00`.
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


def optional_timestamp(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_timestamp(text: str) -> datetime:
    """An aware datetime from RFC 3339 text. Raises ValueError for anything else, for ISO 8601's other forms and for
    times outside the years 1 to 9999 in UTC too."""
    if not _RFC_3339.fullmatch(text):
        raise ValueError("not a time as RFC 3339 writes it")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999 in UTC") from error
