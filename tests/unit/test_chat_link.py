"""How `scripts/chat` keeps its place, when it comes back, and for whom it speaks."""

import json
from pathlib import Path
from typing import Any

import pytest

from messagecore.kernel import catalogue, validation
from scripts.launcher.failures import LauncherError
from scripts.terminal.account import Account, Wishes, account_from
from scripts.terminal.link import wait_before_retry
from scripts.terminal.positions import MAX_NAMED, Positions
from scripts.terminal.protocol import durable_events

CONVERSATION = {"id": "a", "lastSeq": 3}


def _event(type_: str, **data: Any) -> dict[str, Any]:
    return {"type": type_, "data": data}


# --- positions --------------------------------------------------------------------------------------------------------


def test_positions_follow_the_durable_events() -> None:
    positions = Positions({"a": 2})
    assert durable_events() == {name for name, entry in catalogue.events().items() if entry["durable"] is True}
    for seq, type_ in enumerate(sorted(durable_events()), 3):
        positions.observe(_event(type_, conversationId="a", seq=seq))
        assert positions.of("a") == seq
    positions.observe(_event("unread_updated", conversationId="b", lastSeq=9))
    positions.observe(_event("user_typing", conversationId="b"))
    assert set(positions.to_resume()) == {"a"}
    validation.validate("ResumeCommand", {"conversations": positions.to_resume()})


def test_a_conversation_begins_where_it_is_announced_or_joined() -> None:
    positions = Positions()
    positions.observe(_event("conversation_created", conversation=CONVERSATION))
    positions.observe(_event("joined_conversation", conversationId="b", lastSeq=5))
    positions.observe(
        {"type": "ack", "id": 1, "data": {"conversationId": "c", "lastSeq": 6}}, answers="join_conversation"
    )
    positions.observe({"type": "ack", "id": 2, "data": {"conversationId": "d", "seq": 7}}, answers="send_message")
    assert positions.to_resume() == {"a": 3, "b": 5, "c": 6}


def test_joining_does_not_skip_what_is_still_missing() -> None:
    positions = Positions({"a": 2})
    positions.observe(_event("joined_conversation", conversationId="a", lastSeq=50))
    positions.observe(_event("conversation_created", conversation={"id": "a", "lastSeq": 50}))
    assert positions.of("a") == 2


def test_what_is_lost_is_not_asked_for_again() -> None:
    positions = Positions({"a": 2, "b": 3})
    positions.observe(_event("conversation_removed", conversationId="a"))
    assert positions.to_resume() == {"b": 3}


@pytest.mark.parametrize("as_ack", [True, False])
def test_positions_are_what_the_server_says_after_a_resume(as_ack: bool) -> None:
    positions = Positions({"kept": 2, "cut": 2, "gone": 5, "ahead": 90})
    conversations = {
        "kept": {"seq": 4, "complete": True},
        "cut": {"seq": 9, "complete": False, "reason": "retention", "truncatedBefore": 7},
        "gone": {"seq": 5, "complete": False, "reason": "removed"},
        "ahead": {"seq": 8, "complete": False, "reason": "ahead"},
        "named-by-hand": {"seq": 1, "complete": True},
    }
    frame = {"type": "ack" if as_ack else "resumed", "data": {"conversations": conversations}}
    positions.observe(frame, answers="resume" if as_ack else None)
    assert positions.to_resume() == {"kept": 4, "cut": 9, "ahead": 8}


def test_a_resume_names_no_more_than_the_server_takes() -> None:
    positions = Positions({str(number): number for number in range(MAX_NAMED + 5)})
    validation.validate("ResumeCommand", {"conversations": positions.to_resume()})
    assert len(positions.to_resume()) == MAX_NAMED


# --- coming back ------------------------------------------------------------------------------------------------------


