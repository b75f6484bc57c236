"""A customer: the unit of isolation, limits and billing."""

from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_tenants.models import TenantMixin

from messagecore.kernel.ids import new_id

SUBDOMAIN_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class TenantStatus(models.TextChoices):
    ACTIVE = "active", _("Active")
    SUSPENDED = "suspended", _("Suspended")
    CLOSED = "closed", _("Closed")


class Tenant(TenantMixin):
    """Made by `tenants.services.provisioning`, which makes the schema too; never by `save()` alone."""

    auto_create_schema = False
    auto_drop_schema = False

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=255)
    subdomain = models.CharField(
        _("subdomain"),
        max_length=63,
        unique=True,
        validators=[RegexValidator(SUBDOMAIN_PATTERN, _("Lower-case letters, digits and inner hyphens only."))],
        help_text=_("Its address under the platform's domain. It cannot be changed later."),
    )
    status = models.CharField(_("status"), max_length=16, choices=TenantStatus, default=TenantStatus.ACTIVE)
    allowed_origins = models.JSONField(
        _("allowed origins"),
        default=list,
        blank=True,
        help_text=_('Browser origins that may call, such as "https://app.example.com". Empty: any.'),
    )
    settings = models.JSONField(_("settings"), default=dict, blank=True)
    tokens_valid_after = models.DateTimeField(
        _("tokens valid after"), null=True, blank=True, help_text=_("User tokens issued before this are refused.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        ordering = ("name", "id")
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(subdomain__regex=SUBDOMAIN_PATTERN), name="tenant_subdomain_is_a_label"
            ),
            models.CheckConstraint(condition=models.Q(status__in=TenantStatus.values), name="tenant_status_is_known"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        models.Model.save(self, *args, **kwargs)  # the schema is provisioning's business, not save's
