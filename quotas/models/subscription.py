"""Which plan a tenant is on, and what was agreed beside it."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Subscription(models.Model):
    """A tenant's plan. Overrides win over the plan where they are set."""

    tenant = models.OneToOneField("tenants.Tenant", primary_key=True, on_delete=models.CASCADE)
    plan = models.ForeignKey("quotas.Plan", on_delete=models.PROTECT, related_name="subscriptions")
    max_users = models.PositiveBigIntegerField(_("active users"), null=True, blank=True)
    max_messages = models.PositiveBigIntegerField(_("messages a month"), null=True, blank=True)
    retention_days = models.PositiveIntegerField(_("retention, days"), null=True, blank=True)
    max_storage_bytes = models.PositiveBigIntegerField(_("storage, bytes"), null=True, blank=True)
    max_connections = models.PositiveBigIntegerField(_("concurrent connections"), null=True, blank=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        ordering = ("tenant",)
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.plan_id}"
