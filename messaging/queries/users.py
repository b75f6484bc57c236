"""Reading users."""

from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q

from messagecore.kernel.api.paging import behind
from messaging.models import User
from messaging.queries.messages import SenderView
from tenants.pipeline import Read

_BY_EXTERNAL_ID = """
SELECT id, external_user_id, is_active, banned_until, tokens_valid_after
FROM messaging_user WHERE external_user_id = %s"""

_BLOCKED = "SELECT blocked_id FROM messaging_userblock WHERE blocker_id = %s"


class UserRow(NamedTuple):
    """A user, and whether they may do anything."""

    id: UUID
    external_user_id: str
    is_active: bool
    banned_until: datetime | None
    tokens_valid_after: datetime | None


def by_external_id(external_user_id: str) -> Read[UserRow]:
    """One or none. ORM: `User.objects.filter(external_user_id=…)`, of these columns."""
    return Read(_BY_EXTERNAL_ID, [external_user_id], UserRow._make)


def blocked_by_user(user_id: UUID) -> Read[UUID]:
    """Whom the user blocks. An index scan. ORM: `UserBlock.objects.filter(blocker_id=…).values_list("blocked_id")`."""
    return Read(_BLOCKED, [user_id], itemgetter(0))


def references(user_ids: Iterable[UUID]) -> dict[UUID, SenderView]:
    """How these users are shown beside what they did. One statement."""
    rows = User.objects.filter(id__in=set(user_ids)).values_list("id", "external_user_id", "display_name", "avatar_url")
    return {row[0]: SenderView(*row) for row in rows}


def list_users(
    *, after: tuple[datetime, UUID] | None, search: str | None, is_active: bool | None, limit: int
) -> list[User]:
    """Up to `limit` users in order of creation, behind the cursor (created_at, id)."""
    users = User.objects.order_by("created_at", "id")
    if after is not None:
        users = users.filter(behind(("created_at", "id"), after))
    if search is not None:
        users = users.filter(Q(display_name__icontains=search) | Q(external_user_id__icontains=search))
    if is_active is not None:
        users = users.filter(is_active=is_active)
    return list(users[:limit])
