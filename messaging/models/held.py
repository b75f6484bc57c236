"""Messages that wait for a moderator."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class HeldStatus(models.TextChoices):
    PENDING = "pending", _("Pending")
    APPROVED = "approved", _("Approved")
    REJECTED = "rejected", _("Rejected")


class HeldMessage(models.Model):
    """A draft that a filter held. It is in no log and has no seq until it is approved and sent. `draft` is emptied
    when it is decided."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    sender = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="+")
    conversation = models.ForeignKey("messaging.Conversation", on_delete=models.CASCADE, related_name="+")
    filter = models.ForeignKey("messaging.MessageFilter", null=True, on_delete=models.SET_NULL, related_name="+")
    draft = models.JSONField(_("draft"))
    client_message_id = models.CharField(max_length=255, null=True)  # noqa: DJ001 - null: the client brought none
    body_digest = models.BinaryField(max_length=16)
    status = models.CharField(_("status"), max_length=16, choices=HeldStatus, default=HeldStatus.PENDING)
    message_id = models.UUIDField(null=True, help_text=_("What it became."))
    created_at = models.DateTimeField(_("created"))
    decided_at = models.DateTimeField(_("decided"), null=True)

    class Meta:
        ordering = ("created_at", "id")
        verbose_name = _("held message")
        verbose_name_plural = _("held messages")
        constraints = [
            models.UniqueConstraint(
                fields=["sender", "client_message_id"],
                name="message_held_once",
                condition=models.Q(client_message_id__isnull=False),
            ),
            models.CheckConstraint(condition=models.Q(status__in=HeldStatus.values), name="held_status_is_known"),
        ]
        indexes = [models.Index(fields=["status", "created_at", "id"], name="held_listed")]

    def __str__(self) -> str:
        return f"{self.sender_id} in {self.conversation_id}"
