"""`/users`."""

from datetime import timedelta

from messagecore.kernel import wire
from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, page_of, time_and_id
from messagecore.kernel.errors import PermissionDenied
from messagecore.kernel.validation import without_nulls
from messaging import ports, rendering
from messaging.access import find_acting_user, get_user, require_self_or_integrator
from messaging.api.conversations import LIST_QUERY, conversation_page
from messaging.models import User
from messaging.queries import messages, users
from messaging.services import notifications, user_lifecycle
from messaging.services import users as services
from messaging.services.user_lifecycle import Deletion
from tenants.api.views import TenantView
from tenants.cards import Caller


def require_integrator(caller: Caller) -> None:
    """Raises PermissionDenied: this is for back ends, not for end users."""
    if not caller.is_integrator:
        raise PermissionDenied("Only a secret key may do this.")


def render_users(caller: Caller, found: list[User]) -> list[dict[str, object]]:
    """Users with their presence; the email is for secret keys and for the user."""
    actor = None if caller.is_integrator else find_acting_user(caller)
    presence = ports.presence_reader().presence_of(caller.tenant.id, [user.id for user in found])
    return [
        rendering.render_user(
            user,
            presence=presence[user.id],
            with_email=caller.is_integrator or (actor is not None and actor.id == user.id),
        )
        for user in found
    ]


class Users(TenantView):
    @operation(
        "upsertUser",
        summary="Create or update a user",
        tag="Users",
        request="UpsertUser",
        response="User",
        statuses=(201, 200),
        errors=("id_conflict", "user_quota_exceeded", "permission_denied"),
        scope="users:write",
        description="By `externalUserId`: 201 when it made the user, 200 when it changed one. Fields left out stay.",
    )
    def post(self, call: Call) -> Reply:
        require_integrator(call.caller)
        (result,) = services.upsert_users(tenant_id=call.caller.tenant.id, bodies=[call.body], now=call.now)
        return Reply(render_users(call.caller, [result.user])[0], status=201 if result.created else 200)

    @operation(
        "listUsers",
        summary="List users",
        tag="Users",
        response="User",
        many=True,
        query=(
            CURSOR,
            limit_param(),
            Param("search", description="Part of a display name or external id."),
            Param("isActive", "boolean", description="Only active, or only deactivated users."),
        ),
        errors=("invalid_cursor",),
        scope="users:read",
    )
    def get(self, call: Call) -> Page:
        query = call.query
        found = users.list_users(
            after=time_and_id(query["cursor"]),
            search=query["search"],
            is_active=query["isActive"],
            limit=query["limit"] + 1,
        )
        shown = page_of(
            found,
            limit=query["limit"],
            key=lambda user: (user.created_at.isoformat(), str(user.id)),
            render=lambda user: user,
        )
        return Page(render_users(call.caller, shown.data), shown.next_cursor)


class UserBatch(TenantView):
    @operation(
        "upsertUsers",
        summary="Create or update up to 100 users",
        tag="Users",
        request="UpsertUsers",
        response="User",
        listed=True,
        errors=("id_conflict", "user_quota_exceeded", "permission_denied"),
        scope="users:write",
        description="All or none, in the order given.",
    )
    def post(self, call: Call) -> list[dict[str, object]]:
        require_integrator(call.caller)
        bodies = [without_nulls(body) for body in call.body["users"]]
        results = services.upsert_users(tenant_id=call.caller.tenant.id, bodies=bodies, now=call.now)
        return render_users(call.caller, [result.user for result in results])


class UserDetail(TenantView):
    @operation(
        "getUser",
        summary="Read a user",
        tag="Users",
        response="User",
        errors=("user_not_found",),
        scope="users:read",
    )
    def get(self, call: Call, userId: str) -> object:  # noqa: N803 - the contract's name for the path
        return render_users(call.caller, [get_user(userId)])[0]

    @operation(
        "updateUser",
        summary="Change a user",
        tag="Users",
        request="UpdateUser",
        response="User",
        errors=("user_not_found",),
        scope="users:write",
        description=(
            "Fields left out stay; an empty string (an empty object for metadata) clears. "
            "A user token changes its own user."
        ),
    )
    def patch(self, call: Call, userId: str) -> object:  # noqa: N803
        user = get_user(userId)
        require_self_or_integrator(call.caller, user)
        return render_users(call.caller, [services.update_user(user=user, body=call.body, now=call.now)])[0]

    @operation(
        "deleteUser",
        summary="Delete a user",
        tag="Users",
        query=(
            Param(
                "messages",
                choices=tuple(Deletion),
                required=True,
                description="`anonymise` keeps their messages, nameless; `erase` deletes them and every trace.",
            ),
        ),
        errors=("user_not_found", "permission_denied"),
        scope="users:write",
        description="They leave every conversation, and their external id is free again. It cannot be undone.",
    )
    def delete(self, call: Call, userId: str) -> None:  # noqa: N803
        require_integrator(call.caller)
        user_lifecycle.delete_user(
            tenant_id=call.caller.tenant.id,
            user=get_user(userId),
            deletion=Deletion(call.query["messages"]),
            now=call.now,
        )


