"""`/conversations/{id}/bans` and `/bans`: who may not take part."""

from typing import Any

from messagecore.kernel.api.operations import CURSOR, Call, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, page_of, time_and_id
from messaging.access import access_conversation, find_acting_user, get_user
from messaging.api.users import require_integrator
from messaging.models import Ban
from messaging.queries import moderation as queries
from messaging.rendering_moderation import render_ban
from messaging.services import bans as services
from messaging.services.bans import Placed
from tenants.api.views import TenantView

IN_CONVERSATION = ("conversation_not_found", "user_not_found", "permission_denied")


def _page(found: list[Ban], limit: int) -> Page:
    return page_of(found, limit=limit, key=lambda row: (row.created_at.isoformat(), str(row.id)), render=render_ban)


def _placed(placed: Placed) -> Reply:
    return Reply(render_ban(placed.ban), status=201 if placed.is_new else 200)


class ConversationBans(TenantView):
    @operation(
        "banFromConversation",
        summary="Ban somebody from a conversation",
        tag="Moderation",
        request="BanUser",
        response="Ban",
        statuses=(201, 200),
        errors=(*IN_CONVERSATION, "conflict"),
        scope="moderation:write",
        description=(
            "Takes them out at once, and lets them neither join nor be added until it ends. Owners and admins may, and "
            "a secret key, which alone bans an owner. 200 when it changed a ban that stood."
        ),
    )
    def post(self, call: Call, conversationId: str) -> Reply:  # noqa: N803 - the contract's name for the path
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        placed = services.ban_from_conversation(
            tenant_id=call.caller.tenant.id,
            conversation=access.conversation,
            user=get_user(call.body["userId"]),
            until=call.body.get("until"),
            reason=call.body.get("reason", ""),
            actor=actor,
            now=call.now,
        )
        return _placed(placed)

    @operation(
        "listConversationBans",
        summary="List who is banned from a conversation",
        tag="Moderation",
        response="Ban",
        many=True,
        query=(CURSOR, limit_param()),
        errors=(*IN_CONVERSATION, "invalid_cursor"),
        scope="moderation:read",
        description="The latest first; bans that ended are left out. For owners and admins, and secret keys.",
    )
    def get(self, call: Call, conversationId: str) -> Page:  # noqa: N803
        actor = find_acting_user(call.caller)
        limit = call.query["limit"]
        found = services.list_conversation_bans(
            conversation=access_conversation(conversationId, actor).conversation,
            actor=actor,
            before=time_and_id(call.query["cursor"]),
            now=call.now,
            limit=limit + 1,
        )
        return _page(found, limit)


class ConversationBan(TenantView):
    @operation(
        "unbanFromConversation",
        summary="Lift a ban from a conversation",
        tag="Moderation",
        errors=(*IN_CONVERSATION, "ban_not_found"),
        scope="moderation:write",
        description="They may come in again; nobody is added by it.",
    )
    def delete(self, call: Call, conversationId: str, userId: str) -> Any:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        services.unban_from_conversation(
            conversation=access.conversation, user=get_user(userId), actor=actor, now=call.now
        )


class TenantBans(TenantView):
    @operation(
        "banUser",
        summary="Ban somebody from everything",
        tag="Moderation",
        request="BanUser",
        response="Ban",
        statuses=(201, 200),
        errors=("user_not_found", "permission_denied", "conflict"),
        scope="moderation:write",
        description=(
            "Every call and token of theirs is refused with `user_banned` until it ends, and messages on their behalf; "
            "their sockets close. Memberships and messages stay. 200 when it changed a ban that stood."
        ),
    )
    def post(self, call: Call) -> Reply:
        require_integrator(call.caller)
        placed = services.ban_from_tenant(
            tenant_id=call.caller.tenant.id,
            user=get_user(call.body["userId"]),
            until=call.body.get("until"),
            reason=call.body.get("reason", ""),
            actor=find_acting_user(call.caller),
            now=call.now,
        )
        return _placed(placed)

    @operation(
        "listBans",
        summary="List who is banned from everything",
        tag="Moderation",
        response="Ban",
        many=True,
        query=(CURSOR, limit_param()),
        errors=("permission_denied", "invalid_cursor"),
        scope="moderation:read",
        description="The latest first; bans that ended are left out.",
    )
    def get(self, call: Call) -> Page:
        require_integrator(call.caller)
        limit, before = call.query["limit"], time_and_id(call.query["cursor"])
        return _page(queries.list_bans(conversation_id=None, before=before, now=call.now, limit=limit + 1), limit)


class TenantBan(TenantView):
    @operation(
        "unbanUser",
        summary="Lift a ban from everything",
        tag="Moderation",
        errors=("user_not_found", "permission_denied", "ban_not_found"),
        scope="moderation:write",
    )
    def delete(self, call: Call, userId: str) -> Any:  # noqa: N803
        require_integrator(call.caller)
        services.unban_from_tenant(user=get_user(userId), now=call.now)
