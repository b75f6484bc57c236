"""Cursors: opaque, exact, and never a reason to fall over."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messagecore.kernel import wire
from messagecore.kernel.api.paging import InvalidCursor, decode_cursor, encode_cursor, page_of
from messagecore.kernel.ids import new_id

PARSERS = (wire.parse_timestamp, UUID)


def test_what_is_encoded_is_decoded() -> None:
    at, row_id = datetime(2026, 1, 1, 0, 0, 0, 123_456, UTC), new_id()
    cursor = encode_cursor([at.isoformat(), str(row_id)])
    assert decode_cursor(cursor, *PARSERS) == [at, row_id]
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# ")


@given(st.text(max_size=60))
def test_garbage_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(text, *PARSERS)


json_values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)


@given(st.lists(json_values | st.lists(json_values, max_size=2), max_size=4))
def test_a_well_made_cursor_with_other_things_in_it_is_refused(values: list[object]) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(values), *PARSERS)


@pytest.mark.parametrize(
    "values", [["0001-01-01T00:00:00+23:59", str(UUID(int=1))], ["2026-01-01T00:00:00Z", 5], [None, None], [{}, []]]
)
def test_values_at_the_edge_are_refused(values: list[object]) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(values), *PARSERS)


@pytest.mark.parametrize(
    ("fetched", "shown", "more"), [(0, 0, False), (1, 1, False), (3, 3, False), (4, 3, True), (9, 3, True)]
)
def test_a_page_shows_its_limit_and_says_whether_more_follow(fetched: int, shown: int, more: bool) -> None:
    page = page_of(list(range(fetched)), limit=3, key=lambda row: [row], render=str)
    assert page.data == [str(row) for row in range(shown)]
    assert page.pagination == {"nextCursor": encode_cursor([2]) if more else None, "hasMore": more}
