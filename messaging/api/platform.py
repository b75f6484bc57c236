"""`/admin`: the platform's routes, for staff and their scripts. They see every tenant."""

from datetime import datetime
from typing import Any

from messagecore.kernel import wire
from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, page_of, time_and_id
from messagecore.kernel.errors import NotFound
from messagecore.kernel.ids import find_uuid
from messaging import ports, rendering
from messaging.queries import platform as queries
from messaging.queries.conversations import view_conversations
from quotas.api.rendering import render_plan, render_usage
from quotas.models import Plan
from quotas.services.accounts import change_account, open_account
from quotas.services.limits import Limits, read_limits, read_limits_of
from quotas.services.usage import get_usage
from tenants.api.views import PlatformView
from tenants.models import Tenant, TenantStatus
from tenants.scope import tenant_scope
from tenants.services.lifecycle import change_status

_LIMITS = {
    "maxUsers": "max_users",
    "maxMessages": "max_messages",
    "retentionDays": "retention_days",
    "maxStorageBytes": "max_storage_bytes",
    "maxConnections": "max_connections",
}


class TenantNotFound(NotFound):
    code = "tenant_not_found"


def get_tenant(any_id: str) -> Tenant:
    """By id or subdomain. Raises TenantNotFound."""
    uuid = find_uuid(any_id)
    tenant: Tenant | None = (
        Tenant.objects.filter(pk=uuid).first() if uuid else Tenant.objects.filter(subdomain=any_id).first()
    )
    if tenant is None:
        raise TenantNotFound
    return tenant


def render_tenant(tenant: Tenant, limits: Limits, key_prefix: str | None) -> dict[str, Any]:
    """`key_prefix` is shown masked; None where no secret key works."""
    return {
        "id": str(tenant.id),
        "name": tenant.name,
        "subdomain": tenant.subdomain,
        "status": tenant.status,
        "planType": limits.plan_type,
        "settings": {
            **{name: getattr(limits, column) for name, column in _LIMITS.items()},
            "allowedOrigins": tenant.allowed_origins,
        },
        "apiKey": None if key_prefix is None else f"{key_prefix}…",
        "createdAt": wire.timestamp(tenant.created_at),
        "updatedAt": wire.timestamp(tenant.updated_at),
    }


def _render_one(tenant: Tenant, now: datetime) -> dict[str, Any]:
    key_prefix = queries.key_prefixes([tenant.id], now=now).get(tenant.id)
    return render_tenant(tenant, read_limits(tenant.id), key_prefix)


class Tenants(PlatformView):
    @operation(
        "createTenant",
        summary="Create a tenant",
        tag="Platform",
        request="CreateTenant",
        response="CreatedTenant",
        statuses=(201,),
        errors=("subdomain_taken", "plan_not_found", "service_unavailable"),
        scope="tenants:write",
        description="The keys and the token secret are shown in this answer and never again.",
    )
    def post(self, call: Call) -> Reply:
        made = open_account(name=call.body["name"], subdomain=call.body["subdomain"], plan_type=call.body["planType"])
        rendered = render_tenant(made.tenant, read_limits(made.tenant.id), None) | {
            "apiKey": made.secret_key.value,
            "publishableKey": made.publishable_key.value,
            "tokenSecret": made.token_secret.value,
        }
        return Reply(rendered, status=201)

    @operation(
        "listTenants",
        summary="List tenants",
        tag="Platform",
        response="Tenant",
        many=True,
        query=(
            CURSOR,
            limit_param(),
            Param("status", choices=tuple(TenantStatus.values)),
            Param("search", description="Part of a name or subdomain."),
        ),
        errors=("invalid_cursor",),
        scope="tenants:read",
    )
    def get(self, call: Call) -> Page:
        cursor, limit = call.query["cursor"], call.query["limit"]
        found = queries.list_tenants(
            before=time_and_id(cursor),
            status=call.query["status"],
            search=call.query["search"],
            limit=limit + 1,
        )
        tenant_ids = [tenant.id for tenant in found]
        limits, prefixes = read_limits_of(tenant_ids), queries.key_prefixes(tenant_ids, now=call.now)
        return page_of(
            found,
            limit=limit,
            key=lambda tenant: (tenant.created_at.isoformat(), str(tenant.id)),
            render=lambda tenant: render_tenant(tenant, limits[tenant.id], prefixes.get(tenant.id)),
        )


