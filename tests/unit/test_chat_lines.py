"""A frame as one line of `scripts/chat`."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from prompt_toolkit.utils import get_cwidth

from messagecore.kernel import catalogue
from scripts.terminal.lines import Style, gist, wants_colour
from scripts.terminal.link import Answered, Lost
from scripts.terminal.protocol import close_code

NOW = datetime(2026, 1, 31, 8, 5, 9, 7_999, tzinfo=UTC)
PLAIN = Style()
EXAMPLES = [
    pytest.param({"type": name, "data": data}, id=f"{name}-{number}")
    for name, entry in catalogue.events().items()
    for number, data in enumerate(catalogue.definitions()[entry["schema"]]["examples"])
]
NEW_MESSAGE = {"type": "new_message", "data": catalogue.definitions()["NewMessageEvent"]["examples"][0]}


def test_a_line_tells_time_direction_type_id_seq_and_gist() -> None:
    said = PLAIN.sent({"type": "mark_read", "id": 7, "data": {"conversationId": "order-1", "seq": 12}}, NOW)
    assert said == "08:05:09.007 → mark_read            id=7 seq=12 in=order-1"
    assert PLAIN.received(NEW_MESSAGE, None, NOW) == (
        '08:05:09.007 ← new_message          seq=2 王芳: "您好，您的订单已经发货。" in=order-2025-1029 '
        "messageId=019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"
    )


def test_an_answer_names_its_command_and_the_time_it_took() -> None:
    said = PLAIN.received({"type": "ack", "id": "a b", "data": {}}, Answered("ping", 0.012_34), NOW)
    assert said == '08:05:09.007 ← ack                  id="a b" ping 12.3 ms'


def test_an_error_tells_what_is_wrong_and_where() -> None:
    data = {
        "code": "validation_failed",
        "message": "The request is not valid.",
        "retryable": True,
        "details": {"fields": [{"pointer": "/data/seq", "message": "is required"}], "resetAt": "2026"},
    }
    assert gist({"type": "error", "data": data}) == (
        'validation_failed: The request is not valid. /data/seq is required resetAt="2026" retryable'
    )


def test_what_came_of_a_resume_is_told_by_conversation() -> None:
    conversations = {
        "a": {"seq": 5, "complete": True},
        "b": {"seq": 9, "complete": False, "truncatedBefore": 4, "reason": "retention"},
        "c": {"seq": 3, "complete": False, "reason": "removed"},
    }
    told = gist({"type": "resumed", "data": {"conversations": conversations}})
    assert told == "a=5 complete; b=9 retention, begins at 4; c=3 removed"
    asked = {str(number): number for number in range(7)}
    assert gist({"type": "resume", "data": {"conversations": asked}}) == "0=0; 1=1; 2=2; 3=3; 4=4; and 2 more"
    assert gist({"type": "resume", "data": {"conversations": {}}}) == "nothing"


@pytest.mark.parametrize("frame", EXAMPLES)
def test_every_event_is_one_line_that_fits(frame: dict[str, Any]) -> None:
    whole = PLAIN.received(frame, None, NOW)
    assert "\n" not in whole
    assert f" {frame['type']} " in f"{whole} "
    for width in (40, 80):
        line = Style(width=width).received(frame, None, NOW)
        assert get_cwidth(line) <= width
        assert line == whole or line.endswith("…")


@pytest.mark.parametrize("frame", EXAMPLES)
def test_the_whole_frame_can_be_shown(frame: dict[str, Any]) -> None:
    head, body = Style(full=True, width=60).received(frame, None, NOW).split("\n")
    assert head.startswith(f"08:05:09.007 ← {frame['type']}")
    assert json.loads(body) == frame


def test_what_others_write_moves_no_cursor() -> None:
    nasty = "\x1b[2J\x9b31m\r\n\t\u202e\u2028\U000e0001"
    frame = json.loads(json.dumps(NEW_MESSAGE))
    frame["data"]["message"]["content"]["text"] = nasty
    frame["data"]["message"]["sender"]["displayName"] = nasty
    shown = [PLAIN.received(frame, None, NOW), Style(full=True).received(frame, None, NOW), PLAIN.note(nasty, NOW)]
    shown.append(PLAIN.received({"type": nasty, "id": nasty, "data": {nasty: nasty}}, None, NOW))
    for text in shown:
        assert all(character.isprintable() for character in text.replace("\n", "", 1))
    assert "\\u202e" in shown[0]


def test_secrets_are_not_shown() -> None:
    frame = {"type": "authenticate", "data": {"apiKey": "mc_sk_0123456789", "token": "eyJhbGciOiJIUzI1NiJ9.x.y"}}
    for style in (PLAIN, Style(full=True)):
        said = style.sent(frame, NOW)
        assert "mc_sk_0123…" in said
        assert "eyJhbGciOi…" in said
        assert "456789" not in said
        assert "JIUzI1NiJ9" not in said
    assert frame["data"]["apiKey"] == "mc_sk_0123456789"


@pytest.mark.parametrize("data", [None, [], "text", 7, {"message": None}, {"message": {"content": {}}}, {"seq": "x"}])
def test_odd_data_is_a_line_too(data: Any) -> None:
    assert "\n" not in PLAIN.sent({"type": "x", "data": data}, NOW)


def test_colours_are_for_terminals_that_want_them() -> None:
    coloured = Style(colour=True).received(NEW_MESSAGE, None, NOW)
    assert coloured.count("\033[") == 4
    assert coloured.endswith("\033[0m")
    assert "\033" not in PLAIN.received(NEW_MESSAGE, None, NOW)
    assert wants_colour(terminal=True, env={})
    assert not wants_colour(terminal=False, env={})
    assert not wants_colour(terminal=True, env={"NO_COLOR": "1"})
    assert not wants_colour(terminal=True, env={"TERM": "dumb"})


@pytest.mark.parametrize("code", sorted(catalogue.close_codes()))
def test_a_close_code_is_told_with_its_meaning(code: int) -> None:
    entry = catalogue.close_codes()[code]
    assert close_code(code).reconnect is entry["reconnect"]
    wait_s = 1.25 if entry["reconnect"] else None
    said = PLAIN.lost(Lost(close_code(code), "so it is", "", wait_s, {}), NOW)
    then = "Reconnecting in 1.2 s." if entry["reconnect"] else "Not reconnecting."
    assert said == f"08:05:09.007 ✗ closed {code} {entry['name']} (so it is): {entry['description']} {then}"


def test_codes_that_are_not_ours_are_explained_and_lead_back() -> None:
    assert close_code(1006).meaning == "The connection broke without a word."
    assert close_code(1009).meaning == "Message too big."
    assert close_code(4999).meaning == "Not a code of ours."
    assert [close_code(code).reconnect for code in (1000, 1001, 1006, 1009, 4999)] == [True] * 5


def test_a_connection_that_could_not_be_had_says_why() -> None:
    said = PLAIN.lost(Lost(None, "", "connection refused", 0.3, {}), NOW)
    assert said == "08:05:09.007 ✗ no connection: connection refused Reconnecting in 0.3 s."
