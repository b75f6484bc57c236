"""The durable log's events that are not messages."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class ConversationEvent(models.Model):
    """One event, numbered from the conversation's own counter. Holds references (who, about whom), never content."""

    conversation = models.ForeignKey(
        "messaging.Conversation", on_delete=models.CASCADE, db_index=False, related_name="events"
    )
    seq = models.BigIntegerField()
    type = models.CharField(_("type"), max_length=40)
    actor_id = models.UUIDField(null=True, help_text=_("The user who did it; none: the integrator."))
    subject_id = models.UUIDField(null=True, help_text=_("The user or message that it is about."))
    data = models.JSONField(default=dict)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ("conversation", "seq")
        verbose_name = _("conversation event")
        verbose_name_plural = _("conversation events")
        constraints = [models.UniqueConstraint(fields=["conversation", "seq"], name="event_seq")]

    def __str__(self) -> str:
        return f"{self.conversation_id}#{self.seq} {self.type}"
