"""`/users/{id}/notification-preferences`, and `/users/{id}/presence`."""

from typing import Any

from messagecore.kernel.api.operations import Call, operation
from messaging import ports, rendering
from messaging.access import find_acting_user, get_user, require_self_or_integrator
from messaging.models import User
from messaging.services import preferences as services
from tenants.api.views import TenantView
from tenants.cards import Caller


def _own(caller: Caller, user_id: str) -> User:
    user = get_user(user_id)
    require_self_or_integrator(caller, user)
    return user


class UserNotificationPreferences(TenantView):
    @operation(
        "getNotificationPreferences",
        summary="Read what a user wants to be notified of",
        tag="Users",
        response="NotificationPreferences",
        errors=("user_not_found",),
        scope="users:read",
    )
    def get(self, call: Call, userId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name for the path
        return rendering.render_preferences(services.get_preferences(_own(call.caller, userId)))

    @operation(
        "updateNotificationPreferences",
        summary="Change what a user wants to be notified of",
        tag="Users",
        request="UpdateNotificationPreferences",
        response="NotificationPreferences",
        errors=("user_not_found",),
        scope="users:write",
        description="What is left out or null stays as it is.",
    )
    def patch(self, call: Call, userId: str) -> dict[str, Any]:  # noqa: N803
        user = _own(call.caller, userId)
        return rendering.render_preferences(services.change_preferences(user=user, change=call.body, now=call.now))


class UserPresence(TenantView):
    @operation(
        "getUserPresence",
        summary="Read whether a user is there",
        tag="Users",
        response="UserPresence",
        errors=("user_not_found",),
        scope="users:read",
    )
    def get(self, call: Call, userId: str) -> dict[str, Any]:  # noqa: N803
        find_acting_user(call.caller)
        user = get_user(userId)
        found = ports.presence_reader().presence_of(call.caller.tenant.id, [user.id])[user.id]
        return {
            "userId": str(user.id),
            "externalUserId": user.external_user_id,
            **rendering.render_presence(found),
        }
