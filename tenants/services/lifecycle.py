"""Suspending, reactivating and closing tenants."""

from datetime import datetime

from django.db import transaction

from messagecore.kernel.errors import Conflict
from tenants.models import Tenant, TenantStatus

_ALLOWED = {
    TenantStatus.SUSPENDED: {TenantStatus.ACTIVE},
    TenantStatus.ACTIVE: {TenantStatus.SUSPENDED},
    TenantStatus.CLOSED: {TenantStatus.ACTIVE, TenantStatus.SUSPENDED},
}


def change_status(*, tenant: Tenant, status: TenantStatus, now: datetime) -> Tenant:
    """Moves a tenant to `status`; asking for the state it is in changes nothing. Refused callers notice within the
    cache time of `authentication`. Raises Conflict: a closed tenant stays closed."""
    with transaction.atomic():
        locked: Tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if locked.status == status:
            return locked
        if locked.status not in _ALLOWED[status]:
            raise Conflict(f"A {locked.status} tenant cannot become {status}.")
        locked.status = status
        locked.updated_at = now
        locked.save(update_fields=["status", "updated_at"])
        return locked


def update_tenant(*, tenant: Tenant, name: str | None, allowed_origins: list[str] | None, now: datetime) -> Tenant:
    """Changes what is not None."""
    changed = {
        field: value for field, value in {"name": name, "allowed_origins": allowed_origins}.items() if value is not None
    }
    if changed:
        for field, value in changed.items():
            setattr(tenant, field, value)
        tenant.updated_at = now
        tenant.save(update_fields=[*changed, "updated_at"])
    return tenant
