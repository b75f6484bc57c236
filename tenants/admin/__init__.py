"""The Django admin's pages for tenants' domains and for credentials. The tenants themselves, which have a plan, are
registered by `quotas.admin`."""

from tenants.admin.domains import DomainAdmin
from tenants.admin.keys import ApiKeyAdmin
from tenants.admin.platformtokens import PlatformTokenAdmin

__all__ = ["ApiKeyAdmin", "DomainAdmin", "PlatformTokenAdmin"]
