"""Text taken apart into what search finds: words, and runs of scripts that put no spaces between words.

A *word* is a stretch of letters and digits of any script; it is found whole. A *run* is a stretch of Han, kana, Hangul,
Thai, Lao, Khmer or Myanmar, where a reader looks for any part: every stretch of it is found. Upper and lower case and
the compatibility forms of a character (full and half width, ligatures) are one (NFKC, casefold). Characters that are
not seen (soft hyphens, joiners, variation selectors) are left out.

Everything is done character cluster by character cluster, which keeps track of where in the original each came from.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

MAX_TEXT = 20_000
"""Characters of a message that are looked at, its fields one after the other."""
MAX_WORD = 64
"""Characters of a word that count: longer ones are the same if they begin the same."""
MAX_CLUSTER = 32
"""Characters that compose with each other, at most. No script needs as many, and to normalise more takes the square of
their number: a second for the marks that one message can hold."""
FIELDS = ("text", "caption", "name", "title", "address")
"""The fields of a message's content that are searched."""

# Scripts without spaces between words, and Hangul, whose words carry particles that nobody searches for.
RUN_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul Jamo
    (0x1780, 0x17FF),  # Khmer
    (0x19E0, 0x19FF),  # Khmer symbols
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),  # 々〆〇
    (0x3021, 0x312F),  # numerals, kana, Bopomofo
    (0x3130, 0x31FF),  # Hangul compatibility, Bopomofo and kana extensions
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),  # Hangul Jamo extended
    (0xA9E0, 0xA9FF),  # Myanmar extended
    (0xAA60, 0xAA7F),
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),  # kana supplements
    (0x20000, 0x323AF),  # Han extensions
)
_RUN_STARTS = [first for first, _ in RUN_RANGES]

# Half-width voiced sound marks are letters to Unicode, and half-width Hangul composes like Jamo does.
_EXTENDING = frozenset(
    map(chr, [*range(0x1160, 0x1200), *range(0xD7B0, 0xD800), 0xFF9E, 0xFF9F, *range(0xFFA0, 0xFFDD)])
)


class Kind(Enum):
    WORD = "word"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a run: its folded characters, and for each the code points of the original that it came from, as
    (start, end)."""

    kind: Kind
    characters: str
    spans: Sequence[tuple[int, int]]

    @property
    def word(self) -> str:
        return self.characters[:MAX_WORD]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a query asks for, each once, in the query's order: all of it has to occur."""

    words: tuple[str, ...]
    runs: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.words or self.runs)


def searched(content: Mapping[str, Any]) -> dict[str, str]:
    """The text of a message's content by field, MAX_TEXT characters in all. Fields may hold anything: what is not text
    is not searched."""
    found: dict[str, str] = {}
    left = MAX_TEXT
    for field in FIELDS:
        text = content.get(field)
        if isinstance(text, str) and text and left:
            found[field] = text[:left]
            left -= len(found[field])
    return found


def tokens(text: str) -> Iterator[Token]:
    """The words and runs of a text, in order. Cost: linear, about 1 µs a character."""
    kind: Kind | None = None
    characters: list[str] = []
    spans: list[tuple[int, int]] = []
    for start, end in _clusters(text):
        for character, own in _folded(text[start:end]):
            if own is _UNSEEN:
                continue
            # A mark belongs to what it stands on.
            belongs = kind if own is _MARK else own
            if belongs is not kind:
                if kind is not None and characters:
                    yield Token(kind, "".join(characters), tuple(spans))
                kind, characters, spans = belongs, [], []
            if kind is not None:
                characters.append(character)
                spans.append((start, end))
    if kind is not None and characters:
        yield Token(kind, "".join(characters), tuple(spans))


def wanted(query: str) -> Wanted:
    """What a query asks for; false if nothing in it can be searched for."""
    found = list(tokens(query))
    words = dict.fromkeys(token.word for token in found if token.kind is Kind.WORD)
    runs = dict.fromkeys(token.characters for token in found if token.kind is Kind.RUN)
    return Wanted(tuple(words), tuple(runs))


def find_all(query: Wanted, texts: Mapping[str, str]) -> dict[str, list[tuple[int, int]]] | None:
    """Where a message's texts say what the query asks for: by field, the stretches (start, end) in code points, in
    order, apart from each other. None if any of it occurs nowhere. Fields where nothing is are left out."""
    missing = {*query.words, *query.runs}
    places: dict[str, list[tuple[int, int]]] = {}
    words = frozenset(query.words)
    for field, text in texts.items():
        stretches: list[tuple[int, int]] = []
        for token in tokens(text):
            if token.kind is Kind.WORD:
                if token.word in words:
                    missing.discard(token.word)
                    stretches.append((token.spans[0][0], token.spans[-1][1]))
                continue
            for run in query.runs:
                at = token.characters.find(run)
                if at >= 0:
                    missing.discard(run)
                while at >= 0:
                    stretches.append((token.spans[at][0], token.spans[at + len(run) - 1][1]))
                    at = token.characters.find(run, at + 1)
        if stretches:
            places[field] = _joined(sorted(stretches))
    return None if missing else places


def _joined(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined = [stretches[0]]
    for start, end in stretches[1:]:
        if start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def is_extending(character: str) -> bool:
    """Whether a character belongs to the one before it, so that no text may begin with it."""
    return character in _EXTENDING or unicodedata.category(character) in {"Mn", "Mc", "Me"}


# --- characters -----------------------------------------------------------------------------------------------------

_Unseen = Enum("_Unseen", ["UNSEEN"])
_UNSEEN = _Unseen.UNSEEN
_Mark = Enum("_Mark", ["MARK"])
_MARK = _Mark.MARK


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """A character and what composes with it, as (start, end), MAX_CLUSTER at most."""
    start = 0
    for place in range(1, len(text)):
        # Nothing before U+0300 extends.
        if text[place] < "\u0300" or place - start == MAX_CLUSTER or not _extends(text[place]):
            yield start, place
            start = place
    if text:
        yield start, len(text)


@lru_cache(maxsize=8192)
def _extends(character: str) -> bool:
    return is_extending(character)


@lru_cache(maxsize=8192)
def _folded(cluster: str) -> tuple[tuple[str, Kind | _Unseen | _Mark | None], ...]:
    """The characters that a cluster counts as, each with what it is part of; None: it parts words."""
    # Folding the case can take a form apart again, so twice; see Unicode's toNFKC_Casefold.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold())
    return tuple((character, _kind(character)) for character in text)


def _kind(character: str) -> "Kind | _Unseen | _Mark | None":
    category = unicodedata.category(character)
    if category == "Cf" or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return _UNSEEN
    if category[0] not in "LMN":
        return None
    point = ord(character)
    place = bisect_right(_RUN_STARTS, point) - 1
    if place >= 0 and point <= RUN_RANGES[place][1]:
        return Kind.RUN
    return _MARK if category[0] == "M" else Kind.WORD
