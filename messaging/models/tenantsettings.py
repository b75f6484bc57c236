"""What a tenant chose for all of its conversations."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class TenantSettings(models.Model):
    """One row; a tenant without it has the defaults."""

    id = models.SmallIntegerField(primary_key=True, default=1, editable=False)
    membership_messages = models.BooleanField(
        _("membership messages"),
        default=False,
        help_text=_("A system message whenever somebody joins, leaves or gets another role."),
    )
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        ordering = ("id",)
        verbose_name = _("tenant settings")
        verbose_name_plural = _("tenant settings")
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="tenant_settings_are_one_row")]

    def __str__(self) -> str:
        return str(self._meta.verbose_name)
