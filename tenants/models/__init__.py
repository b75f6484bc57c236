"""The public schema's record of customers and credentials."""

from tenants.models.apikey import ApiKey, KeyKind
from tenants.models.domain import Domain
from tenants.models.outbox import Feed, OutboxEvent
from tenants.models.platformtoken import PlatformToken
from tenants.models.removal import StorageRemoval
from tenants.models.tenant import Tenant, TenantStatus
from tenants.models.timer import Timer
from tenants.models.tokensecret import TokenSecret

__all__ = [
    "ApiKey",
    "Domain",
    "Feed",
    "KeyKind",
    "OutboxEvent",
    "PlatformToken",
    "StorageRemoval",
    "Tenant",
    "TenantStatus",
    "Timer",
    "TokenSecret",
]
