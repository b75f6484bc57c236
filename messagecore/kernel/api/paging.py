"""Keyset cursors: opaque to clients, a JSON list of the last row's sort values inside."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson
from django.db.models import Q

from messagecore.kernel import wire
from messagecore.kernel.errors import Refusal

Row = TypeVar("Row")


class InvalidCursor(Refusal):
    code = "invalid_cursor"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, already rendered."""

    data: list[Any]
    next_cursor: str | None
    details: Mapping[str, Any] = field(default_factory=dict)
    """What its `pagination` says besides, or instead, where the operation names a definition of its own."""

    @property
    def pagination(self) -> dict[str, Any]:
        return {"nextCursor": self.next_cursor, "hasMore": self.next_cursor is not None, **self.details}


def encode_cursor(values: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(values))).rstrip(b"=").decode()


def decode_cursor(text: str, *parsers: Callable[[Any], Any]) -> list[Any]:
    """The values that `encode_cursor` was given, each through its parser. Raises InvalidCursor."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        values = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(parsers):
            raise InvalidCursor
        return [parse(value) for parse, value in zip(parsers, values, strict=True)]
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise InvalidCursor from None


def time_and_id(cursor: str | None) -> tuple[datetime, UUID] | None:
    """The position of a list ordered by a time and then an id; None at its beginning. Raises InvalidCursor."""
    if cursor is None:
        return None
    at, row_id = decode_cursor(cursor, wire.parse_timestamp, UUID)
    return at, row_id


def behind(order: tuple[str, str], position: tuple[Any, Any]) -> Q:
    """The rows behind a position in the order of two columns, named as `order_by` takes them: both with a minus for
    descending, or neither. The second is unique among rows that are equal in the first."""
    way = "lt" if order[0].startswith("-") else "gt"
    (first, second), (at, tie) = (name.removeprefix("-") for name in order), position
    return Q(**{f"{first}__{way}": at}) | Q(**{first: at, f"{second}__{way}": tie})


def page_of(
    rows: Sequence[Row], *, limit: int, key: Callable[[Row], Sequence[Any]], render: Callable[[Row], Any]
) -> Page:
    """A page from up to `limit + 1` fetched rows: the extra one only says that there are more."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page([render(row) for row in shown], encode_cursor(key(shown[-1])) if more and shown else None)
