"""Messages that a conversation keeps in sight."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class PinnedMessage(models.Model):
    """A pin; `pinned_by` none: the integrator."""

    conversation = models.ForeignKey("messaging.Conversation", on_delete=models.CASCADE, related_name="pins")
    message = models.OneToOneField("messaging.Message", on_delete=models.CASCADE, related_name="pin")
    pinned_by = models.ForeignKey("messaging.User", null=True, on_delete=models.SET_NULL, related_name="+")
    pinned_at = models.DateTimeField(_("pinned"))

    class Meta:
        ordering = ("-pinned_at", "-id")
        verbose_name = _("pinned message")
        verbose_name_plural = _("pinned messages")

    def __str__(self) -> str:
        return str(self.message_id)
