"""Whose presence is what: users by either id, and the tenant's users who are there."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from messaging import ports
from messaging.models import User
from messaging.ports import Presence
from messaging.queries.identity import resolve


@dataclass(frozen=True, slots=True)
class UserWithPresence:
    user: User
    presence: Presence


@dataclass(frozen=True, slots=True)
class OnlineUsers:
    """A page of them, and after whom the next begins, if there is one."""

    users: Sequence[UserWithPresence]
    next_after: UUID | None


def presence_of_users(*, tenant_id: UUID, names: Sequence[str]) -> list[UserWithPresence]:
    """The users that these ids of either kind name, each once, in that order; ids that name nobody are left out. Two
    statements and one question to the store, whatever the number."""
    found = resolve("user", names)
    ids = list(dict.fromkeys(found[name] for name in names if name in found))
    presence = ports.presence_reader().presence_of(tenant_id, ids)
    users = User.objects.in_bulk(ids)
    return [UserWithPresence(users[user_id], presence[user_id]) for user_id in ids if user_id in users]


def list_online(*, tenant_id: UUID, after: UUID | None, limit: int) -> OnlineUsers:
    """The users who are online or away, in the order of their ids, behind `after`. A page may have fewer than `limit`
    and yet a next one: who left while it was made is not in it. One statement and one question to the store, which
    raises ServiceUnavailable if it cannot answer."""
    page = ports.presence_reader().online_after(tenant_id, after, limit=limit)
    users = User.objects.in_bulk(list(page.users))
    shown = [UserWithPresence(users[user_id], presence) for user_id, presence in page.users.items() if user_id in users]
    return OnlineUsers(shown, page.next_after)
