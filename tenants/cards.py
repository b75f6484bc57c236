"""What requests need to know of tenants and credentials, frozen, so that it can be cached and shared by threads."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from uuid import UUID


def _grants(scopes: frozenset[str], scope: str) -> bool:
    """Whether the scopes hold `scope`. None at all, or `*`, means every scope; `messages:*` every one of messages."""
    return not scopes or "*" in scopes or scope in scopes or f"{scope.partition(':')[0]}:*" in scopes


@dataclass(frozen=True, slots=True)
class TenantCard:
    id: UUID
    schema_name: str
    subdomain: str
    status: str
    allowed_origins: frozenset[str]
    tokens_valid_after: datetime | None


@dataclass(frozen=True, slots=True)
class KeyCard:
    id: UUID
    kind: str
    scopes: frozenset[str]
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    expires_at: datetime | None
    tenant: TenantCard

    @property
    def is_secret(self) -> bool:
        return self.kind == "secret"

    def allows(self, scope: str) -> bool:
        return _grants(self.scopes, scope)


@dataclass(frozen=True, slots=True)
class UserClaims:
    """What a verified user token says."""

    external_user_id: str
    issued_at: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling a tenant's routes.

    `claims` is set when a user token was sent; `acting_user` is the `X-Acting-User` header, honoured for secret keys.
    """

    key: KeyCard
    claims: UserClaims | None = None
    acting_user: str | None = None

    is_authenticated = True  # what DRF asks of a user object

    @property
    def tenant(self) -> TenantCard:
        return self.key.tenant

    @property
    def is_integrator(self) -> bool:
        """A secret key speaks for the whole tenant; a publishable one only for its token's user."""
        return self.key.is_secret


@dataclass(frozen=True, slots=True)
class PlatformCaller:
    """Platform staff or their scripts."""

    token_id: UUID
    name: str
    scopes: frozenset[str]

    is_authenticated = True

    def allows(self, scope: str) -> bool:
        return _grants(self.scopes, scope)