class TenantDetail(PlatformView):
    @operation(
        "getTenant",
        summary="Read a tenant",
        tag="Platform",
        response="TenantDetail",
        errors=("tenant_not_found",),
        scope="tenants:read",
        description="With its newest users and its ten conversations of the latest activity.",
    )
    def get(self, call: Call, tenantId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name for the path
        tenant = get_tenant(tenantId)
        users, conversations = queries.users_and_conversations(tenant)
        presence = ports.presence_reader().presence_of(tenant.id, [user.id for user in users])
        with tenant_scope(tenant):
            views = view_conversations(conversations, viewer_id=None)
        return _render_one(tenant, call.now) | {
            "users": [rendering.render_user(user, presence=presence[user.id], with_email=True) for user in users],
            "conversations": [
                rendering.render_conversation(
                    view.conversation, participants=view.participants, last_message=view.last_message
                )
                for view in views
            ],
        }

    @operation(
        "updateTenant",
        summary="Change a tenant's name, plan or settings",
        tag="Platform",
        request="UpdateTenant",
        response="Tenant",
        errors=("tenant_not_found", "plan_not_found"),
        scope="tenants:write",
        description="A limit in `settings` overrides the plan's; null goes back to it. Takes effect within 5 s.",
    )
    def patch(self, call: Call, tenantId: str) -> dict[str, Any]:  # noqa: N803
        settings = call.body.get("settings", {})
        tenant = change_account(
            tenant=get_tenant(tenantId),
            name=call.body.get("name"),
            allowed_origins=settings.get("allowedOrigins") or [] if "allowedOrigins" in settings else None,
            plan_type=call.body.get("planType"),
            overrides={column: settings[name] for name, column in _LIMITS.items() if name in settings},
            now=call.now,
        )
        return _render_one(tenant, call.now)


def _move(call: Call, tenant_id: str, status: TenantStatus) -> dict[str, Any]:
    return _render_one(change_status(tenant=get_tenant(tenant_id), status=status, now=call.now), call.now)


class TenantSuspend(PlatformView):
    @operation(
        "suspendTenant",
        summary="Suspend a tenant",
        tag="Platform",
        response="Tenant",
        errors=("tenant_not_found", "conflict"),
        scope="tenants:write",
        description="Its callers are refused with `tenant_inactive` and its sockets closed within 5 s.",
    )
    def post(self, call: Call, tenantId: str) -> dict[str, Any]:  # noqa: N803
        return _move(call, tenantId, TenantStatus.SUSPENDED)


class TenantReactivate(PlatformView):
    @operation(
        "reactivateTenant",
        summary="Reactivate a suspended tenant",
        tag="Platform",
        response="Tenant",
        errors=("tenant_not_found", "conflict"),
        scope="tenants:write",
    )
    def post(self, call: Call, tenantId: str) -> dict[str, Any]:  # noqa: N803
        return _move(call, tenantId, TenantStatus.ACTIVE)


class TenantClose(PlatformView):
    @operation(
        "closeTenant",
        summary="Close a tenant",
        tag="Platform",
        response="Tenant",
        errors=("tenant_not_found", "conflict"),
        scope="tenants:write",
        description="Like suspension, and for good: a closed tenant is not reactivated. Its data stays.",
    )
    def post(self, call: Call, tenantId: str) -> dict[str, Any]:  # noqa: N803
        return _move(call, tenantId, TenantStatus.CLOSED)


class TenantUsage(PlatformView):
    @operation(
        "getTenantUsage",
        summary="Read a tenant's usage and limits",
        tag="Platform",
        response="Usage",
        errors=("tenant_not_found",),
        scope="tenants:read",
    )
    def get(self, call: Call, tenantId: str) -> dict[str, Any]:  # noqa: N803
        tenant = get_tenant(tenantId)
        connections = ports.presence_reader().connection_count(tenant.id)
        return render_usage(get_usage(tenant.id, connections=connections, now=call.now))


class Plans(PlatformView):
    @operation(
        "listPlans",
        summary="List plans",
        tag="Platform",
        response="Plan",
        listed=True,
        scope="plans:read",
    )
    def get(self, call: Call) -> list[dict[str, Any]]:
        return [render_plan(plan) for plan in Plan.objects.all()]


class Stats(PlatformView):
    @operation(
        "getPlatformStats",
        summary="Read the platform's figures of today",
        tag="Platform",
        response="PlatformStats",
        scope="stats:read",
        description="Days are UTC. `dailyActiveUsers`: users who sent something today.",
    )
    def get(self, call: Call) -> dict[str, int]:
        senders, sent = queries.activity_since(queries.today(call.now))
        reader = ports.presence_reader()
        tenant_ids = list(Tenant.objects.values_list("id", flat=True))
        return {
            "totalTenants": len(tenant_ids),
            "activeUsers": queries.active_users(),
            "dailyActiveUsers": senders,
            "todayMessages": sent,
            "connections": sum(reader.connection_count(tenant_id) for tenant_id in tenant_ids),
        }