class UserDeactivate(TenantView):
    @operation(
        "deactivateUser",
        summary="Deactivate a user",
        tag="Users",
        response="User",
        errors=("user_not_found", "permission_denied"),
        scope="users:write",
        description="Frees their place in the quota, refuses their tokens, closes their sockets.",
    )
    def post(self, call: Call, userId: str) -> object:  # noqa: N803
        require_integrator(call.caller)
        tenant_id = call.caller.tenant.id
        user = user_lifecycle.deactivate_user(tenant_id=tenant_id, user=get_user(userId), now=call.now)
        return render_users(call.caller, [user])[0]


class UserReactivate(TenantView):
    @operation(
        "reactivateUser",
        summary="Reactivate a user",
        tag="Users",
        response="User",
        errors=("user_not_found", "permission_denied", "user_quota_exceeded"),
        scope="users:write",
    )
    def post(self, call: Call, userId: str) -> object:  # noqa: N803
        require_integrator(call.caller)
        tenant_id = call.caller.tenant.id
        user = user_lifecycle.reactivate_user(tenant_id=tenant_id, user=get_user(userId), now=call.now)
        return render_users(call.caller, [user])[0]


class UserTokenRevocation(TenantView):
    @operation(
        "revokeUserTokens",
        summary="Revoke a user's tokens",
        tag="Users",
        errors=("user_not_found", "permission_denied"),
        scope="tokens:write",
        description="Everything issued before now is refused, and the sockets that it opened are closed.",
    )
    def post(self, call: Call, userId: str) -> None:  # noqa: N803
        require_integrator(call.caller)
        user_lifecycle.revoke_tokens(tenant_id=call.caller.tenant.id, user=get_user(userId), now=call.now)


class UserTokens(TenantView):
    @operation(
        "createUserToken",
        summary="Mint a user token",
        tag="Users",
        request="CreateToken",
        optional_body=True,
        response="UserToken",
        statuses=(201,),
        errors=("user_not_found", "permission_denied", "conflict"),
        scope="tokens:write",
    )
    def post(self, call: Call, userId: str) -> Reply:  # noqa: N803
        require_integrator(call.caller)
        seconds = call.body.get("expiresInSeconds")
        token, expires_at = services.mint_token(
            tenant=call.caller.tenant,
            user=get_user(userId),
            lifetime=None if seconds is None else timedelta(seconds=seconds),
            now=call.now,
        )
        return Reply({"token": token, "expiresAt": wire.timestamp(expires_at)}, status=201)


class UserConversations(TenantView):
    @operation(
        "listUserConversations",
        summary="List a user's conversations",
        tag="Users",
        response="Conversation",
        many=True,
        query=LIST_QUERY,
        errors=("user_not_found", "invalid_cursor"),
        scope="conversations:read",
        description="By last activity, with last message, unread count and membership.",
    )
    def get(self, call: Call, userId: str) -> Page:  # noqa: N803
        user = get_user(userId)
        require_self_or_integrator(call.caller, user)
        return conversation_page(call, user.id)


class UserNotifications(TenantView):
    @operation(
        "listUserNotifications",
        summary="List what a user missed while offline",
        tag="Users",
        response="Notification",
        many=True,
        query=(CURSOR, limit_param(), Param("unreadOnly", "boolean", default=False)),
        errors=("user_not_found", "invalid_cursor"),
        scope="users:read",
    )
    def get(self, call: Call, userId: str) -> Page:  # noqa: N803
        user = get_user(userId)
        require_self_or_integrator(call.caller, user)
        cursor = call.query["cursor"]
        found = notifications.list_notifications(
            user_id=user.id,
            before=time_and_id(cursor),
            unread_only=call.query["unreadOnly"],
            limit=call.query["limit"] + 1,
        )
        views = messages.get_messages([notification.message_id for notification in found])
        found = [notification for notification in found if notification.message_id in views]  # deleted meanwhile
        return page_of(
            found,
            limit=call.query["limit"],
            key=lambda row: (row.created_at.isoformat(), str(row.id)),
            render=lambda row: rendering.render_notification(row, views[row.message_id]),
        )
