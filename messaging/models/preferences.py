"""What a user wants to be notified of."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class NotificationLevel(models.TextChoices):
    ALL = "all", _("All messages")
    MENTIONS = "mentions", _("Mentions only")
    NOTHING = "nothing", _("Nothing")


class NotificationPreferences(models.Model):
    """A user without a row has the defaults: everything, with a preview."""

    user = models.OneToOneField(
        "messaging.User", on_delete=models.CASCADE, primary_key=True, related_name="notification_preferences"
    )
    level = models.CharField(_("level"), max_length=16, choices=NotificationLevel, default=NotificationLevel.ALL)
    show_preview = models.BooleanField(_("show previews"), default=True)
    updated_at = models.DateTimeField(_("updated"))

    class Meta:
        ordering = ("user",)
        verbose_name = _("notification preferences")
        verbose_name_plural = _("notification preferences")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(level__in=NotificationLevel.values), name="notification_level_is_known"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.level}"
