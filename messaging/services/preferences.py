"""What a user wants to be notified of."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from messaging.models import NotificationPreferences, User


def get_preferences(user: User) -> NotificationPreferences:
    """The user's, or the defaults, which are nowhere stored."""
    return NotificationPreferences.objects.filter(user=user).first() or NotificationPreferences(user=user)


def change_preferences(*, user: User, change: Mapping[str, Any], now: datetime) -> NotificationPreferences:
    """Changes what `change` names, `level` and `showPreview`, and leaves the rest. Holds for what is told from now on,
    the preview also for what was told before."""
    fields: dict[str, Any] = {"updated_at": now}
    if "level" in change:
        fields["level"] = change["level"]
    if "showPreview" in change:
        fields["show_preview"] = change["showPreview"]
    if len(fields) == 1:
        return get_preferences(user)
    changed, _ = NotificationPreferences.objects.update_or_create(user=user, defaults=fields)
    return changed
