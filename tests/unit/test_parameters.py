"""Query parameters, one kind after another."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messagecore.kernel.api.operations import Param

INTEGER = Param("n", "integer", minimum=-5, maximum=2**53)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-5", -5), ("007", 7), (str(2**53), 2**53), ("-0", 0)])
def test_whole_numbers(text: str, value: int) -> None:
    assert INTEGER.parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "-", "--1", "+1", "1.0", "1e3", "0x1", "1_0", " 1", "1 ", "١", "²", "-6", str(2**53 + 1), "9" * 5000, "1\0"],
)
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        INTEGER.parse(text)


@given(st.text(st.characters(exclude_characters="0123456789"), max_size=30))
def test_a_refused_number_is_refused_in_our_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        INTEGER.parse(text)


def test_the_other_kinds() -> None:
    found: list[Any] = [
        Param("b", "boolean").parse("true"),
        Param("b", "boolean").parse("false"),
        Param("t", "timestamp").parse("2026-01-01T08:00:00+08:00"),
        Param("s").parse("x" * 255),
        Param("c", choices=("a", "b")).parse("b"),
    ]
    assert found == [True, False, datetime(2026, 1, 1, tzinfo=UTC), "x" * 255, "b"]


@pytest.mark.parametrize(
    ("param", "text"),
    [
        (Param("b", "boolean"), "True"),
        (Param("b", "boolean"), "1"),
        (Param("b", "boolean"), ""),
        (Param("t", "timestamp"), "yesterday"),
        (Param("s"), ""),
        (Param("s"), "x" * 256),
        (Param("s"), "a\0"),
        (Param("c", choices=("a", "b")), "c"),
    ],
)
def test_the_other_kinds_refuse(param: Param, text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        param.parse(text)
