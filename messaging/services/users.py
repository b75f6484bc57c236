"""Users: create or update, change, tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from messagecore.kernel import ids
from messagecore.kernel.errors import Conflict, FieldError, Refusal, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messaging.access import check_not_banned
from messaging.models import User
from quotas.services.limits import get_limits
from quotas.services.metering import UserQuotaExceeded, take_users
from tenants.cards import TenantCard
from tenants.services.authentication import mint_user_token

DEFAULT_TOKEN_LIFETIME = timedelta(hours=24)

_FIELDS = {"displayName": "display_name", "avatarUrl": "avatar_url", "email": "email", "metadata": "metadata"}


class IdConflict(Refusal):
    code = "id_conflict"


@dataclass(frozen=True, slots=True)
class Upserted:
    user: User
    created: bool


def upsert_users(*, tenant_id: UUID, bodies: Sequence[Mapping[str, Any]], now: datetime) -> list[Upserted]:
    """Creates or updates users by `externalUserId`, in order; fields that a body lacks stay as they are.

    All or none: the user quota is exact and counts the new ones only. Three statements and two for the quota,
    whatever the number; a user made at the same moment elsewhere is updated, not doubled.
    Raises IdConflict, UserQuotaExceeded, ValidationFailed (an id given twice).
    """
    wanted = [body["externalUserId"] for body in bodies]
    twice = [position for position, external_id in enumerate(wanted) if external_id in wanted[:position]]
    if twice:
        raise ValidationFailed([FieldError(f"/users/{at}/externalUserId", "is given twice") for at in twice])
    server_ids = [uuid for external_id in wanted if (uuid := find_uuid(external_id)) is not None]
    if server_ids and User.objects.filter(id__in=server_ids).exists():
        raise IdConflict("An externalUserId equals the id of an existing user.")

    fresh = [
        User(
            id=ids.new_id(),
            external_user_id=body["externalUserId"],
            **given_columns(body),
            created_at=now,
            updated_at=now,
        )
        for body in bodies
    ]
    made_ids = _insert_missing(fresh)
    _take(tenant_id, len(made_ids))
    by_external_id = {user.external_user_id: user for user in User.objects.filter(external_user_id__in=wanted)}
    changed = []
    for body in bodies:
        user = by_external_id[body["externalUserId"]]
        if user.id not in made_ids and _apply(user, body, now):
            changed.append(user)
    if changed:
        User.objects.bulk_update(changed, [*_FIELDS.values(), "updated_at"])
    return [Upserted(by_external_id[external_id], by_external_id[external_id].id in made_ids) for external_id in wanted]


def _insert_missing(fresh: Sequence[User]) -> set[UUID]:
    """Inserts those whose external id is free, and returns the ids that were inserted. Sorted, so that two batches
    with the same people in another order do not wait for each other."""
    User.objects.bulk_create(sorted(fresh, key=lambda user: user.external_user_id), ignore_conflicts=True)
    return set(User.objects.filter(id__in=[user.id for user in fresh]).values_list("id", flat=True))


def _take(tenant_id: UUID, count: int) -> None:
    limit = get_limits(tenant_id).max_users
    try:
        take_users(tenant_id, count, limit=limit)
    except UserQuotaExceeded:
        raise UserQuotaExceeded(f"The plan allows {limit} active users.") from None


def update_user(*, user: User, body: Mapping[str, Any], now: datetime) -> User:
    """Changes what the body holds; an empty string clears."""
    locked = User.objects.select_for_update().get(pk=user.pk)
    if _apply(locked, body, now):
        locked.save(update_fields=[*_FIELDS.values(), "updated_at"])
    return locked


def given_columns(body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a body sets. An empty string clears a text: it is stored as null, which reads as absent."""
    return {column: None if body[name] == "" else body[name] for name, column in _FIELDS.items() if name in body}


def _apply(user: User, body: Mapping[str, Any], now: datetime) -> bool:
    changes = {column: value for column, value in given_columns(body).items() if getattr(user, column) != value}
    for column, value in changes.items():
        setattr(user, column, value)
    if changes:
        user.updated_at = now
    return bool(changes)


def mint_token(*, tenant: TenantCard, user: User, lifetime: timedelta | None, now: datetime) -> tuple[str, datetime]:
    """A token with which this user may call, and when it expires. Raises Conflict (deactivated), UserBanned."""
    if not user.is_active:
        raise Conflict("The user is deactivated.")
    check_not_banned(user, now=now)
    return mint_user_token(tenant, user.external_user_id, lifetime=lifetime or DEFAULT_TOKEN_LIFETIME, now=now)
