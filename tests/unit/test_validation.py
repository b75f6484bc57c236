"""Refusals that name what to mend: JSON pointers, bounded, quoting nothing."""

from typing import Any

import pytest

from messagecore.kernel import catalogue
from messagecore.kernel.errors import Conflict, FieldError, NotFound, Refusal, ValidationFailed
from messagecore.kernel.validation import MAX_REPORTED, pointer_to, validate, without_nulls

SEND = {"conversationId": "room", "type": "text", "content": {"text": "hello"}}


def pointers(name: str, value: Any) -> list[str]:
    with pytest.raises(ValidationFailed) as refused:
        validate(name, value)
    return [field.pointer for field in refused.value.fields]


def test_what_fits_passes() -> None:
    validate("SendMessage", SEND)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"content": {}}, ["/content/text"]),
        ({"type": "location", "content": {"latitude": "x", "longitude": 1}}, ["/content/latitude"]),
        ({"mentions": ["ok", ""]}, ["/mentions/1"]),
        ({"a/b": 1, "c~d": 2}, ["/a~1b", "/c~0d"]),
        ({"conversationId": 5, "senderId": 5}, ["/conversationId", "/senderId"]),
    ],
)
def test_pointers_lead_to_what_is_wrong(change: dict[str, Any], expected: list[str]) -> None:
    assert sorted(set(pointers("SendMessage", SEND | change))) == expected


def test_the_whole_body_has_the_empty_pointer() -> None:
    assert pointers("SendMessage", []) == [""]


def test_every_unknown_and_every_missing_field_is_named_once() -> None:
    assert sorted(pointers("SendMessage", {"x": 1, "y": 2})) == ["/content", "/conversationId", "/type", "/x", "/y"]


def test_reports_are_bounded() -> None:
    users = [{"externalUserId": ""} for _ in range(100)]
    assert len(pointers("UpsertUsers", {"users": users})) == MAX_REPORTED


def test_reports_quote_nothing() -> None:
    with pytest.raises(ValidationFailed) as refused:
        validate("SendMessage", SEND | {"type": "s3cret", "clientMessageId": ["s3cret"], "content": {"text": 5}})
    assert "s3cret" not in str(refused.value.details) + str(refused.value)


def test_an_unknown_definition_is_our_mistake() -> None:
    with pytest.raises(KeyError, match="NoSuchThing"):
        validate("NoSuchThing", {})


@pytest.mark.parametrize(
    ("parts", "pointer"), [((), ""), (("a",), "/a"), (("a", 0, "b"), "/a/0/b"), (("~/", ""), "/~0~1/")]
)
def test_pointers_are_rfc_6901(parts: tuple[str | int, ...], pointer: str) -> None:
    assert pointer_to(*parts) == pointer


def test_nulls_of_the_top_level_mean_absent() -> None:
    assert without_nulls({"a": None, "b": {"c": None}, "d": 0, "e": "", "f": False}) == {
        "b": {"c": None},
        "d": 0,
        "e": "",
        "f": False,
    }


def test_a_refusal_takes_its_words_from_the_catalogue() -> None:
    refusal = NotFound()
    assert (refusal.status, refusal.retryable, refusal.message) == (404, False, catalogue.error("not_found").title)
    said = Conflict("Otherwise.", details={"a": 1}, headers={"X": "y"})
    assert (said.message, said.details, said.headers) == ("Otherwise.", {"a": 1}, {"X": "y"})


def test_a_summary_names_the_first_field_and_counts_the_rest() -> None:
    fields = [FieldError("/a", "is wrong"), FieldError("/b", "too")]
    assert ValidationFailed(fields).message == "/a: is wrong (and 1 more)"
    assert ValidationFailed([FieldError("", "is wrong")]).message == "The body: is wrong"


def _family(kind: type[Refusal]) -> list[type[Refusal]]:
    return [kind, *(member for child in kind.__subclasses__() for member in _family(child))]


@pytest.mark.parametrize("kind", [kind for kind in _family(Refusal) if hasattr(kind, "code")], ids=lambda k: k.__name__)
def test_every_refusal_of_the_code_is_in_the_catalogue(kind: type[Refusal]) -> None:
    assert catalogue.error(kind.code).status >= 400


@pytest.mark.parametrize(
    "time",
    ["2026-06-30T23:59:60Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-00:01", "2026-02-30T00:00:00Z", "tomorrow"],
)
def test_a_time_that_no_service_can_parse_is_refused_here(time: str) -> None:
    assert set(pointers("ChangeMembership", {"mutedUntil": time})) == {"/mutedUntil"}


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999z", "2026-01-01t00:00:00+14:00"])
def test_every_time_that_can_be_passes(time: str) -> None:
    validate("ChangeMembership", {"mutedUntil": time})
