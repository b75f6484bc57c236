"""The limits in force for a tenant: its plan's, with its overrides."""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from cachetools import TTLCache
from django.db.models import F
from django.db.models.functions import Coalesce

from quotas.models import Subscription

CACHE_SECONDS = 3.0
"""A change of plan takes effect everywhere within 5 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    plan_type: str
    max_users: int
    max_messages: int
    retention_days: int
    max_storage_bytes: int
    max_connections: int


_FIELDS = ("max_users", "max_messages", "retention_days", "max_storage_bytes", "max_connections")
_cache: TTLCache[UUID, Limits] = TTLCache(50_000, CACHE_SECONDS)
_lock = threading.Lock()


def get_limits(tenant_id: UUID) -> Limits:
    """At most CACHE_SECONDS old. Raises Subscription.DoesNotExist for a tenant without a plan."""
    with _lock:
        limits = _cache.get(tenant_id)
    if limits is None:
        limits = read_limits(tenant_id)
        with _lock:
            _cache[tenant_id] = limits
    return limits


def read_limits(tenant_id: UUID) -> Limits:
    """As they are in the database now. Raises Subscription.DoesNotExist for a tenant without a plan."""
    found = read_limits_of([tenant_id])
    if tenant_id not in found:
        raise Subscription.DoesNotExist
    return found[tenant_id]


def read_limits_of(tenant_ids: Collection[UUID]) -> dict[UUID, Limits]:
    """Those of several tenants, as they are in the database now. One statement; tenants without a plan are left out."""
    effective = {f"effective_{name}": Coalesce(F(name), F(f"plan__{name}")) for name in _FIELDS}
    rows = Subscription.objects.annotate(**effective).filter(tenant_id__in=tenant_ids)
    return {
        row["tenant_id"]: Limits(row["plan_id"], *(row[f"effective_{name}"] for name in _FIELDS))
        for row in rows.values("tenant_id", "plan_id", *effective)
    }


def forget_cached_limits() -> None:
    with _lock:
        _cache.clear()
