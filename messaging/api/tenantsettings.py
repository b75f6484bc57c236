"""`/settings`: what the integrator chose for all conversations of its tenant."""

from typing import Any

from messagecore.kernel.api.operations import Call, operation
from messaging import rendering
from messaging.api.users import require_integrator
from messaging.services import tenantsettings as services
from tenants.api.views import TenantView


class Settings(TenantView):
    @operation(
        "getSettings",
        summary="Read the tenant's settings",
        tag="Settings",
        response="Settings",
        errors=("permission_denied",),
        scope="settings:read",
    )
    def get(self, call: Call) -> dict[str, Any]:
        require_integrator(call.caller)
        return rendering.render_tenant_settings(services.get_tenant_settings())

    @operation(
        "changeSettings",
        summary="Change the tenant's settings",
        tag="Settings",
        request="ChangeSettings",
        response="Settings",
        errors=("permission_denied",),
        scope="settings:write",
        description="What is left out stays as it is.",
    )
    def patch(self, call: Call) -> dict[str, Any]:
        require_integrator(call.caller)
        return rendering.render_tenant_settings(services.change_tenant_settings(call.body))
