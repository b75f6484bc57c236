"""The two kinds of view: one acts inside a tenant, one on the platform."""

from collections.abc import Iterator
from contextlib import contextmanager

from messagecore.kernel.api.operations import ApiView, Call
from messagecore.kernel.errors import Refusal
from tenants.api.authentication import ApiKeyAuthentication, PlatformAuthentication
from tenants.cards import Caller, PlatformCaller
from tenants.scope import tenant_scope


class ScopeMissing(Refusal):
    """`details.scope` names what is lacking."""

    code = "scope_missing"

    def __init__(self, holder: str, scope: str) -> None:
        super().__init__(f"The {holder} lacks the scope {scope}.", details={"scope": scope})


class TenantView(ApiView):
    """Runs its handlers in the caller's tenant, each in one transaction that commits before the answer is written."""

    authentication_classes = [ApiKeyAuthentication]
    common_errors = (
        "api_key_required",
        "invalid_api_key",
        "tenant_inactive",
        "origin_not_allowed",
        "scope_missing",
        "token_required",
        "invalid_token",
        "token_expired",
        "user_inactive",
        "user_banned",
    )
    security: tuple[tuple[str, ...], ...] = (("apiKey",), ("apiKey", "userToken"))

    @contextmanager
    def entered(self, call: Call) -> Iterator[None]:
        self.require_scope(call)
        caller: Caller = call.caller
        with tenant_scope(caller.tenant, at_one_moment=call.request.method == "GET"):
            yield

    def require_scope(self, call: Call) -> None:
        """Raises ScopeMissing if the key may not do this."""
        caller: Caller = call.caller
        if call.operation.scope and not caller.key.allows(call.operation.scope):
            raise ScopeMissing("key", call.operation.scope)


class PlatformView(ApiView):
    """For platform staff and their scripts: the public schema, no tenant."""

    authentication_classes = [PlatformAuthentication]
    common_errors = ("platform_token_required", "invalid_platform_token", "scope_missing")
    security = (("platformToken",),)

    @contextmanager
    def entered(self, call: Call) -> Iterator[None]:
        caller: PlatformCaller = call.caller
        if call.operation.scope and not caller.allows(call.operation.scope):
            raise ScopeMissing("token", call.operation.scope)
        yield
