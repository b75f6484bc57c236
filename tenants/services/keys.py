"""Making and revoking keys, token secrets and platform tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tenants import secrets
from tenants.models import ApiKey, KeyKind, PlatformToken, Tenant, TokenSecret


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential in clear, to be shown this once."""

    id: UUID
    value: str


def create_api_key(
    *,
    tenant: Tenant,
    kind: KeyKind,
    name: str = "default",
    scopes: Sequence[str] = (),
    allowed_networks: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> NewCredential:
    """`allowed_networks` are addresses or networks as `ipaddress.ip_network` reads them; none: from anywhere."""
    value = secrets.new_credential(secrets.SECRET_KEY if kind == KeyKind.SECRET else secrets.PUBLISHABLE_KEY)
    key = ApiKey.objects.create(
        tenant=tenant,
        kind=kind,
        name=name,
        prefix=secrets.visible_prefix(value),
        digest=secrets.digests(value)[0],
        scopes=list(scopes),
        allowed_networks=list(allowed_networks),
        expires_at=expires_at,
    )
    return NewCredential(key.id, value)


def revoke_api_key(*, key: ApiKey, now: datetime) -> None:
    """Takes effect in every process within `tenants.services.authentication.CACHE_SECONDS`. Idempotent."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now)


def create_token_secret(*, tenant: Tenant) -> NewCredential:
    value = secrets.new_credential(secrets.TOKEN_SECRET)
    secret = TokenSecret.objects.create(tenant=tenant, ciphertext=secrets.encrypt(value))
    return NewCredential(secret.id, value)


def create_platform_token(
    *, name: str, scopes: Sequence[str] = (), expires_at: datetime | None = None, created_by_id: int | None = None
) -> NewCredential:
    value = secrets.new_credential(secrets.PLATFORM_TOKEN)
    token = PlatformToken.objects.create(
        name=name,
        prefix=secrets.visible_prefix(value),
        digest=secrets.digests(value)[0],
        scopes=list(scopes),
        expires_at=expires_at,
        created_by_id=created_by_id,
    )
    return NewCredential(token.id, value)


def revoke_platform_token(*, token: PlatformToken, now: datetime) -> None:
    PlatformToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
