"""Who a message mentions: people of its conversation, and the words for all of them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from messagecore.kernel.errors import FieldError, ValidationFailed
from messaging.access import unknown_ids

HERE, CHANNEL = "here", "channel"
GROUP_MENTIONS = frozenset({HERE, CHANNEL})
"""`here`: whoever is online, `channel`: everybody. They win over a user with such an external id, whom the server's id
still names."""


def people(names: Sequence[str]) -> list[str]:
    """Those of `names` that are meant to be users."""
    return [name for name in names if name not in GROUP_MENTIONS]


def resolve_mentions(names: Sequence[str], users: Mapping[str, UUID]) -> list[str]:
    """As they are stored: server ids and the two words, each once, in order. `users` has the id for each name.

    Raises ValidationFailed, naming the positions that name no user of this tenant.
    """
    missing = [(position, name) for position, name in enumerate(names) if name not in GROUP_MENTIONS | users.keys()]
    if missing:
        raise unknown_ids("/mentions", missing)
    return list(dict.fromkeys(name if name in GROUP_MENTIONS else str(users[name]) for name in names))


def mentioned_users(mentions: Sequence[str]) -> list[UUID]:
    """The users among stored mentions."""
    return [UUID(mention) for mention in mentions if mention not in GROUP_MENTIONS]


def outsiders(names: Sequence[str], users: Mapping[str, UUID], members: frozenset[UUID]) -> ValidationFailed | None:
    """A refusal naming the positions of people who are not `members` of the conversation; None if all are."""
    wrong = [
        FieldError(f"/mentions/{position}", "names nobody in this conversation")
        for position, name in enumerate(names)
        if name not in GROUP_MENTIONS and users[name] not in members
    ]
    return ValidationFailed(wrong) if wrong else None
