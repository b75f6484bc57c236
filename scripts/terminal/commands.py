"""What people type: text, which is sent, and slash commands, one at least for every command of the socket."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from scripts.terminal.protocol import Frame


class Misunderstood(Exception):
    """What was typed is not a command; the message says why, in words for who typed it."""


@dataclass(slots=True)
class Scene:
    """What words like "this conversation" and "message 12" mean at the moment."""

    conversation: str | None = None
    last_seq: int | None = None
    messages: dict[int, str] = field(default_factory=dict)

    def enter(self, conversation: str | None, last_seq: int | None = None) -> None:
        self.conversation, self.last_seq = conversation, last_seq
        self.messages = {}


@dataclass(frozen=True, slots=True)
class Send:
    """A command for the server, without its id."""

    type: str
    data: Frame


@dataclass(frozen=True, slots=True)
class SendAsIs:
    """A frame typed by hand."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Local:
    """Something that the client does itself."""

    name: Literal["conversations", "help", "quit", "resume"]
    topic: str = ""


Action = Send | SendAsIs | Local
_Parse = Callable[[str, Scene], Action]


@dataclass(frozen=True, slots=True)
class SlashCommand:
    usage: str
    does: str
    parse: _Parse


def parse(line: str, scene: Scene) -> Action | None:
    """What a line asks for; None for a blank one. Raises Misunderstood."""
    line = line.strip()
    if not line:
        return None
    if line.startswith("//"):
        return _text(line[1:], scene)
    if not line.startswith("/"):
        return _text(line, scene)
    name, _, rest = line[1:].partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        raise Misunderstood(
            f"There is no /{name}. /help lists what there is; a text that begins with / is typed with //."
        )
    return command.parse(rest.strip(), scene)


def help_text(topic: str = "") -> str:
    """One command's line, or all of them."""
    found = {name: command for name, command in COMMANDS.items() if not topic or name == topic.removeprefix("/")}
    if not found:
        raise Misunderstood(f"There is no /{topic.removeprefix('/')}.")
    width = max(len(command.usage) for command in found.values())
    lines = [f"  {command.usage:<{width}}  {command.does}" for command in found.values()]
    if not topic:
        lines.append(f"  {'anything else':<{width}}  is sent as a message to the conversation that you joined")
        lines.append(f"  {'':<{width}}  MESSAGE is a message's id, or its seq in this conversation")
    return "\n".join(lines)


def _text(text: str, scene: Scene) -> Send:
    return Send("send_message", {"conversationId": _here(scene), "type": "text", "content": {"text": text}})


def _here(scene: Scene) -> str:
    if scene.conversation is None:
        raise Misunderstood("You are in no conversation: /join ID enters one, /conversations lists them.")
    return scene.conversation


def _words(rest: str, usage: str, least: int, most: int) -> list[str]:
    try:
        words = shlex.split(rest)
    except ValueError:
        raise Misunderstood(f"A quotation mark has no partner. Usage: {usage}") from None
    if not least <= len(words) <= most:
        raise Misunderstood(f"Usage: {usage}")
    return words


def _message(word: str, scene: Scene) -> str:
    if not re.fullmatch(r"#?[0-9]{1,16}", word):
        return word
    seq = int(word.removeprefix("#"))
    if seq not in scene.messages:
        raise Misunderstood(f"No message with seq {seq} of this conversation has passed here. Name it by its id.")
    return scene.messages[seq]


def _on_conversation(type_: str, usage: str) -> _Parse:
    def parse_it(rest: str, scene: Scene) -> Send:
        # /join needs to be told which; leaving means this one.
        least = 1 if type_ == "join_conversation" else 0
        words = _words(rest, usage, least, 1)
        return Send(type_, {"conversationId": words[0] if words else _here(scene)})

    return parse_it


def _on_message(type_: str, usage: str) -> _Parse:
    def parse_it(rest: str, scene: Scene) -> Send:
        (word,) = _words(rest, usage, 1, 1)
        return Send(type_, {"messageId": _message(word, scene)})

    return parse_it


def _with_text(usage: str, make: Callable[[str, str, Scene], Send]) -> _Parse:
    def parse_it(rest: str, scene: Scene) -> Send:
        word, _, text = rest.partition(" ")
        if not word or not text.strip():
            raise Misunderstood(f"Usage: {usage}")
        return make(_message(word, scene), text.strip(), scene)

    return parse_it


def _edit(message_id: str, text: str, scene: Scene) -> Send:
    return Send("edit_message", {"messageId": message_id, "content": {"text": text}})


def _reply(message_id: str, text: str, scene: Scene) -> Send:
    sent = _text(text, scene)
    return Send(sent.type, {**sent.data, "replyToId": message_id})


def _reaction(type_: str, usage: str) -> _Parse:
    def parse_it(rest: str, scene: Scene) -> Send:
        word, name = _words(rest, usage, 2, 2)
        return Send(type_, {"messageId": _message(word, scene), "name": name})

    return parse_it


