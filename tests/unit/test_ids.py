"""Identifiers: the server's UUIDv7, and telling them from the integrators'."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messagecore.kernel.ids import find_uuid, is_external_id, new_id, new_ids

ID = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


def test_new_ids_are_version_7_and_increase() -> None:
    made = [new_id() for _ in range(1000)] + new_ids(1000)
    assert {made_id.version for made_id in made} == {7}
    assert made == sorted(made)
    assert len(set(made)) == 2000


def test_new_ids_differ_between_threads() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(map(str, new_ids(2000)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8000


def test_only_the_servers_own_spelling_is_a_server_id() -> None:
    assert str(find_uuid(ID)) == ID
    assert find_uuid(str(made := new_id())) == made


@pytest.mark.parametrize(
    "text",
    [
        ID.upper(),
        ID.replace("-", ""),
        ID.replace("-", "_"),
        "{" + ID + "}",
        "urn:uuid:" + ID,
        ID + "\n",
        " " + ID,
        ID[:-1],
        ID[:-1] + "٣",
        "x" * 36,
        "",
    ],
)
def test_any_other_spelling_is_somebodys_external_id(text: str) -> None:
    assert find_uuid(text) is None


@given(st.text(max_size=40))
def test_finding_never_fails(text: str) -> None:
    found = find_uuid(text)
    assert found is None or str(found) == text


@pytest.mark.parametrize("text", ["a", "å😀", "x" * 255, "😀" * 255, " ", "a/b", "\u202e", ID])
def test_an_external_id_may_be_nearly_anything(text: str) -> None:
    assert is_external_id(text)


@pytest.mark.parametrize("text", ["", "x" * 256, "\0", "a\nb", "\x1f", "\x7f", "\x80", "\x9f", "\ud800", "a\udfffb"])
def test_an_external_id_holds_no_control_characters(text: str) -> None:
    assert not is_external_id(text)
