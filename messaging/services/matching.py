"""What of a text a tenant's filters match: words and regular expressions made ready, and the verdict on a message.

Words are compared unit by unit. A *unit* is a word (a stretch of letters and digits), one character of a script that
puts no spaces between words, or one sign; white space parts units and counts for nothing else. So a pattern matches
whole words where there are words and any part where there are none, and a phrase matches however it is spaced. Case
and compatibility forms are one, and characters that are not seen are passed over, as in search (messaging/search).

Regular expressions see the text as it is. They are RE2's, whose search is linear in the text and in the expression's
size, which is bounded; how many searches one message is worth is bounded by BUDGET_S.
"""

import re
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

import re2

from messaging.search.words import RUN_RANGES, is_extending

FIELDS = ("text", "caption")
"""The fields of a message's content that are looked at."""

MAX_EXPRESSION_BYTES = 512 * 1024
"""What RE2 may use for one expression: its program (about 5,000 instructions) and the states of its automaton."""

BUDGET_S = 0.5
"""Seconds of processor time for the expressions of a tenant, for one message."""

MASK = "*"


class InvalidExpression(ValueError):
    """What is no expression in RE2's language, or one too large, or one that nothing has to be there for."""


class Action(IntEnum):
    """What becomes of a message, the stricter the greater."""

    PASS = 0
    MASK = 1
    HOLD = 2
    REJECT = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`filter_id`: the filter that decided, None where none did, or where the check took too long. `content`: what
    passes, masked where that is the action."""

    action: Action
    content: dict[str, Any]
    filter_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One filter: its words, or its expressions."""

    filter_id: UUID
    action: Action
    words: Sequence[str] = ()
    expressions: Sequence[str] = ()


# --- words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folded:
    """A text as it is compared. `origins`: for each of its characters the code points of the original, as (start,
    end), that it came from; None: each from the one in its place."""

    text: str
    origins: Sequence[tuple[int, int]] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        if self.origins is None:
            return start, end
        return self.origins[start][0], self.origins[end - 1][1]


MAX_CLUSTER = 32
"""A character and what stands on it, as far as it is looked at as one: more is no writing, and to put many marks into
their order takes the square of their number."""


# The planes that hold marks, and what is not seen. A class that reaches beyond the first is slow for every text.
_PLANE = range(0x300, 0xFFFF)
_BEYOND = (*range(0x10000, 0x1F000), *range(0xE0000, 0xE0200))


def _class(points: Iterable[int], of: Callable[[str], bool]) -> str:
    """A class of characters, as it stands between brackets."""
    found = [point for point in points if of(chr(point))]
    known = set(found)
    starts = (point for point in found if point - 1 not in known)
    ends = (point for point in found if point + 1 not in known)
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