def _position(type_: str, usage: str) -> _Parse:
    def parse_it(rest: str, scene: Scene) -> Send:
        here = _here(scene)
        words = _words(rest, usage, 0, 1)
        seq = _seq(words[0], usage) if words else scene.last_seq
        if seq is None:
            raise Misunderstood(f"Nothing has passed here yet. Usage: {usage}")
        return Send(type_, {"conversationId": here, "seq": seq})

    return parse_it


def _seq(word: str, usage: str) -> int:
    if not re.fullmatch(r"#?[0-9]{1,16}", word):
        raise Misunderstood(f"{word} is no seq. Usage: {usage}")
    return int(word.removeprefix("#"))


def _typing(rest: str, scene: Scene) -> Send:
    (word,) = _words(rest, "/typing [on|off]", 0, 1) or ["on"]
    if word not in {"on", "off"}:
        raise Misunderstood("Usage: /typing [on|off]")
    return Send("typing_start" if word == "on" else "typing_stop", {"conversationId": _here(scene)})


def _presence(rest: str, scene: Scene) -> Send:
    (word,) = _words(rest, "/presence online|away|offline", 1, 1)
    if word not in {"online", "away", "offline"}:
        raise Misunderstood("Usage: /presence online|away|offline")
    return Send("set_presence", {"status": word})


def _resume(rest: str, scene: Scene) -> Action:
    usage = "/resume [ID SEQ]…"
    words = _words(rest, usage, 0, 2000)
    if not words:
        return Local("resume")
    if len(words) % 2:
        raise Misunderstood(f"Usage: {usage}")
    return Send("resume", {"conversations": {words[i]: _seq(words[i + 1], usage) for i in range(0, len(words), 2)}})


def _by_hand(rest: str, scene: Scene) -> SendAsIs:
    try:
        frame = json.loads(rest)
    except ValueError as error:
        raise Misunderstood(f"That is not JSON: {error}.") from None
    except RecursionError:
        raise Misunderstood("That is nested too deep.") from None
    if not isinstance(frame, dict):
        raise Misunderstood('A frame is a JSON object, such as {"type": "ping"}.')
    return SendAsIs(frame)


def _local(name: Literal["conversations", "help", "quit"]) -> _Parse:
    def parse_it(rest: str, scene: Scene) -> Local:
        return Local(name, rest)

    return parse_it


def _ping(rest: str, scene: Scene) -> Send:
    _words(rest, "/ping", 0, 0)
    return Send("ping", {})


def _table() -> Mapping[str, SlashCommand]:
    conversation = {
        "join": (
            "join_conversation",
            "/join ID",
            "enter a conversation: its typing, presence and read events come, too",
        ),
        "leave": ("leave_conversation", "/leave [ID]", "leave it again; its durable events keep coming"),
    }
    reaction = {
        "react": ("add_reaction", "/react MESSAGE NAME", "give a reaction, such as 👍"),
        "unreact": ("remove_reaction", "/unreact MESSAGE NAME", "take it back"),
    }
    position = {
        "read": ("mark_read", "/read [SEQ]", "say how far you have read: to the end, or to SEQ"),
        "delivered": ("mark_delivered", "/delivered [SEQ]", "say how far everything has arrived"),
    }
    edit, reply, delete = "/edit MESSAGE TEXT", "/reply MESSAGE TEXT", "/delete MESSAGE"
    return {
        **{
            name: SlashCommand(usage, does, _on_conversation(kind, usage))
            for name, (kind, usage, does) in conversation.items()
        },
        "conversations": SlashCommand("/conversations", "list your conversations", _local("conversations")),
        "reply": SlashCommand(reply, "answer a message", _with_text(reply, _reply)),
        "edit": SlashCommand(edit, "change a message of yours", _with_text(edit, _edit)),
        "delete": SlashCommand(delete, "delete a message for everyone", _on_message("delete_message", delete)),
        **{name: SlashCommand(usage, does, _reaction(kind, usage)) for name, (kind, usage, does) in reaction.items()},
        **{name: SlashCommand(usage, does, _position(kind, usage)) for name, (kind, usage, does) in position.items()},
        "typing": SlashCommand("/typing [on|off]", "show yourself typing, or not any more", _typing),
        "presence": SlashCommand("/presence online|away|offline", "say how others see you", _presence),
        "resume": SlashCommand("/resume [ID SEQ]…", "ask for what came after the seqs that you hold, or name", _resume),
        "ping": SlashCommand("/ping", "ask whether the server is there", _ping),
        "frame": SlashCommand("/frame JSON", "send a frame as it is", _by_hand),
        "help": SlashCommand("/help [COMMAND]", "this list", _local("help")),
        "quit": SlashCommand("/quit", "end; so does Ctrl-D", _local("quit")),
    }


COMMANDS: Mapping[str, SlashCommand] = _table()
