"""`/usage`: what the tenant used, set against its plan."""

from typing import Any

from messagecore.kernel.api.operations import Call, operation
from messagecore.kernel.errors import PermissionDenied
from messaging import ports
from quotas.api.rendering import render_usage
from quotas.services.usage import get_usage
from tenants.api.views import TenantView


class Usage(TenantView):
    @operation(
        "getUsage",
        summary="Read the tenant's usage and limits",
        tag="Usage",
        response="Usage",
        errors=("permission_denied",),
        scope="usage:read",
    )
    def get(self, call: Call) -> dict[str, Any]:
        if not call.caller.is_integrator:
            raise PermissionDenied("Only a secret key may read usage.")
        tenant_id = call.caller.tenant.id
        connections = ports.presence_reader().connection_count(tenant_id)
        return render_usage(get_usage(tenant_id, connections=connections, now=call.now))
