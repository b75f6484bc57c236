"""`/presence`, and `/users/{id}/presence`."""

from typing import Any
from uuid import UUID

from messagecore.kernel.api.operations import CURSOR, Call, limit_param, operation
from messagecore.kernel.api.paging import Page, decode_cursor, encode_cursor
from messaging import ports, rendering
from messaging.access import find_acting_user, get_user
from messaging.services import presence as services
from messaging.services.presence import UserWithPresence
from tenants.api.views import TenantView


def _render(found: UserWithPresence) -> dict[str, Any]:
    return {
        "userId": str(found.user.id),
        "externalUserId": found.user.external_user_id,
        **rendering.render_presence(found.presence),
    }


def _render_online(found: UserWithPresence) -> dict[str, Any]:
    return {"user": rendering.render_reference(found.user), **_render(found)}


class UserPresence(TenantView):
    @operation(
        "getUserPresence",
        summary="Read whether a user is there",
        tag="Users",
        response="UserPresence",
        errors=("user_not_found",),
        scope="users:read",
    )
    def get(self, call: Call, userId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name for the path
        find_acting_user(call.caller)
        user = get_user(userId)
        found = ports.presence_reader().presence_of(call.caller.tenant.id, [user.id])[user.id]
        return _render(UserWithPresence(user, found))


class PresenceQuery(TenantView):
    @operation(
        "queryPresence",
        summary="Read whether up to 100 users are there",
        tag="Users",
        request="QueryPresence",
        response="UserPresence",
        listed=True,
        errors=("user_not_found",),
        scope="users:read",
        description="In the order given, each user once. Ids that name nobody are left out. It changes nothing.",
    )
    def post(self, call: Call) -> list[dict[str, Any]]:
        find_acting_user(call.caller)
        found = services.presence_of_users(tenant_id=call.caller.tenant.id, names=call.body["userIds"])
        return [_render(one) for one in found]


class OnlineUsers(TenantView):
    @operation(
        "listOnlineUsers",
        summary="List the users who are online or away",
        tag="Users",
        response="OnlineUser",
        many=True,
        query=(CURSOR, limit_param()),
        errors=("invalid_cursor", "user_not_found"),
        scope="users:read",
        description=(
            "In the order of their ids. A page may have fewer users than asked for, and yet a next one. 503 while "
            "nobody can say; for some seconds after Redis lost its memory, people may be missing."
        ),
    )
    def get(self, call: Call) -> Page:
        find_acting_user(call.caller)
        cursor = call.query["cursor"]
        after = None if cursor is None else decode_cursor(cursor, UUID)[0]
        found = services.list_online(tenant_id=call.caller.tenant.id, after=after, limit=call.query["limit"])
        next_cursor = None if found.next_after is None else encode_cursor([str(found.next_after)])
        return Page([_render_online(one) for one in found.users], next_cursor)
