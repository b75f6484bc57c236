"""Reading users."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from messagecore.kernel.api.paging import behind
from messaging.models import User
from messaging.queries.messages import SenderView


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
