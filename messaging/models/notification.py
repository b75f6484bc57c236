"""What waits for a user who was not connected when a message came."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class Notification(models.Model):
    """A reference to the message; what is shown is rendered from the message as it is then."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="notifications")
    message = models.ForeignKey("messaging.Message", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(_("created"))
    read_at = models.DateTimeField(_("read"), null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        constraints = [models.UniqueConstraint(fields=["user", "message"], name="one_notification_a_message")]
        indexes = [models.Index(fields=["user", "-created_at", "-id"], name="notification_listed")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.message_id}"
