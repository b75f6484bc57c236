"""What people type into `scripts/chat`, and what becomes of it."""

from typing import Any

import pytest

from messagecore.kernel import catalogue, validation
from scripts.terminal.commands import COMMANDS, Local, Misunderstood, Scene, Send, SendAsIs, help_text, parse

HERE = "019a2f51-03be-7e44-a1d7-92c4f60b8e35"
MESSAGE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"
OTHER = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f63"


@pytest.fixture
def scene() -> Scene:
    return Scene(conversation=HERE, last_seq=12, messages={12: MESSAGE})


TEXT = {"conversationId": HERE, "type": "text"}
TYPED: list[tuple[str, str, dict[str, Any]]] = [
    ("你好，世界", "send_message", TEXT | {"content": {"text": "你好，世界"}}),
    ("  a  b  ", "send_message", TEXT | {"content": {"text": "a  b"}}),
    ("//etc/passwd", "send_message", TEXT | {"content": {"text": "/etc/passwd"}}),
    ("it's \"so", "send_message", TEXT | {"content": {"text": "it's \"so"}}),
    ("/reply 12 oh, it's", "send_message", TEXT | {"content": {"text": "oh, it's"}, "replyToId": MESSAGE}),
    ("/join order-1", "join_conversation", {"conversationId": "order-1"}),
    ("/join 'a room'", "join_conversation", {"conversationId": "a room"}),
    ("/leave", "leave_conversation", {"conversationId": HERE}),
    ("/leave order-1", "leave_conversation", {"conversationId": "order-1"}),
    ("/typing", "typing_start", {"conversationId": HERE}),
    ("/typing on", "typing_start", {"conversationId": HERE}),
    ("/typing off", "typing_stop", {"conversationId": HERE}),
    ("/edit 12 it's new", "edit_message", {"messageId": MESSAGE, "content": {"text": "it's new"}}),
    ("/edit #12 new", "edit_message", {"messageId": MESSAGE, "content": {"text": "new"}}),
    (f"/edit {OTHER} new", "edit_message", {"messageId": OTHER, "content": {"text": "new"}}),
    ("/delete 12", "delete_message", {"messageId": MESSAGE}),
    ("/react 12 👍", "add_reaction", {"messageId": MESSAGE, "name": "👍"}),
    ("/unreact 12 👍", "remove_reaction", {"messageId": MESSAGE, "name": "👍"}),
    ("/read", "mark_read", {"conversationId": HERE, "seq": 12}),
    ("/read 3", "mark_read", {"conversationId": HERE, "seq": 3}),
    ("/delivered", "mark_delivered", {"conversationId": HERE, "seq": 12}),
    ("/presence away", "set_presence", {"status": "away"}),
    ("/resume a 1 b 2", "resume", {"conversations": {"a": 1, "b": 2}}),
    ("/ping", "ping", {}),
]


@pytest.mark.parametrize(("line", "type_", "data"), TYPED)
def test_a_line_becomes_a_command_that_the_server_takes(line: str, type_: str, data: Any, scene: Scene) -> None:
    assert parse(line, scene) == Send(type_, data)
    validation.validate(catalogue.commands()[type_]["schema"], data)


def test_every_command_of_the_socket_can_be_typed() -> None:
    assert {type_ for _, type_, _ in TYPED} == set(catalogue.commands()) - {"authenticate"}


def test_the_client_does_some_things_itself(scene: Scene) -> None:
    assert parse("/quit", scene) == Local("quit")
    assert parse("/help edit", scene) == Local("help", "edit")
    assert parse("/conversations", scene) == Local("conversations")
    assert parse("/resume", scene) == Local("resume")
    assert parse("   ", scene) is None


def test_a_frame_by_hand_goes_out_as_it_is(scene: Scene) -> None:
    assert parse('/frame {"type": "nope", "x": [1]}', scene) == SendAsIs({"type": "nope", "x": [1]})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/bogus", "There is no /bogus."),
        ("/", "There is no /."),
        ("/join", "Usage: /join ID"),
        ("/join a b", "Usage: /join ID"),
        ("/join 'a", "A quotation mark has no partner."),
        ("/edit", "Usage: /edit MESSAGE TEXT"),
        ("/edit 12", "Usage: /edit MESSAGE TEXT"),
        ("/edit 12   ", "Usage: /edit MESSAGE TEXT"),
        ("/edit 11 x", "No message with seq 11"),
        ("/delete", "Usage: /delete MESSAGE"),
        ("/react 12", "Usage: /react MESSAGE NAME"),
        ("/read twelve", "twelve is no seq."),
        ("/read -1", "-1 is no seq."),
        ("/typing maybe", "Usage: /typing [on|off]"),
        ("/presence busy", "Usage: /presence"),
        ("/resume a", "Usage: /resume"),
        ("/resume a b", "b is no seq."),
        ("/ping me", "Usage: /ping"),
        ("/frame", "That is not JSON"),
        ("/frame {", "That is not JSON"),
        ("/frame [1]", "A frame is a JSON object"),
        ("/frame " + "[" * 100_000, "That is nested too deep."),
    ],
)
def test_what_is_not_understood_is_said_in_words(line: str, said: str, scene: Scene) -> None:
    with pytest.raises(Misunderstood) as raised:
        parse(line, scene)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("line", ["hello", "//hello", "/typing", "/read", "/leave", "/delivered 3"])
def test_outside_of_a_conversation_one_is_told_how_to_enter(line: str) -> None:
    with pytest.raises(Misunderstood, match="You are in no conversation"):
        parse(line, Scene())


def test_reading_to_the_end_needs_an_end() -> None:
    with pytest.raises(Misunderstood, match="Nothing has passed here yet"):
        parse("/read", Scene(conversation=HERE))


def test_the_help_names_every_command() -> None:
    lines = help_text().splitlines()
    assert [line.split()[0] for line in lines[: len(COMMANDS)]] == [f"/{name}" for name in COMMANDS]
    assert help_text("/edit") == help_text("edit") == "  /edit MESSAGE TEXT  change a message of yours"
    with pytest.raises(Misunderstood, match="There is no /bogus"):
        help_text("bogus")
