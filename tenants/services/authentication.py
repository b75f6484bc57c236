"""Finding out who calls: from a key, a token, a host, an origin, an address."""

import ipaddress
import threading
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import jwt
from cachetools import TTLCache
from django.conf import settings
from django.db.models import Q

from messagecore.kernel.errors import Refusal
from messagecore.kernel.ids import is_external_id
from tenants import secrets
from tenants.cards import KeyCard, PlatformCaller, TenantCard, UserClaims
from tenants.models import ApiKey, Domain, PlatformToken, Tenant, TenantStatus, TokenSecret

CACHE_SECONDS = 3.0
"""How long a process may go on believing what it read. Revocation is promised everywhere within 5 s."""

LAST_USED_EVERY = timedelta(minutes=1)
CLOCK_SKEW_SECONDS = 10
TOKEN_ALGORITHM = "HS256"  # noqa: S105 - a name, not a secret


class ApiKeyRequired(Refusal):
    code = "api_key_required"


class InvalidApiKey(Refusal):
    code = "invalid_api_key"


class TenantInactive(Refusal):
    code = "tenant_inactive"


class OriginNotAllowed(Refusal):
    code = "origin_not_allowed"


class InvalidToken(Refusal):
    code = "invalid_token"


class TokenExpired(Refusal):
    code = "token_expired"


class InvalidPlatformToken(Refusal):
    code = "invalid_platform_token"


Value = TypeVar("Value")


class _Remembered:
    """A bounded cache whose entries live CACHE_SECONDS. What was not found is not kept: a new key works at once."""

    def __init__(self, size: int) -> None:
        self._entries: TTLCache[Hashable, Any] = TTLCache(size, CACHE_SECONDS)
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], Value | None]) -> Value | None:
        with self._lock:
            value: Value | None = self._entries.get(key)
        if value is None:
            value = load()
            if value is not None:
                with self._lock:
                    self._entries[key] = value
        return value

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


_keys = _Remembered(50_000)
_token_secrets = _Remembered(20_000)
_platform_tokens = _Remembered(1_000)
_hosts = _Remembered(20_000)
_caches = (_keys, _token_secrets, _platform_tokens, _hosts)


def forget_cached_credentials() -> None:
    """Makes this process read everything anew; for tests and for the process that just changed something."""
    for cache in _caches:
        cache.clear()


def tenant_card(tenant: Tenant) -> TenantCard:
    return TenantCard(
        id=tenant.id,
        schema_name=tenant.schema_name,
        subdomain=tenant.subdomain,
        status=tenant.status,
        allowed_origins=frozenset(tenant.allowed_origins),
        tokens_valid_after=tenant.tokens_valid_after,
    )


def authenticate_key(raw: str | None, *, now: datetime, host: str, address: str | None, origin: str | None) -> KeyCard:
    """The key behind `raw`, if it may be used from here. No query while the process remembers it.

    `host` is the Host header without port: a key used on another tenant's host is refused like one that does not
    exist. `address` is the client's, `origin` its Origin header.
    Raises ApiKeyRequired, InvalidApiKey, TenantInactive, OriginNotAllowed.
    """
    if not raw:
        raise ApiKeyRequired
    if not secrets.is_well_formed(raw, secrets.SECRET_KEY, secrets.PUBLISHABLE_KEY):
        raise InvalidApiKey
    key = _keys.get(raw, lambda: _load_key(raw, now))
    if key is None or (key.expires_at is not None and key.expires_at <= now):
        raise InvalidApiKey
    if key.allowed_networks and not _is_within(address, key):
        raise InvalidApiKey
    if (owner := _host_owner(host)) is not None and owner != key.tenant.id:
        raise InvalidApiKey
    if key.tenant.status != TenantStatus.ACTIVE:
        raise TenantInactive
    if origin is not None and key.tenant.allowed_origins and origin not in key.tenant.allowed_origins:
        raise OriginNotAllowed
    return key


def _load_key(raw: str, now: datetime) -> KeyCard | None:
    row = ApiKey.objects.select_related("tenant").filter(digest__in=secrets.digests(raw), revoked_at=None).first()
    if row is None:
        return None
    ApiKey.objects.filter(pk=row.pk).filter(Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_EVERY)).update(
        last_used_at=now
    )
    return KeyCard(
        id=row.id,
        kind=row.kind,
        scopes=frozenset(row.scopes),
        allowed_networks=tuple(ipaddress.ip_network(network) for network in row.allowed_networks),
        expires_at=row.expires_at,
        tenant=tenant_card(row.tenant),
    )


def _is_within(address: str | None, key: KeyCard) -> bool:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # how a socket that listens to both families shows an IPv4 peer
    return any(parsed in network for network in key.allowed_networks)


def _host_owner(host: str) -> UUID | None:
    """The tenant that a host belongs to; None for the platform's own hosts and plain addresses."""
    if host == settings.TENANT_BASE_DOMAIN or not host:
        return None
    found = _hosts.get(host, lambda: _load_host(host))
    return found[0] if found is not None else None


