"""What has to happen later, over all tenants."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Timer(models.Model):
    """Wakes a tenant's object at its time. Written in the transaction that makes it due, taken away in the one that
    does the work."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, db_index=False)
    kind = models.CharField(max_length=40)
    subject_id = models.UUIDField()
    due_at = models.DateTimeField()

    class Meta:
        verbose_name = _("timer")
        verbose_name_plural = _("timers")
        ordering = ("due_at", "id")
        constraints = [models.UniqueConstraint(fields=["tenant", "kind", "subject_id"], name="one_timer_a_subject")]
        indexes = [models.Index(fields=["due_at", "id"], name="timer_due")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_id} at {self.due_at:%Y-%m-%d %H:%M:%S}"
