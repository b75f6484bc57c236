"""JSON and times as they cross the wire."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messagecore.kernel import wire
from messagecore.kernel.errors import InvalidJson, InvalidText

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=30,
)


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


@given(JSON)
def test_what_is_written_is_read(value: object) -> None:
    assert wire.loads(wire.dumps(value)) == value
    assert wire.loads(json.dumps(value)) == value


@given(st.one_of(st.floats(2**64, 1.7e308), st.floats(-1.7e308, -(2.0**63) * 1.001)))
def test_whole_numbers_of_any_size_are_written_as_the_numbers_that_they_are(number: float) -> None:
    """PostgreSQL gives them back with all their digits."""
    assert wire.loads(wire.dumps({"a": [int(number)], "b": (int(number),)})) == {"a": [number], "b": [number]}


def test_what_is_no_json_is_not_written() -> None:
    with pytest.raises(TypeError):
        wire.dumps({"a": object()})


def test_uuids_are_written_as_text() -> None:
    assert wire.dumps({"id": UUID(int=1)}) == b'{"id":"00000000-0000-0000-0000-000000000001"}'


@pytest.mark.parametrize("as_bytes", [True, False])
def test_depth_is_bounded_exactly(as_bytes: bool) -> None:
    def loads(text: str) -> object:
        return wire.loads(text.encode() if as_bytes else text)

    assert loads(nested(wire.MAX_DEPTH)) is not None
    assert (
        loads(nested(wire.MAX_DEPTH - 1, '{"a":[', "]}").replace("{", "{", 1)[:0] + nested(wire.MAX_DEPTH)) is not None
    )
    for text in (nested(wire.MAX_DEPTH + 1), '{"a":' * 65 + "1" + "}" * 65, "[" * 100_000 + "]" * 100_000):
        with pytest.raises(InvalidJson):
            loads(text)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(wire.loads("[" + ",".join(["[]"] * 500) + "]")) == 500
    assert wire.loads(json.dumps({"text": "[" * 500})) == {"text": "[" * 500}


@pytest.mark.parametrize(
    "text",
    ['"\\u0000"', '["a", {"b": "x\\u0000"}]', '{"a\\u0000": 1}', nested(30)[:30] + '"\\u0000"' + nested(30)[30:]],
)
def test_nul_is_refused_wherever_it_is(text: str) -> None:
    for raw in (text, text.encode()):
        with pytest.raises(InvalidText):
            wire.loads(raw)


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    assert wire.loads(r'"\\u0000"') == r"\u0000"


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"{", b"nul", b"NaN", b"Infinity", b"1e999", b"'a'", b"{a: 1}", b"[1,]", b"\xff", b'"\xed\xa0\x80"',
     b'"\\ud800"', b'"\\udc00"', b'"\\ud83d\\u0041"', b'"\x01"', b"01", b"\xef\xbb\xbf{}", b"{}{}"],
)  # fmt: skip
def test_what_is_not_json_is_refused_without_quoting_it(raw: bytes) -> None:
    with pytest.raises(InvalidJson) as refused:
        wire.loads(raw)
    assert refused.value.status == 400


def test_a_lone_surrogate_in_a_text_is_refused() -> None:
    with pytest.raises(InvalidJson):
        wire.loads('"\ud800"')


@given(st.binary(max_size=200))
def test_noise_never_fails_otherwise(raw: bytes) -> None:
    with contextlib.suppress(InvalidJson, InvalidText):
        wire.dumps(wire.loads(raw))


# --- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 1, 31, 8, 0, 0, 120_999, UTC), "2026-01-31T08:00:00.120Z"),
        (datetime(2026, 1, 31, 8, 0, tzinfo=timezone(timedelta(hours=8))), "2026-01-31T00:00:00.000Z"),
        (datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC), "2026-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_written_in_utc_with_milliseconds(at: datetime, text: str) -> None:
    assert wire.timestamp(at) == text
    assert wire.optional_timestamp(at) == text
    assert wire.optional_timestamp(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T08:00:00Z",
        "2026-01-31t08:00:00z",
        "2026-01-31T08:00:00.000Z",
        "2026-01-31T08:00:00.000000000Z",
        "2026-01-31T16:00:00+08:00",
        "2026-01-31T02:30:00.0-05:30",
        "2026-01-31T08:00:00-00:00",
    ],
)
def test_any_rfc_3339_time_is_read(text: str) -> None:
    assert wire.parse_timestamp(text) == datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-01-31", "2026-01-31 08:00:00Z", "2026-01-31T08:00:00", "2026-01-31T08:00Z", "20260131T080000Z",
        "2026-W05-6T08:00:00Z", "2026-02-30T08:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T08:60:00Z",
        "2026-01-31T08:00:60Z", "2026-01-31T08:00:00+24:00", "2026-01-31T08:00:00+0800", "2026-01-31T08:00:00,5Z",
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "２０２６-01-31T08:00:00Z",
        "2026-01-31T08:00:00Z\n", " 2026-01-31T08:00:00Z", "2026-01-31T08:00:00.Z", "+2026-01-31T08:00:00Z",
    ],
)  # fmt: skip
def test_nothing_else_is_a_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|range|years|hour|minute|second|day|month|isoformat"):
        wire.parse_timestamp(text)


@given(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - Hypothesis wants it naive
def test_what_is_written_is_read_to_the_millisecond(at: datetime) -> None:
    assert wire.parse_timestamp(wire.timestamp(at)) == at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert wire.parse_timestamp(at.isoformat()) == at


@given(st.text(max_size=40))
def test_reading_a_time_fails_in_one_way(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert wire.parse_timestamp(text).tzinfo is UTC


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_of_every_year_are_written_as_they_are_read(at: datetime) -> None:
    written = wire.timestamp(at)
    assert len(written) == len("2026-01-31T08:00:00.000Z")
    assert wire.parse_timestamp(written) == at.replace(microsecond=at.microsecond // 1000 * 1000)
