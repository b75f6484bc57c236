"""Reads of the platform over many tenants."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from django.db.models import Q, Sum

from messagecore.kernel.api.paging import behind
from messaging.models import Conversation, Message, User
from quotas.models import StandingUsage
from tenants.models import ApiKey, KeyKind, Tenant
from tenants.scope import tenant_scope

NEWEST_CONVERSATIONS = 10
SHOWN_USERS = 100


def list_tenants(
    *, before: tuple[datetime, UUID] | None, status: str | None, search: str | None, limit: int
) -> list[Tenant]:
    """Newest first, behind the cursor (created_at, id)."""
    found = Tenant.objects.order_by("-created_at", "-id")
    if before is not None:
        found = found.filter(behind(("-created_at", "-id"), before))
    if status is not None:
        found = found.filter(status=status)
    if search is not None:
        found = found.filter(Q(name__icontains=search) | Q(subdomain__icontains=search))
    return list(found[:limit])


def key_prefixes(tenant_ids: Sequence[UUID], *, now: datetime) -> dict[UUID, str]:
    """The visible beginning of each tenant's newest secret key that still works."""
    keys = ApiKey.objects.filter(tenant_id__in=tenant_ids, kind=KeyKind.SECRET, revoked_at=None)
    valid = keys.filter(Q(expires_at=None) | Q(expires_at__gt=now))
    return dict(valid.order_by("created_at", "id").values_list("tenant_id", "prefix"))


def users_and_conversations(tenant: Tenant) -> tuple[list[User], list[Conversation]]:
    """The tenant's newest users and its conversations of the latest activity."""
    with tenant_scope(tenant):
        users = list(User.objects.order_by("-created_at", "-id")[:SHOWN_USERS])
        newest = Conversation.objects.select_related("created_by").order_by("-last_event_at", "-id")[
            :NEWEST_CONVERSATIONS
        ]
        return users, list(newest)


def today(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def active_users() -> int:
    """Not deactivated, over all tenants."""
    return StandingUsage.objects.aggregate(total=Sum("active_users"))["total"] or 0


def activity_since(since: datetime) -> tuple[int, int]:
    """Users who sent something since then, and messages since then, summed over the tenants. One visit a tenant."""
    senders = sent = 0
    for tenant in Tenant.objects.order_by("id").iterator():
        with tenant_scope(tenant):
            recent = Message.objects.filter(recorded_at__gte=since)
            sent += recent.count()
            senders += recent.exclude(sender=None).values("sender_id").distinct().count()
    return senders, sent