def _load_host(host: str) -> tuple[UUID | None]:
    return (Domain.objects.filter(domain=host).values_list("tenant_id", flat=True).first(),)


def verify_user_token(tenant: TenantCard, token: str, *, now: datetime) -> UserClaims:
    """What a user token says, after its signature, algorithm, issuer and times were checked.

    `kid`, `iss`, `iat`, `jti` may be missing (integrators sign their own), `exp` and `sub` may not. A token without
    `iat` cannot prove that it is newer than a revocation, so the tenant's (or the user's) revocation ends it.
    Raises TokenExpired, InvalidToken.
    """
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, RecursionError):
        raise InvalidToken from None
    found = _token_secrets.get(tenant.id, lambda: _load_token_secrets(tenant.id)) or {}
    current = {key: secret for key, (secret, retires_at) in found.items() if retires_at is None or retires_at > now}
    candidates = list(current.values()) if kid is None else [current[kid]] if kid in current else []
    claims = _first_valid(token, candidates)
    if (issuer := claims.get("iss")) is not None and issuer != str(tenant.id):
        raise InvalidToken
    issued_at = _time(claims.get("iat"))
    expires_at = _time(claims["exp"])
    if expires_at is None or not is_external_id(claims["sub"]):
        raise InvalidToken
    check_not_revoked(issued_at, tenant.tokens_valid_after)
    return UserClaims(external_user_id=claims["sub"], issued_at=issued_at, expires_at=expires_at)


def is_revoked(issued_at: datetime | None, valid_after: datetime | None) -> bool:
    """Whether a token was issued before `valid_after`. JWT times are whole seconds: one issued in the second of the
    revocation counts as issued after it; one that does not say when it was issued cannot prove that it was."""
    return valid_after is not None and (issued_at is None or issued_at < valid_after.replace(microsecond=0))


def check_not_revoked(issued_at: datetime | None, valid_after: datetime | None) -> None:
    """Raises InvalidToken for a token that `is_revoked`."""
    if is_revoked(issued_at, valid_after):
        raise InvalidToken


def _first_valid(token: str, candidates: list[str]) -> dict[str, Any]:
    for secret in candidates:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                secret,
                algorithms=[TOKEN_ALGORITHM],
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "sub"], "verify_aud": False, "verify_iss": False},
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken from None
        return claims
    raise InvalidToken


def _time(seconds: Any) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidToken from None


def _load_token_secrets(tenant_id: UUID) -> dict[str, tuple[str, datetime | None]] | None:
    rows = TokenSecret.objects.filter(tenant_id=tenant_id)
    return {str(row.id): (secrets.decrypt(bytes(row.ciphertext)), row.retires_at) for row in rows} or None


def mint_user_token(
    tenant: TenantCard, external_user_id: str, *, lifetime: timedelta, now: datetime
) -> tuple[str, datetime]:
    """A signed token for one user, and when it expires. Raises InvalidToken if the tenant has no signing secret."""
    found = _token_secrets.get(tenant.id, lambda: _load_token_secrets(tenant.id)) or {}
    current = [(kid, secret) for kid, (secret, retires_at) in found.items() if retires_at is None]
    if not current:
        raise InvalidToken("The tenant has no token secret.")
    kid, secret = current[0]
    expires_at = (now + lifetime).replace(microsecond=0)
    claims = {
        "iss": str(tenant.id),
        "sub": external_user_id,
        "iat": int(now.timestamp()),
        "exp": int(expires_at.timestamp()),
        "jti": secrets.new_credential("")[:22],
    }
    return jwt.encode(claims, secret, algorithm=TOKEN_ALGORITHM, headers={"kid": kid}), expires_at


def authenticate_platform_token(raw: str, *, now: datetime) -> PlatformCaller:
    """Raises InvalidPlatformToken."""
    if not secrets.is_well_formed(raw, secrets.PLATFORM_TOKEN):
        raise InvalidPlatformToken
    row = _platform_tokens.get(
        raw, lambda: PlatformToken.objects.filter(digest__in=secrets.digests(raw), revoked_at=None).first()
    )
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        raise InvalidPlatformToken
    return PlatformCaller(token_id=row.id, name=row.name, scopes=frozenset(row.scopes))


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """Whether a key still holds, for those who were let in with it a while ago."""

    is_valid: bool
    tenant_is_active: bool
    tokens_valid_after: datetime | None


def key_standings(key_ids: Collection[UUID], *, now: datetime) -> dict[UUID, KeyStanding]:
    """As the database says now, past every cache: one query for any number of keys of any tenants."""
    rows = ApiKey.objects.filter(id__in=key_ids).values_list(
        "id", "revoked_at", "expires_at", "tenant__status", "tenant__tokens_valid_after"
    )
    return {
        key_id: KeyStanding(
            is_valid=revoked_at is None and (expires_at is None or expires_at > now),
            tenant_is_active=status == TenantStatus.ACTIVE,
            tokens_valid_after=valid_after,
        )
        for key_id, revoked_at, expires_at, status, valid_after in rows
    }
