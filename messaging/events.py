"""What happened, in the words in which it is announced to whoever listens. Frozen values, no models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class DurableEvent:
    """An event of a conversation's log, rendered: `data` is what the socket and the feeds show.

    Shape of `data`: the catalogue's schema for `type`; it holds `conversationId`, `seq` and `timestamp`.
    """

    conversation_id: UUID
    seq: int
    type: str
    data: Mapping[str, Any]
    author_id: UUID | None = None
    """Who wrote the message that it is about; whoever blocks them sees only that there is an event."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Users who are in a conversation from now on. Their connections receive its events after `after_seq`, and
    `conversation_created` with `conversation` first."""

    conversation_id: UUID
    user_ids: tuple[UUID, ...]
    after_seq: int
    conversation: Mapping[str, Any]
    timestamp: str


@dataclass(frozen=True, slots=True)
class Left:
    """A user who is out of a conversation from now on: told by `conversation_removed`, and nothing after it.

    `after_seq` is the seq of the event that removed them, which still belongs to their view.
    """

    conversation_id: UUID
    conversation_external_id: str | None
    user_id: UUID
    reason: str
    after_seq: int
    timestamp: str


@dataclass(frozen=True, slots=True)
class ToUser:
    """Current state for all of one user's connections; nobody else's."""

    user_id: UUID
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToOnlookers:
    """Current state for whoever is looking at a conversation."""

    conversation_id: UUID
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expelled:
    """A user whose open connections end now: deactivated, deleted, or their tokens revoked."""

    user_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class BlockChanged:
    """A user blocks another from now on, or no longer. Their own connections hear of it: `data`."""

    user_id: UUID
    blocked_id: UUID
    is_blocked: bool
    data: Mapping[str, Any]


Announcement = DurableEvent | Joined | Left | ToUser | ToOnlookers | Expelled | BlockChanged
