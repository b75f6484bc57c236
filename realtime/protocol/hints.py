"""Hints: what processes tell each other through Redis, as a line of header and the frame's own bytes.

A hint may be lost, late or doubled; the hub makes up for it from the database. The frame travels as it will be
written to sockets, so that no process but the first encodes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID


class EventHint(NamedTuple):
    """A durable event of a conversation. `author_id` wrote the message that it is about."""

    conversation_id: UUID
    seq: int
    frame: str
    author_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class JoinedHint:
    """Users who are in a conversation from now on; its log ended at `after_seq` before they came."""

    conversation_id: UUID
    after_seq: int
    external_id: str | None
    user_ids: tuple[UUID, ...]
    frame: str


@dataclass(frozen=True, slots=True)
class LeftHint:
    """A user who is out of it; the event `after_seq` is the last that is theirs."""

    conversation_id: UUID
    after_seq: int
    user_id: UUID
    frame: str


@dataclass(frozen=True, slots=True)
class TypingHint:
    conversation_id: UUID
    user_id: UUID
    external_user_id: str
    is_typing: bool


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """A user's presence changed; `conversation_ids` are those whose onlookers may care."""

    user_id: UUID
    conversation_ids: tuple[UUID, ...]
    frame: str


@dataclass(frozen=True, slots=True)
class PresenceHint:
    """Users whose presence changed, each once. Of what is said of a user the one with the highest number is true."""

    number: int
    changes: tuple[PresenceChange, ...]


@dataclass(frozen=True, slots=True)
class UserHint:
    """Something for all of one user's connections."""

    user_id: UUID
    frame: str


@dataclass(frozen=True, slots=True)
class OnlookersHint:
    """Something for whoever is looking at a conversation."""

    conversation_id: UUID
    frame: str


@dataclass(frozen=True, slots=True)
class ExpelledHint:
    """A user whose connections end now."""

    user_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class BlockHint:
    """A user blocks somebody from now on, or no longer."""

    user_id: UUID
    blocked_id: UUID
    is_blocked: bool
    frame: str


Hint = (
    EventHint | JoinedHint | LeftHint | TypingHint | PresenceHint | UserHint | OnlookersHint | ExpelledHint | BlockHint
)


def encode(hint: Hint) -> bytes:
    match hint:
        case EventHint():
            author = "-" if hint.author_id is None else hint.author_id.hex
            header = f"e {hint.conversation_id.hex} {hint.seq} {author}"
        case JoinedHint():
            users = _joined(hint.user_ids)
            external = "-" if hint.external_id is None else "=" + hint.external_id.encode().hex()
            header = f"j {hint.conversation_id.hex} {hint.after_seq} {external} {users}"
        case LeftHint():
            header = f"l {hint.conversation_id.hex} {hint.after_seq} {hint.user_id.hex}"
        case TypingHint():
            header = f"t {hint.conversation_id.hex} {hint.user_id.hex} {int(hint.is_typing)}"
            return f"{header}\n{hint.external_user_id}".encode()
        case PresenceHint():
            lines = (f"{one.user_id.hex} {_joined(one.conversation_ids)} {one.frame}" for one in hint.changes)
            return "\n".join((f"p {hint.number}", *lines)).encode()
        case UserHint():
            header = f"u {hint.user_id.hex}"
        case OnlookersHint():
            header = f"o {hint.conversation_id.hex}"
        case BlockHint():
            header = f"b {hint.user_id.hex} {hint.blocked_id.hex} {int(hint.is_blocked)}"
        case ExpelledHint():
            return f"x {hint.user_id.hex}\n{hint.reason}".encode()
    return f"{header}\n{hint.frame}".encode()


def decode(payload: bytes) -> Hint | None:  # noqa: PLR0911 - one return a kind
    """None for what this version does not understand: an older or newer process may share the channel."""
    header, _, body = payload.partition(b"\n")
    try:
        kind, *fields = header.decode().split(" ")
        frame = body.decode()
        match kind, fields:
            case "e", [conversation, seq, author]:
                return EventHint(UUID(conversation), int(seq), frame, None if author == "-" else UUID(author))
            case "j", [conversation, after_seq, external, users]:
                external_id = None if external == "-" else bytes.fromhex(external[1:]).decode()
                return JoinedHint(UUID(conversation), int(after_seq), external_id, _split(users), frame)
            case "l", [conversation, after_seq, user]:
                return LeftHint(UUID(conversation), int(after_seq), UUID(user), frame)
            case "t", [conversation, user, is_typing]:
                return TypingHint(UUID(conversation), UUID(user), frame, is_typing == "1")
            case "p", [number]:
                return PresenceHint(int(number), tuple(map(_presence_change, frame.split("\n"))) if frame else ())
            case "u", [user]:
                return UserHint(UUID(user), frame)
            case "o", [conversation]:
                return OnlookersHint(UUID(conversation), frame)
            case "b", [user, blocked, is_blocked]:
                return BlockHint(UUID(user), UUID(blocked), is_blocked == "1", frame)
            case "x", [user]:
                return ExpelledHint(UUID(user), frame)
    except ValueError:
        return None
    return None


def _presence_change(line: str) -> PresenceChange:
    user, conversations, frame = line.split(" ", 2)
    return PresenceChange(UUID(user), _split(conversations), frame)


def _joined(ids: Sequence[UUID]) -> str:
    return ",".join(one.hex for one in ids)


def _split(text: str) -> tuple[UUID, ...]:
    return tuple(UUID(one) for one in text.split(",") if one)
