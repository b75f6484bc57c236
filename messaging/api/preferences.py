"""`/users/{id}/notification-preferences`."""

from typing import Any

from messagecore.kernel.api.operations import Call, operation
from messaging import rendering
from messaging.access import get_user, require_self_or_integrator
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