def _is_unseen(character: str) -> bool:
    """Joiners, direction signs, tags, variation selectors."""
    return (
        unicodedata.category(character) == "Cf"
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


@dataclass(frozen=True, slots=True)
class _Characters:
    """What is looked for in texts that are not ASCII."""

    unit: re.Pattern[str]
    cluster: re.Pattern[str]
    lone: re.Pattern[str]
    lone_beyond: re.Pattern[str]
    too_many: re.Pattern[str]
    unseen: re.Pattern[str]


@cache
def _characters() -> _Characters:
    """Made for the first such text: it takes a tenth of a second to go through the planes. No start waits for that."""
    marks = _class((*_PLANE, *_BEYOND), _is_mark)
    near, beyond = _class(_PLANE, is_extending), _class(_BEYOND, is_extending)
    extending = near + beyond
    return _Characters(
        unit=re.compile(rf"{_WORD}(?:{_WORD}|[{marks}])*|[^\s\x00-\x1f\x7f-\x9f{marks}][{marks}]*|[{marks}]+"),
        cluster=re.compile(rf"[^{extending}][{extending}]{{0,{MAX_CLUSTER - 1}}}|[{extending}]{{1,{MAX_CLUSTER}}}"),
        lone=re.compile(rf"[{near}]"),
        lone_beyond=re.compile(rf"[{beyond}]"),
        too_many=re.compile(rf"[{extending}]{{{MAX_CLUSTER}}}"),
        unseen=re.compile(rf"[\xad{_class((*_PLANE, *_BEYOND), _is_unseen)}]"),
    )


_RUNS = "".join(f"{chr(first)}-{chr(last)}" for first, last in RUN_RANGES)
_WORD = rf"[^\W_{_RUNS}]"
_PLAIN_UNIT = re.compile(r"[a-z0-9]+|[^a-z0-9\s\x00-\x1f\x7f]")
_BARE_UNIT = re.compile(rf"{_WORD}+|[^\s\x00-\x1f\x7f-\x9f]")


def _has_marks(text: str) -> bool:
    known = _characters()
    return known.lone.search(text) is not None or (max(text) > "\uffff" and known.lone_beyond.search(text) is not None)


def _fold(text: str) -> _Folded:
    """One case and one form for all (NFKC), and nothing that is not seen. Linear: next to nothing where each character
    stays in its place, about 0.5 µs a character where not."""
    if text.isascii():
        return _Folded(text.lower(), None)
    known = _characters()
    is_sane = not known.unseen.search(text) and not (_has_marks(text) and known.too_many.search(text))
    if is_sane and unicodedata.is_normalized("NFKC", text):
        folded = text.casefold()
        # Folding never makes fewer characters of more, so as many are the same ones.
        if len(folded) == len(text) and unicodedata.is_normalized("NFKC", folded):
            return _Folded(folded, None)
    characters: list[str] = []
    origins: list[tuple[int, int]] = []
    for cluster in known.cluster.finditer(text):
        folded = _fold_cluster(cluster.group())
        characters.append(folded)
        origins += [cluster.span()] * len(folded)
    return _Folded("".join(characters), origins)


@lru_cache(maxsize=8192)
def _fold_cluster(cluster: str) -> str:
    # Folding the case can take a form apart again, so twice; see Unicode's toNFKC_Casefold.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold())
    return _characters().unseen.sub("", folded)


def units_of(text: str) -> list[str]:
    """What a pattern is compared by; nothing for one that has nothing to match."""
    return [unit.group() for unit in _units(_fold(text).text)]


def _units(folded: str) -> Iterator[re.Match[str]]:
    if folded.isascii():
        return _PLAIN_UNIT.finditer(folded)
    return (_characters().unit if _has_marks(folded) else _BARE_UNIT).finditer(folded)


class _Words:
    """All words of a tenant in one automaton (Aho and Corasick's), over units: a text is read once, whatever the
    number of words."""

    def __init__(self) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fail = [0]
        self._depth = [0]
        self._masks = [0]
        """By state: units of the longest word to be masked that ends here."""
        self._decides: list[tuple[Action, UUID] | None] = [None]
        """By state: the strictest of the words that end here and let nothing pass."""

    def __len__(self) -> int:
        return len(self._next)

    def add(self, units: Sequence[str], action: Action, filter_id: UUID) -> None:
        state = 0
        for unit in units:
            known = self._next[state].get(unit)
            if known is None:
                known = self._next[state][unit] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self._depth.append(self._depth[state] + 1)
                self._masks.append(0)
                self._decides.append(None)
            state = known
        if action is Action.MASK:
            self._masks[state] = self._depth[state]
        else:
            self._decides[state] = _stricter(self._decides[state], (action, filter_id))

    def close(self) -> None:
        """To be called once, when all words are in."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for unit, after in self._next[state].items():
                waiting.append(after)
                self._fail[after] = self._step(self._fail[state], unit)
            fail = self._fail[state]
            self._masks[state] = self._masks[state] or self._masks[fail]
            self._decides[state] = _stricter(self._decides[state], self._decides[fail])

    def _step(self, state: int, unit: str) -> int:
        while (after := self._next[state].get(unit)) is None and state:
            state = self._fail[state]
        return after or 0

    def read(self, text: str) -> "_Found":
        """Linear: about 0.3 µs a unit, besides the folding."""
        folded = _fold(text)
        found = _Found()
        state, steps, fail, masks, decides = 0, self._next, self._fail, self._masks, self._decides
        starts: list[int] = []
        for unit in _units(folded.text):
            starts.append(unit.start())
            word = unit.group()
            while (after := steps[state].get(word)) is None and state:
                state = fail[state]
            state = after or 0
            if state:
                if decides[state] is not None:
                    found.decides = _stricter(found.decides, decides[state])
                if length := masks[state]:
                    found.spans.append(folded.span(starts[-length], unit.end()))
        return found


@dataclass(slots=True)
class _Found:
    decides: tuple[Action, UUID] | None = None
    spans: list[tuple[int, int]] = field(default_factory=list)


def _stricter(one: tuple[Action, UUID] | None, other: tuple[Action, UUID] | None) -> tuple[Action, UUID] | None:
    """The first of the two where they are as strict."""
    if one is None or other is None:
        return one or other
    return other if other[0] > one[0] else one


# --- expressions ----------------------------------------------------------------------------------------------------


def compile_expression(pattern: str) -> Any:
    """RE2's object. Raises InvalidExpression, whose words are for the integrator."""
    options = re2.Options()
    options.max_mem = MAX_EXPRESSION_BYTES
    options.log_errors = False
    options.never_capture = True  # what a group holds is of no interest, and costs
    try:
        compiled = re2.compile(pattern.encode(), options)
    except re2.error as error:
        raise InvalidExpression(_words_of(error)) from None
    if compiled.search(b"") is not None:
        raise InvalidExpression("matches the empty text, and so everything")
    return compiled


def _words_of(error: Any) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return f"is no regular expression in RE2's language: {text}"


class _TooLong(Exception):
    """The budget is spent."""


class _Budget:
    """How long a message's expressions may take, in the thread's own time: another thread's work is not its."""

    def __init__(self) -> None:
        self._ends_at = time.thread_time() + BUDGET_S

    def check(self) -> None:
        """Raises _TooLong. Between two checks lie a few searches: some ten milliseconds each on the largest text."""
        if time.thread_time() > self._ends_at:
            raise _TooLong


SEARCHES_BETWEEN_CHECKS = 8


def _spans(expression: Any, encoded: bytes, budget: _Budget) -> Iterator[tuple[int, int]]:
    """Where an expression matches something, in code points, in order. Raises _TooLong."""
    characters = counted_to = 0
    for number, found in enumerate(expression.finditer(encoded)):
        if number % SEARCHES_BETWEEN_CHECKS == 0:
            budget.check()
        start, end = found.span()
        # An expression may match half of a character (\C), which masks all of it.
        while start > counted_to and _is_inside(encoded, start):
            start -= 1
        while _is_inside(encoded, end):
            end += 1
        if start >= end or end <= counted_to:
            continue
        start = max(start, counted_to)
        first = characters + len(encoded[counted_to:start].decode())
        characters, counted_to = first + len(encoded[start:end].decode()), end
        yield first, characters


def _is_inside(encoded: bytes, position: int) -> bool:
    return position < len(encoded) and encoded[position] & 0xC0 == 0x80


# --- all of a tenant's ----------------------------------------------------------------------------------------------


class Rules:
    """A tenant's filters, ready to judge. Safe to share between threads."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.unusable: list[str] = []
        """Expressions that could not be compiled: of filters that an earlier release took."""
        self._words = _Words()
        self._expressions: list[tuple[Any, Action, UUID]] = []
        for rule in rules:
            for word in rule.words:
                if units := units_of(word):
                    self._words.add(units, rule.action, rule.filter_id)
            for text in rule.expressions:
                try:
                    self._expressions.append((compile_expression(text), rule.action, rule.filter_id))
                except InvalidExpression:
                    self.unusable.append(text)
        self._words.close()
        self._expressions.sort(key=lambda entry: -entry[1])

    @property
    def size(self) -> int:
        """What it takes of memory, in about 300 bytes."""
        return len(self._words) + len(self._expressions) * MAX_EXPRESSION_BYTES // 300

    def judge(self, content: Mapping[str, Any]) -> Verdict:
        """What becomes of a message that says this; the strictest filter wins."""
        texts = {name: content[name] for name in FIELDS if isinstance(content.get(name), str)}
        masks: dict[str, list[tuple[int, int]]] = {}
        decided: tuple[Action, UUID] | None = None
        if len(self._words) > 1:
            for name, text in texts.items():
                found = self._words.read(text)
                decided = _stricter(decided, found.decides)
                masks[name] = found.spans
        if self._expressions:
            try:
                decided = self._ask_expressions(texts, decided, masks)
            except _TooLong:
                return Verdict(Action.REJECT, dict(content))
        if decided is not None:
            return Verdict(decided[0], dict(content), decided[1])
        masked = {name: mask(texts[name], spans) for name, spans in masks.items() if spans}
        return Verdict(Action.MASK if masked else Action.PASS, {**content, **masked})

    def _ask_expressions(
        self,
        texts: Mapping[str, str],
        decided: tuple[Action, UUID] | None,
        masks: dict[str, list[tuple[int, int]]],
    ) -> tuple[Action, UUID] | None:
        """The strictest first; what cannot change the outcome any more is not asked. Raises _TooLong."""
        encoded = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
        budget = _Budget()
        for expression, action, filter_id in self._expressions:
            budget.check()
            if decided is not None and decided[0] >= action:
                return decided
            for name, text in encoded.items():
                spans = _spans(expression, text, budget)
                if action is Action.MASK:
                    masks.setdefault(name, []).extend(spans)
                elif next(spans, None) is not None:
                    decided = (action, filter_id)
                    break
        return decided


def mask(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with each code point of the spans as MASK; as long as it was."""
    characters = list(text)
    for start, end in spans:
        characters[start:end] = MASK * (end - start)
    return "".join(characters)
