"""Plans, as rows that staff edit."""

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


class Plan(models.Model):
    """The limits that a tenant gets. A change takes effect within the cache time of `quotas.services.limits`."""

    plan_type = models.SlugField(_("plan type"), max_length=40, primary_key=True)
    name = models.CharField(_("name"), max_length=100)
    max_users = models.PositiveBigIntegerField(_("active users"))
    max_messages = models.PositiveBigIntegerField(_("messages a month"))
    retention_days = models.PositiveIntegerField(_("retention, days"), validators=[MinValueValidator(1)])
    max_storage_bytes = models.PositiveBigIntegerField(_("storage, bytes"))
    max_connections = models.PositiveBigIntegerField(_("concurrent connections"))
    position = models.PositiveSmallIntegerField(_("position"), default=0, help_text=_("Order in lists."))

    class Meta:
        ordering = ("position", "plan_type")
        verbose_name = _("plan")
        verbose_name_plural = _("plans")

    def __str__(self) -> str:
        return self.name
