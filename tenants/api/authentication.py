"""DRF authentication for tenants' routes and for the platform's."""

import ipaddress
from typing import Any

from django.conf import settings
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication

from messagecore.kernel import context
from messagecore.kernel.errors import FieldError, Refusal, ValidationFailed
from messagecore.kernel.ids import is_external_id
from tenants.cards import Caller, PlatformCaller
from tenants.services import authentication


class PlatformTokenRequired(Refusal):
    code = "platform_token_required"


class TokenRequired(Refusal):
    code = "token_required"


def client_address(remote: str | None, forwarded_for: str | None) -> str | None:
    """The client's address: the peer's, or, behind TRUSTED_PROXIES proxies, the one the outermost of them saw."""
    if settings.TRUSTED_PROXIES and forwarded_for:
        hops = [hop.strip() for hop in forwarded_for.split(",")]
        candidate = hops[-min(settings.TRUSTED_PROXIES, len(hops))]
        try:
            return str(ipaddress.ip_address(candidate))
        except ValueError:
            return None
    return remote


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer …` header, None when there is none."""
    scheme, _, value = (header or "").partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


def host_without_port(host: str) -> str:
    return host.rsplit(":", 1)[0].lower().rstrip(".") if not host.endswith("]") else host


class ApiKeyAuthentication(BaseAuthentication):
    """`X-API-Key`, with a user token in `Authorization` where the key is publishable."""

    def authenticate(self, request: Any) -> tuple[Caller, None]:
        headers = request.headers
        now = timezone.now()
        given_key, token = self.credentials(request)
        key = authentication.authenticate_key(
            given_key,
            now=now,
            host=host_without_port(headers.get("Host", "")),
            address=client_address(request.META.get("REMOTE_ADDR"), headers.get("X-Forwarded-For")),
            origin=headers.get("Origin"),
        )
        context.tenant.set(key.tenant.schema_name)
        if token is None and not key.is_secret:
            raise TokenRequired
        claims = None if token is None else authentication.verify_user_token(key.tenant, token, now=now)
        acting_user = headers.get("X-Acting-User") if key.is_secret else None
        return Caller(key=key, claims=claims, acting_user=_read_id(acting_user)), None

    def credentials(self, request: Any) -> tuple[str | None, str | None]:
        """The key and the token that the request brings."""
        return request.headers.get("X-API-Key"), bearer(request.headers.get("Authorization"))

    def authenticate_header(self, request: Any) -> str:
        return "ApiKey"


class ConnectionAuthentication(ApiKeyAuthentication):
    """As sockets are: where no headers can be set (`EventSource`), by `apiKey` and `token` in the query."""

    def credentials(self, request: Any) -> tuple[str | None, str | None]:
        key, token = super().credentials(request)
        query = request.query_params
        return key or query.get("apiKey"), token or query.get("token")


def _read_id(header: str | None) -> str | None:
    """Header values are Latin-1 on the wire; ids beyond it come as UTF-8 bytes. Raises ValidationFailed for what
    can be no id, the empty one too: whoever names nobody by mistake must not become the whole tenant."""
    if header is None:
        return None
    try:
        name = header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        name = header
    if not is_external_id(name):
        raise ValidationFailed([FieldError("/X-Acting-User", "must be 1 to 255 characters without control characters")])
    return name


class PlatformAuthentication(BaseAuthentication):
    """`Authorization: Bearer mc_pt_…`."""

    def authenticate(self, request: Any) -> tuple[PlatformCaller, None]:
        token = bearer(request.headers.get("Authorization"))
        if token is None:
            raise PlatformTokenRequired
        return authentication.authenticate_platform_token(token, now=timezone.now()), None

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"