def test_waits_are_drawn_below_a_bound_that_doubles() -> None:
    bounds: list[tuple[float, float]] = []

    def draw(least: float, most: float) -> float:
        bounds.append((least, most))
        return most

    waits = [wait_before_retry(failures, draw=draw) for failures in range(9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert {least for least, _ in bounds} == {0}
    assert wait_before_retry(5_000, draw=draw) == 30


def test_the_server_says_when_to_come_back() -> None:
    assert wait_before_retry(0, told_ms=2_345) == 2.345
    assert wait_before_retry(0, told_ms=0) == 0
    assert wait_before_retry(2, told_ms=60_000, draw=lambda _, most: most) == 2, "told of the first try alone"


def test_who_was_too_fast_waits_ten_seconds_at_least() -> None:
    assert wait_before_retry(0, code=4029, draw=lambda least, _: least) == 10
    assert wait_before_retry(3, code=4029, draw=lambda _, most: most) == 14


# --- for whom ---------------------------------------------------------------------------------------------------------

DEMO = {
    "baseUrl": "http://127.0.0.1:8000",
    "apiKey": "mc_sk_demo",
    "publishableKey": "mc_pk_demo",
    "conversationId": "lounge",
    "users": [{"externalUserId": "alice"}, {"externalUserId": "daniel"}],
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "demo.json").write_text(json.dumps(DEMO), encoding="utf-8")
    return tmp_path


def test_without_a_word_it_is_the_first_user_of_the_demo(home: Path) -> None:
    account = account_from(Wishes(), env={}, home=home)
    assert account == Account(
        url="http://127.0.0.1:8000",
        key="mc_pk_demo",
        user="alice",
        minting_key="mc_sk_demo",
        conversation="lounge",
        known_users=("alice", "daniel"),
    )
    assert account.socket_url == "ws://127.0.0.1:8000/ws"
    assert account.can_renew
    assert account_from(Wishes(user="daniel"), env={}, home=home).user == "daniel"
    assert account_from(Wishes(url="http://127.0.0.1:8000/"), env={}, home=home) == account


def test_the_demos_secrets_go_to_no_other_server(home: Path) -> None:
    for url in ("http://127.0.0.1:8001", "https://127.0.0.1:8000", "http://evil.example"):
        for wishes, env in ((Wishes(url=url), {}), (Wishes(), {"MESSAGECORE_URL": url})):
            with pytest.raises(LauncherError, match=r"A key for .* is needed"):
                account_from(wishes, env=env, home=home)


def test_a_token_is_taken_as_it_is(home: Path) -> None:
    given = Wishes(url="https://chat.example.com/base/", key="mc_pk_x", token="t")
    account = account_from(given, env={}, home=home)
    assert (account.token, account.user, account.minting_key, account.can_renew) == ("t", None, None, False)
    assert account.socket_url == "wss://chat.example.com/base/ws"
    of_the_demo = account_from(Wishes(token="t"), env={}, home=home)
    assert (of_the_demo.key, of_the_demo.token, of_the_demo.can_renew) == ("mc_pk_demo", "t", False)


def test_a_secret_key_makes_the_token_of_whom_it_is_told(tmp_path: Path) -> None:
    env = {"MESSAGECORE_URL": "http://h:1", "MESSAGECORE_API_KEY": "mc_sk_x"}
    account = account_from(Wishes(user="u"), env=env, home=tmp_path)
    assert (account.key, account.minting_key, account.user, account.can_renew) == ("mc_sk_x", "mc_sk_x", "u", True)
    with pytest.raises(LauncherError, match="say which"):
        account_from(Wishes(), env=env, home=tmp_path)


def test_options_win_over_the_environment(home: Path) -> None:
    env = {"MESSAGECORE_URL": "http://env:1", "MESSAGECORE_API_KEY": "mc_pk_env", "MESSAGECORE_TOKEN": "env"}
    account = account_from(Wishes(), env=env, home=home)
    assert (account.url, account.key, account.token) == ("http://env:1", "mc_pk_env", "env")
    account = account_from(Wishes(url="http://o:1", key="mc_pk_o", token="o"), env=env, home=home)
    assert (account.url, account.key, account.token) == ("http://o:1", "mc_pk_o", "o")
    account = account_from(Wishes(key="mc_sk_o", user="u"), env=env, home=home)
    assert (account.token, account.user) == (None, "u")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h", "http://h"),
        ("http://h:8/", "http://h:8"),
        ("ws://h:8/ws", "http://h:8"),
        ("wss://h/", "https://h"),
        ("https://h/api/v1", "https://h"),
        ("https://h/sub/api/v1/", "https://h/sub"),
        ("http://[::1]:8", "http://[::1]:8"),
    ],
)
def test_any_address_of_ours_will_do(given: str, url: str, tmp_path: Path) -> None:
    assert account_from(Wishes(url=given, key="mc_pk_x", token="t"), env={}, home=tmp_path).url == url


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://h", "http://", "http://h:x", "http://h:99999", "8000", "http:///x"]
)
def test_what_is_no_address_is_said_so(url: str, tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="is no address"):
        account_from(Wishes(url=url, key="mc_pk_x", token="t"), env={}, home=tmp_path)


def test_what_does_not_fit_together_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="--token says who the user is"):
        account_from(Wishes(token="t", user="u"), env={}, home=home)
    with pytest.raises(LauncherError, match="a user token is needed as well"):
        account_from(Wishes(key="mc_pk_x"), env={}, home=home)
    with pytest.raises(LauncherError, match="Nothing has been started here"):
        account_from(Wishes(), env={}, home=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", json.dumps({**DEMO, "users": []}), json.dumps({**DEMO, "apiKey": 7})]
)
def test_a_demo_file_that_is_not_whole_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(text, encoding="utf-8")
    with pytest.raises(LauncherError, match="Nothing has been started here"):
        account_from(Wishes(), env={}, home=tmp_path)
