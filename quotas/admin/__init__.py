"""The Django admin's pages for plans, and for tenants with their plan and usage."""

from quotas.admin.plans import PlanAdmin
from quotas.admin.tenants import TenantAdmin

__all__ = ["PlanAdmin", "TenantAdmin"]
