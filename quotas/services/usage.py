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
"""A row says when it was changed, which is a moment before its transaction commits."""
MIRROR_BATCH = 1000
MIRROR_MARKER = "quota:mirror"
"""Holds when the mirror was last written."""


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
    """Writes counts into Redis for dashboards, and returns how many.

    Normally only rows that changed since the run before, which a marker beside them tells, however long ago that was;
    every row of this month when the marker is gone, which is what a flushed or new Redis looks like. Nobody asks the
    mirror for permission. Raises redis.RedisError.
    """
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        mirrored_at = _find_time(client.get(MIRROR_MARKER))
        rows = MonthlyUsage.objects.order_by("tenant_id", "month").values_list("tenant_id", "month", "messages")
        if mirrored_at is None:
            rows = rows.filter(month=month_of(now))
        else:
            rows = rows.filter(updated_at__gte=mirrored_at - MIRROR_OVERLAP)
        written = 0
        pipeline = client.pipeline(transaction=False)
        for tenant_id, month, messages in rows.iterator(chunk_size=MIRROR_BATCH):
            pipeline.set(mirror_key(tenant_id, f"{month:%Y-%m}"), messages, ex=MIRROR_LIFETIME)
            written += 1
            if written % MIRROR_BATCH == 0:
                pipeline.execute()
        pipeline.set(MIRROR_MARKER, now.isoformat(), ex=MIRROR_LIFETIME)
        pipeline.execute()
    return written


def _find_time(marker: bytes | None) -> datetime | None:
    try:
        return None if marker is None else datetime.fromisoformat(marker.decode())
    except ValueError:
        return None
