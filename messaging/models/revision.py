"""What a message said before it was edited."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class MessageRevision(models.Model):
    """The content that an edit replaced. Goes with its message: deleting that deletes its history."""

    message = models.ForeignKey("messaging.Message", on_delete=models.CASCADE, related_name="revisions")
    content = models.JSONField(_("content"))
    mentions = models.JSONField(default=list)
    metadata = models.JSONField(_("metadata"), default=dict)
    replaced_at = models.DateTimeField(_("replaced"))

    class Meta:
        ordering = ("replaced_at", "id")
        verbose_name = _("message revision")
        verbose_name_plural = _("message revisions")

    def __str__(self) -> str:
        return f"{self.message_id} before {self.replaced_at:%Y-%m-%d %H:%M}"
