"""What search takes a text for: words and runs, where they stand, and what is shown of them."""

import random
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.search import vectors
from messaging.search.highlights import BEFORE, SNIPPET, highlights
from messaging.search.words import MAX_TEXT, MAX_WORD, find_all, searched, tokens, wanted
from tests.laws import examples

HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


def parts(text: str) -> list[str]:
    return [token.characters for token in tokens(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("don't re-use v1.2 snake_case", ["don", "t", "re", "use", "v1", "2", "snake", "case"]),
        ("ＨＥＬＬＯ１２３ ﬁne ½", ["hello123", "fine", "1", "2"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("Ωμέγα ПРИВЕТ", ["ωμέγα", "привет"]),
        ("e\u0301te\u0301 été", ["été", "été"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("co\u00adoperate zero\u200dwidth", ["cooperate", "zerowidth"]),
        ("我爱你，中国", ["我爱你", "中国"]),
        ("iPhone15手机壳v2", ["iphone15", "手机壳", "v2"]),
        ("ｶﾞｷﾞ カタカナとひらがな", ["ガギ", "カタカナとひらがな"]),
        ("학교에서 만나요", ["학교에서", "만나요"]),
        ("葛\U000e0100城", ["葛城"]),
        ("𠮷野家", ["𠮷野家"]),
        ("สวัสดี ຂອບໃຈ សួស្តី မင်္ဂလာပါ", ["สวัสดี", "ຂອບໃຈ", "សួស្តី", "မင်္ဂလာပါ"]),
        ("🎉👨‍👩‍👧‍👦 &|!:*()'\\", []),
        ("", []),
        ("\u0301", []),
    ],
)
def test_a_text_is_taken_apart(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


def test_hangul_in_pieces_is_hangul() -> None:
    assert parts(unicodedata.normalize("NFD", "안녕하세요")) == ["안녕하세요"]


@given(st.lists(st.text(HAN, min_size=1, max_size=30), min_size=1, max_size=8), st.data())
@settings(max_examples=examples(300))
def test_every_stretch_of_a_chinese_text_is_found_where_it_is(runs: list[str], data: st.DataObject) -> None:
    # Unified ideographs fold to themselves, so the stretches can be counted in the text as it is.
    text = "，a ".join(runs)
    run = data.draw(st.sampled_from(runs))
    start = data.draw(st.integers(0, len(run) - 1))
    stretch = run[start : data.draw(st.integers(start + 1, len(run)))]
    found = find_all(wanted(stretch), {"text": text})
    covered = {place for at, to in (found or {}).get("text", []) for place in range(at, to)}
    expected = {
        place for at in range(len(text)) if text.startswith(stretch, at) for place in range(at, at + len(stretch))
    }
    assert expected
    assert covered == expected


@given(ANY)
@settings(max_examples=examples(500))
def test_any_text_finds_itself_and_its_ranges_are_in_it(text: str) -> None:
    query = wanted(text)
    shown = highlights(query, {"text": text})
    if not query:
        assert shown == []
        return
    assert shown is not None
    (one,) = shown
    assert one.text in text
    assert one.ranges
    end = 0
    for start, length in one.ranges:
        assert length > 0
        assert start >= end
        end = start + length
        assert end <= len(one.text)
    assert wanted(one.text[one.ranges[0][0] : one.ranges[0][0] + one.ranges[0][1]])


@given(ANY, ANY)
def test_what_is_not_there_is_not_found(text: str, query: str) -> None:
    """Against a plain reading of the rule: a word is one of the words, a run is part of one of the runs."""
    asked = wanted(query)
    found = list(tokens(text))
    words = {token.word for token in found if token.kind.value == "word"}
    runs = [token.characters for token in found if token.kind.value == "run"]
    expected = all(word in words for word in asked.words) and all(
        any(run in other for other in runs) for run in asked.runs
    )
    assert (find_all(asked, {"text": text}) is not None) is expected


def test_words_that_begin_alike_are_the_same_when_they_are_too_long() -> None:
    long = "a" * MAX_WORD
    assert find_all(wanted(long + "b"), {"text": f"x {long}c"}) == {"text": [(2, 3 + MAX_WORD)]}
    assert find_all(wanted(long[1:]), {"text": long}) is None


def test_words_may_lie_in_different_fields() -> None:
    content = {"name": "发票.pdf", "caption": "For October", "url": "https://a/secret", "size": 5}
    assert searched(content) == {"caption": "For October", "name": "发票.pdf"}
    places = find_all(wanted("october 发票 PDF"), searched(content))
    assert places == {"caption": [(4, 11)], "name": [(0, 2), (3, 6)]}
    assert find_all(wanted("secret"), searched(content)) is None


def test_no_more_than_the_beginning_of_a_text_is_searched() -> None:
    content = {"text": "a" * (MAX_TEXT - 4) + " end " + "b", "caption": "caption"}
    texts = searched(content)
    assert sum(map(len, texts.values())) == MAX_TEXT
    assert find_all(wanted("end"), texts) is not None
    assert find_all(wanted("caption"), texts) is None
    assert searched({"text": ["no", "text"], "caption": None, "name": "", "title": 5}) == {}


# --- snippets -------------------------------------------------------------------------------------------------------


def shown(query: str, text: str) -> list[str]:
    """The matches as the ranges cut them out of the snippet."""
    (one,) = highlights(wanted(query), {"text": text}) or []
    return [one.text[start : start + length] for start, length in one.ranges]


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("发货", "您好，订单已经发货，今天发货", ["发货", "发货"]),
        ("中中", "中中中", ["中中中"]),
        ("STRASSE", "die Straße hier", ["Straße"]),
        ("été", "l'e\u0301te\u0301!", ["e\u0301te\u0301"]),
        ("fine", "ok ﬁne", ["ﬁne"]),
        ("ガギ", "xｶﾞｷﾞ", ["ｶﾞｷﾞ"]),
        ("株式", "㍿です", ["㍿"]),
        ("order", "👨‍👩‍👧 Order 🎉 ORDER", ["Order", "ORDER"]),
        ("葛城", "葛\U000e0100城", ["葛\U000e0100城"]),
        ("zerowidth", "a zero\u200dwidth b", ["zero\u200dwidth"]),
    ],
)
def test_ranges_are_exact(query: str, text: str, expected: list[str]) -> None:
    assert shown(query, text) == expected


def test_a_snippet_is_cut_around_the_first_match() -> None:
    text = "前" * 100 + "找到" + "后" * 300 + "找到"
    (one,) = highlights(wanted("找到"), {"text": text}) or []
    assert one.text == "前" * BEFORE + "找到" + "后" * (SNIPPET - BEFORE - 2)
    assert one.ranges == ((BEFORE, 2),)
    assert (highlights(wanted("前"), {"text": text}) or [])[0].ranges == ((0, 100),)


@pytest.mark.parametrize("sign", ["e\u0301", "👩🏽", "👨‍👩‍👧‍👦", "🇨🇳", "❤️", "ก็", "각"])
def test_a_snippet_cuts_no_character_in_two(sign: str) -> None:
    for shift in range(len(sign) + 1):
        before, behind = "." * shift + sign * 20, sign * 60
        (one,) = highlights(wanted("word"), {"text": f"{before} word {behind}"}) or []
        rest = before.replace(sign, "|").replace("|", sign)
        start = f"{before} word {behind}".index(one.text)
        assert start <= len(rest)
        inside = one.text.partition(" word ")
        assert inside[0].lstrip(".") == sign * (len(inside[0].lstrip(".")) // len(sign))
        assert inside[2] == sign * (len(inside[2]) // len(sign))


# --- filters and stretches of time ----------------------------------------------------------------------------------

TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(TIMES, st.integers(0, 10**9), st.floats(0, 1))
def test_every_time_of_a_stretch_is_in_one_of_its_buckets(first: datetime, seconds: int, share: float) -> None:
    try:
        last = first + timedelta(seconds=seconds, microseconds=999_999)
    except OverflowError:
        return
    buckets = vectors.between(first, last)
    assert len(buckets) <= vectors.MAX_BUCKETS
    within = first + (last - first) * share
    assert not buckets or set(vectors.times(within)) & set(buckets)
    assert buckets or seconds > 2**24 * (vectors.MAX_BUCKETS - 2)


@given(ANY)
def test_no_text_makes_a_filter(text: str) -> None:
    assert not any("\x01" in token.characters for token in tokens("\x01c" + text + "\x01"))


def test_a_message_has_a_filter_of_each_kind() -> None:
    conversation_id, sender_id = UUID(int=1), UUID(int=2)
    at = datetime(2025, 10, 29, 8, 15, 30, tzinfo=UTC)
    made = vectors.filters_of(conversation_id=conversation_id, sender_id=sender_id, type_="text", created_at=at)
    assert made[:3] == [vectors.conversation(conversation_id), vectors.sender(sender_id), vectors.message_type("text")]
    assert made[3:] == vectors.times(at)
    assert len(set(made)) == 3 + len(vectors.TIME_LEVELS)
    anonymous = vectors.filters_of(conversation_id=conversation_id, sender_id=None, type_="text", created_at=at)
    assert anonymous == [made[0], *made[2:]]


def test_a_text_without_words_has_no_vector() -> None:
    assert vectors.vector(["🎉 …", ""], ["\x01a"]) is None
    assert vectors.vector([], []) is None


def test_a_vector_of_many_pairs_says_that_it_lacks_positions() -> None:
    assert "\x01p" not in (vectors.vector(["中文" * 200], []) or "")
    assert "\x01p" in (vectors.vector(["中文" * 300], []) or "")
    random.seed(1)
    long = "".join(chr(random.randrange(0x4E00, 0x9FA5)) for _ in range(MAX_TEXT))
    assert "\x01p" in (vectors.vector([long], []) or "")
    assert Counter(long)
