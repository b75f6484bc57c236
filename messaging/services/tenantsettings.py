"""What a tenant chose for all of its conversations."""

from collections.abc import Mapping
from typing import Any

from messaging.models import TenantSettings


def get_tenant_settings() -> TenantSettings:
    """The scope's tenant's; the defaults where it never chose. One row."""
    return TenantSettings.objects.filter(pk=1).first() or TenantSettings()


def change_tenant_settings(change: Mapping[str, Any]) -> TenantSettings:
    """Changes what `change` names."""
    TenantSettings.objects.bulk_create([TenantSettings()], ignore_conflicts=True)
    chosen = TenantSettings.objects.select_for_update().get(pk=1)
    chosen.membership_messages = change.get("membershipMessages", chosen.membership_messages)
    chosen.save()
    return chosen
