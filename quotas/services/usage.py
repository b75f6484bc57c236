"""What a tenant used, set against its limits, and the mirror of it in Redis."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import redis
from django.conf import settings

from quotas.models import MonthlyUsage, StandingUsage
from quotas.services.limits import read_limits
from quotas.services.metering import month_of, month_resets_at

MIRROR_LIFETIME = timedelta(days=32)
MIRROR_OVERLAP = timedelta(seconds=15)
MIRROR_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Meter:
    current: int
    limit: int

    @property
    def percentage(self) -> float:
        """0-100 and beyond, two decimals. A limit of nothing is used up by definition."""
        return round(100 * self.current / self.limit, 2) if self.limit else 100.0


@dataclass(frozen=True, slots=True)
class Usage:
    users: Meter
    messages: Meter
    storage: Meter
    connections: Meter
    month: str
    resets_at: datetime


def get_usage(tenant_id: UUID, *, connections: int, now: datetime) -> Usage:
    """From the authority, not from the mirror. `connections` is what realtime counts at the moment."""
    limits = read_limits(tenant_id)
    standing = StandingUsage.objects.get(tenant_id=tenant_id)
    month = month_of(now)
    sent = MonthlyUsage.objects.filter(tenant_id=tenant_id, month=month).values_list("messages", flat=True).first()
    return Usage(
        users=Meter(standing.active_users, limits.max_users),
        messages=Meter(sent or 0, limits.max_messages),
        storage=Meter(standing.storage_bytes, limits.max_storage_bytes),
        connections=Meter(connections, limits.max_connections),
        month=f"{month:%Y-%m}",
        resets_at=month_resets_at(now),
    )


def mirror_key(tenant_id: UUID, month: str) -> str:
    return f"quota:messages:{tenant_id}:{month}"


def mirror_usage(*, now: datetime) -> int:
    """Writes this month's counts into Redis for dashboards, and returns how many.

    Normally only rows that changed a moment ago; every row when a marker that lives beside them is gone, which is
    what a flushed or new Redis looks like. Nobody asks the mirror for permission.
    """
    client = redis.Redis.from_url(settings.REDIS_URL)
    month = month_of(now)
    marker = f"quota:mirror:{month:%Y-%m}"
    rows = MonthlyUsage.objects.filter(month=month).order_by("tenant_id").values_list("tenant_id", "messages")
    if client.exists(marker):
        rows = rows.filter(updated_at__gte=now - MIRROR_OVERLAP)
    written = 0
    pipeline = client.pipeline(transaction=False)
    for tenant_id, messages in rows.iterator(chunk_size=MIRROR_BATCH):
        pipeline.set(mirror_key(tenant_id, f"{month:%Y-%m}"), messages, ex=MIRROR_LIFETIME)
        written += 1
        if written % MIRROR_BATCH == 0:
            pipeline.execute()
    pipeline.set(marker, 1, ex=MIRROR_LIFETIME)
    pipeline.execute()
    client.close()
    return written
