"""The outbox: what a committed transaction promised to do afterwards; and the feed, which is its rows in a row."""

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
    feed_seq = models.BigIntegerField(null=True, help_text=_("Its place in the tenant's feed."))

    class Meta:
        verbose_name = _("outbox event")
        verbose_name_plural = _("outbox events")
        ordering = ("id",)
        indexes = [
            # The sweeper's queue: small, whatever the table's size.
            models.Index(fields=["id"], name="outbox_unhandled", condition=models.Q(handled_at=None)),
            models.Index(fields=["id"], name="outbox_unindexed", condition=models.Q(indexed_at=None)),
            # The sequencer's queue. What has no seq is in no conversation's log, and not in the feed either.
            models.Index(
                fields=["tenant", "id"],
                name="outbox_unnumbered",
                condition=models.Q(feed_seq=None, seq__isnull=False),
            ),
            # What retention finds otherwise than by the feed.
            models.Index(fields=["tenant", "id"], name="outbox_unlogged", condition=models.Q(seq=None)),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "feed_seq"], name="outbox_feed_seq", condition=models.Q(feed_seq__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class Feed(models.Model):
    """How far a tenant's feed is numbered, and up to where retention took it away."""

    tenant = models.OneToOneField(
        "tenants.Tenant", primary_key=True, on_delete=models.CASCADE, db_constraint=False, related_name="+"
    )
    last_seq = models.BigIntegerField(default=0)
    purged_seq = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("feed")
        verbose_name_plural = _("feeds")

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.purged_seq}-{self.last_seq}"
