"""What an answer shows of a message's text: the stretch around the first match, with all matches in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from messaging.search.words import Wanted, find_all, is_extending, searched

SNIPPET = 160
"""Characters of a snippet; some more where a match or a character that is made of several needs them."""
MAX_SNIPPET = 320
"""A match that goes on beyond that is cut there: 哈 in a message of nothing else is one match, as long as all of it."""
BEFORE = 40
"""Of them before the first match."""
_MAX_CLUSTER = 32
_ZERO_WIDTH_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class Highlight:
    """A field's text around its first match, and the matches in it as (start, length) in code points."""

    field: str
    text: str
    ranges: tuple[tuple[int, int], ...]


def highlights(wanted: Wanted, content: Mapping[str, Any]) -> list[Highlight] | None:
    """One for each field that has a match; None if the content does not hold everything that is wanted."""
    texts = searched(content)
    places = find_all(wanted, texts)
    if places is None:
        return None
    return [_highlight(field, texts[field], places[field]) for field in texts if field in places]


def _highlight(field: str, text: str, matches: list[tuple[int, int]]) -> Highlight:
    first_start, first_end = matches[0]
    start = _whole_before(text, max(0, first_start - BEFORE))
    end = _whole_after(text, min(max(start + SNIPPET, first_end), start + MAX_SNIPPET))
    inside = tuple((at - start, min(to, end) - at) for at, to in matches if at < end)
    return Highlight(field, text[start:end], inside)


def _whole_before(text: str, cut: int) -> int:
    """The nearest place at or before `cut` where no character is cut in two."""
    for place in range(cut, max(0, cut - _MAX_CLUSTER), -1):
        if not _is_joined(text, place):
            return place
    return max(0, cut - _MAX_CLUSTER)


def _whole_after(text: str, cut: int) -> int:
    for place in range(cut, min(len(text), cut + _MAX_CLUSTER)):
        if not _is_joined(text, place):
            return place
    return min(len(text), cut + _MAX_CLUSTER)


def _is_joined(text: str, place: int) -> bool:
    """Whether what is before and what is behind `place` are one character to a reader."""
    if not 0 < place < len(text):
        return False
    before, behind = text[place - 1], text[place]
    return (
        is_extending(behind)
        or _ZERO_WIDTH_JOINER in (before, behind)
        or "\U0001f3fb" <= behind <= "\U0001f3ff"  # the colour of a skin
        or (_is_regional(before) and _is_regional(behind))  # a flag; several are kept together
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
