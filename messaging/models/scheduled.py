"""Messages that wait for their time."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class ScheduledStatus(models.TextChoices):
    SCHEDULED = "scheduled", _("Scheduled")
    SENT = "sent", _("Sent")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


class ScheduledMessage(models.Model):
    """A draft and its time. A row of the public `tenants.Timer` wakes it; it is sent in the transaction that marks it
    as sent, so once. `draft` is emptied when it is sent, cancelled, or its sender erased."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    sender = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="+")
    conversation = models.ForeignKey("messaging.Conversation", on_delete=models.CASCADE, related_name="+")
    draft = models.JSONField(_("draft"))
    send_at = models.DateTimeField(_("send at"))
    status = models.CharField(_("status"), max_length=16, choices=ScheduledStatus, default=ScheduledStatus.SCHEDULED)
    message_id = models.UUIDField(null=True, help_text=_("What it became."))
    error_code = models.CharField(max_length=64, null=True, help_text=_("Why it could not be sent."))  # noqa: DJ001 - null: no error
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("updated"))

    class Meta:
        ordering = ("send_at", "id")
        verbose_name = _("scheduled message")
        verbose_name_plural = _("scheduled messages")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=ScheduledStatus.values), name="scheduled_status_is_known"
            )
        ]
        indexes = [
            models.Index(fields=["send_at", "id"], name="scheduled_listed"),
            models.Index(fields=["sender", "send_at", "id"], name="scheduled_of_sender"),
        ]

    def __str__(self) -> str:
        return f"{self.sender_id} at {self.send_at:%Y-%m-%d %H:%M}"
