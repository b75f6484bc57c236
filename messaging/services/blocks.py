"""Blocking: not hearing from somebody, and not being written to by them directly."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from messagecore.kernel import wire
from messagecore.kernel.api.paging import behind
from messagecore.kernel.errors import Conflict
from messaging.events import BlockChanged, ToUser
from messaging.models import User, UserBlock
from messaging.queries.unread import places_of, unread_counts
from messaging.rendering import render_unread
from messaging.services import log

MAX_BLOCKS = 1000
"""People that one user may block: what a connection holds of them, and what every unread count looks through."""


def block_user(*, tenant_id: UUID, user: User, blocked: User, now: datetime) -> bool:
    """From now on `user` sees nothing that `blocked` wrote or writes; whether that is new. Their own devices hear.

    Raises Conflict (oneself, or MAX_BLOCKS).
    """
    if user.id == blocked.id:
        raise Conflict("Nobody blocks themselves.")
    # The row's lock makes the limit exact; two devices at once block one after the other.
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    standing = UserBlock.objects.filter(blocker=user)
    if standing.filter(blocked=blocked).exists():
        return False
    if standing.count() >= MAX_BLOCKS:
        raise Conflict(f"A user blocks at most {MAX_BLOCKS} others.")
    before = unread_counts(user.id)
    UserBlock.objects.create(blocker=user, blocked=blocked, created_at=now)
    _announce(tenant_id, user, blocked, is_blocked=True, unread_before=before, now=now)
    return True


def unblock_user(*, tenant_id: UUID, user: User, blocked: User, now: datetime) -> None:
    """What `blocked` wrote is seen again, all of it. Unblocking whom one does not block changes nothing."""
    before = unread_counts(user.id)
    deleted, _ = UserBlock.objects.filter(blocker=user, blocked=blocked).delete()
    if deleted:
        _announce(tenant_id, user, blocked, is_blocked=False, unread_before=before, now=now)


def list_blocks(*, user_id: UUID, after: tuple[datetime, UUID] | None, limit: int) -> list[UserBlock]:
    """In order of blocking, behind the cursor (created_at, the blocked one's id), with the people."""
    found = UserBlock.objects.filter(blocker_id=user_id).select_related("blocked").order_by("created_at", "blocked_id")
    if after is not None:
        found = found.filter(behind(("created_at", "blocked_id"), after))
    return list(found[:limit])


def blocked_by(user_ids: Sequence[UUID]) -> dict[UUID, frozenset[UUID]]:
    """Whom each of these users blocks; who blocks nobody is left out. One index scan."""
    found: dict[UUID, set[UUID]] = {}
    for blocker_id, blocked_id in UserBlock.objects.filter(blocker_id__in=user_ids).values_list(
        "blocker_id", "blocked_id"
    ):
        found.setdefault(blocker_id, set()).add(blocked_id)
    return {blocker_id: frozenset(blocked) for blocker_id, blocked in found.items()}


def _announce(
    tenant_id: UUID,
    user: User,
    blocked: User,
    *,
    is_blocked: bool,
    unread_before: Mapping[UUID, int],
    now: datetime,
) -> None:
    """The change, and the unread counts that are others because of it."""
    data = {
        "userId": str(blocked.id),
        "externalUserId": blocked.external_user_id,
        "timestamp": wire.timestamp(now),
    }
    changed = [
        place
        for place in places_of(user.id).fetch()
        if unread_before.get(place.conversation_id, place.unread_count) != place.unread_count
    ]
    log.announce(
        tenant_id,
        [
            BlockChanged(user.id, blocked.id, is_blocked, data),
            *(ToUser(user.id, "unread_updated", render_unread(place, now)) for place in changed),
        ],
    )
