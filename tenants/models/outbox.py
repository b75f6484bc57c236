"""The outbox: what a committed transaction promised to do afterwards."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class OutboxEvent(models.Model):
    """One event, written in the transaction that made it true. It holds references, never content: what is
    delivered is rendered from the rows as they are then."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, db_constraint=False, db_index=False)
    type = models.CharField(max_length=40)
    conversation_id = models.UUIDField(null=True)
    seq = models.BigIntegerField(null=True)
    subject_id = models.UUIDField(null=True, help_text=_("The message or user that the event is about."))
    recorded_at = models.DateTimeField()
    handled_at = models.DateTimeField(null=True)
    indexed_at = models.DateTimeField(null=True, help_text=_("When search learnt of it."))

    class Meta:
        verbose_name = _("outbox event")
        verbose_name_plural = _("outbox events")
        ordering = ("id",)
        indexes = [
            # The sweeper's queue: small, whatever the table's size.
            models.Index(fields=["id"], name="outbox_unhandled", condition=models.Q(handled_at=None)),
            models.Index(fields=["id"], name="outbox_unindexed", condition=models.Q(indexed_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
