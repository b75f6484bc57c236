"""A tenant together with its plan: opening one, moving it to another plan."""

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from messagecore.kernel.errors import Refusal
from quotas.models import Plan, StandingUsage, Subscription
from quotas.services.limits import forget_cached_limits
from tenants.models import Tenant
from tenants.services.lifecycle import update_tenant
from tenants.services.provisioning import ProvisionedTenant, create_tenant

OVERRIDABLE = ("max_users", "max_messages", "retention_days", "max_storage_bytes", "max_connections")


class PlanNotFound(Refusal):
    code = "plan_not_found"


def open_account(*, name: str, subdomain: str, plan_type: str) -> ProvisionedTenant:
    """A provisioned tenant on a plan: all of it or nothing.

    Raises PlanNotFound, and what `tenants.services.provisioning.create_tenant` raises.
    """
    plan = get_plan(plan_type)
    with transaction.atomic():
        provisioned = create_tenant(name=name, subdomain=subdomain)
        Subscription.objects.create(tenant=provisioned.tenant, plan=plan)
        StandingUsage.objects.create(tenant=provisioned.tenant)
    return provisioned


def change_account(
    *,
    tenant: Tenant,
    name: str | None,
    allowed_origins: list[str] | None,
    plan_type: str | None,
    overrides: Mapping[str, int | None],
    now: datetime,
) -> Tenant:
    """Changes what is not None of a tenant, and its plan and overrides: all of it or nothing. Raises PlanNotFound."""
    with transaction.atomic():
        change_plan(tenant=tenant, plan_type=plan_type, overrides=overrides)
        return update_tenant(tenant=tenant, name=name, allowed_origins=allowed_origins, now=now)


def get_plan(plan_type: str) -> Plan:
    plan = Plan.objects.filter(plan_type=plan_type).first()
    if plan is None:
        raise PlanNotFound
    return plan


def change_plan(
    *, tenant: Tenant, plan_type: str | None = None, overrides: Mapping[str, int | None] | None = None
) -> None:
    """Moves a tenant to another plan, or sets overrides (None: back to the plan's). What is over a lower limit is
    kept; only creation is refused. Raises PlanNotFound."""
    fields: dict[str, object] = dict(overrides or {})
    unknown = fields.keys() - set(OVERRIDABLE)
    if unknown:
        raise ValueError(f"no such limit: {', '.join(sorted(unknown))}")
    if plan_type is not None:
        fields["plan"] = get_plan(plan_type)
    if fields:
        with transaction.atomic():
            subscription = Subscription.objects.select_for_update().get(tenant=tenant)
            for name, value in fields.items():
                setattr(subscription, name, value)
            subscription.save(update_fields=[*fields, "updated_at"])
            transaction.on_commit(forget_cached_limits)
