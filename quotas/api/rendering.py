"""Usage, limits and plans as clients see them."""

from typing import Any

from messagecore.kernel import wire
from quotas.models import Plan
from quotas.services.usage import Meter, Usage


def _meter(meter: Meter) -> dict[str, Any]:
    return {"current": meter.current, "limit": meter.limit, "percentage": meter.percentage}


def render_usage(usage: Usage) -> dict[str, Any]:
    return {
        "users": _meter(usage.users),
        "messages": {**_meter(usage.messages), "month": usage.month, "resetAt": wire.timestamp(usage.resets_at)},
        "storage": _meter(usage.storage),
        "connections": _meter(usage.connections),
    }


def render_plan(plan: Plan) -> dict[str, Any]:
    return {
        "planType": plan.plan_type,
        "name": plan.name,
        "maxUsers": plan.max_users,
        "maxMessages": plan.max_messages,
        "retentionDays": plan.retention_days,
        "maxStorageBytes": plan.max_storage_bytes,
        "maxConnections": plan.max_connections,
    }
