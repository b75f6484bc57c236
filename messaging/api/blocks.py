"""`/users/{id}/blocks`."""

from typing import Any

from messagecore.kernel.api.operations import CURSOR, Call, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, page_of, time_and_id
from messaging import rendering
from messaging.access import get_user, require_self_or_integrator
from messaging.models import User
from messaging.services import blocks as services
from tenants.api.views import TenantView
from tenants.cards import Caller


def _own(caller: Caller, user_id: str) -> User:
    user = get_user(user_id)
    require_self_or_integrator(caller, user)
    return user


class UserBlocks(TenantView):
    @operation(
        "blockUser",
        summary="Block somebody",
        tag="Users",
        request="BlockUser",
        response="UserReference",
        statuses=(201, 200),
        errors=("user_not_found", "conflict"),
        scope="users:write",
        description=(
            "The user sees nothing more that the other wrote or writes, whose direct messages to them are refused. "
            "201 when it is new, 200 when it was so already."
        ),
    )
    def post(self, call: Call, userId: str) -> Reply:  # noqa: N803 - the contract's name for the path
        user, blocked = _own(call.caller, userId), get_user(call.body["userId"])
        is_new = services.block_user(tenant_id=call.caller.tenant.id, user=user, blocked=blocked, now=call.now)
        return Reply(rendering.render_reference(blocked), status=201 if is_new else 200)

    @operation(
        "listBlocks",
        summary="List whom a user blocks",
        tag="Users",
        response="Block",
        many=True,
        query=(CURSOR, limit_param()),
        errors=("user_not_found", "invalid_cursor"),
        scope="users:read",
        description="In order of blocking.",
    )
    def get(self, call: Call, userId: str) -> Page:  # noqa: N803
        user, limit = _own(call.caller, userId), call.query["limit"]
        found = services.list_blocks(user_id=user.id, after=time_and_id(call.query["cursor"]), limit=limit + 1)
        return page_of(
            found,
            limit=limit,
            key=lambda row: (row.created_at.isoformat(), str(row.blocked_id)),
            render=rendering.render_block,
        )


class UserBlock(TenantView):
    @operation(
        "unblockUser",
        summary="Unblock somebody",
        tag="Users",
        errors=("user_not_found",),
        scope="users:write",
        description="Unblocking whom one does not block changes nothing.",
    )
    def delete(self, call: Call, userId: str, blockedUserId: str) -> Any:  # noqa: N803
        user, blocked = _own(call.caller, userId), get_user(blockedUserId)
        services.unblock_user(tenant_id=call.caller.tenant.id, user=user, blocked=blocked, now=call.now)
