"""Counters. These rows are the authority; whatever else shows usage mirrors them."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class MonthlyUsage(models.Model):
    """What a tenant used in one calendar month (UTC), advanced in the transaction that used it."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, db_index=False)
    month = models.DateField(_("month"), help_text=_("Its first day, UTC."))
    messages = models.PositiveBigIntegerField(_("messages"), default=0)
    updated_at = models.DateTimeField(_("updated"))

    class Meta:
        ordering = ("-month", "tenant")
        verbose_name = _("monthly usage")
        verbose_name_plural = _("monthly usage")
        constraints = [models.UniqueConstraint(fields=["tenant", "month"], name="one_usage_row_a_month")]
        indexes = [models.Index(fields=["updated_at"], name="usage_recently_changed")]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.month:%Y-%m}"


class StandingUsage(models.Model):
    """What a tenant holds now, whatever the month."""

    tenant = models.OneToOneField("tenants.Tenant", primary_key=True, on_delete=models.CASCADE)
    active_users = models.PositiveBigIntegerField(_("active users"), default=0)
    storage_bytes = models.PositiveBigIntegerField(_("storage, bytes"), default=0)

    class Meta:
        verbose_name = _("standing usage")
        verbose_name_plural = _("standing usage")
        ordering = ("tenant",)

    def __str__(self) -> str:
        return str(self.tenant_id)
