"""Keys with which an integrator speaks for its tenant."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class KeyKind(models.TextChoices):
    SECRET = "secret", _("Secret (back end)")
    PUBLISHABLE = "publishable", _("Publishable (browsers, apps)")


class ApiKey(models.Model):
    """Only a keyed hash is kept; the key itself is shown once, when it is made (`tenants.services.keys`)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="api_keys")
    kind = models.CharField(_("kind"), max_length=16, choices=KeyKind)
    name = models.CharField(_("name"), max_length=255, default="default")
    prefix = models.CharField(
        _("prefix"), max_length=16, db_index=True, help_text=_("The visible beginning of the key.")
    )
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = models.JSONField(
        _("scopes"),
        default=list,
        blank=True,
        help_text=_('What the key may do, such as ["messages:write"]. Empty: all.'),
    )
    allowed_networks = models.JSONField(
        _("allowed networks"),
        default=list,
        blank=True,
        help_text=_("Addresses or networks that may use it. Empty: any."),
    )
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering = ("-created_at", "id")
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        constraints = [models.CheckConstraint(condition=models.Q(kind__in=KeyKind.values), name="apikey_kind_is_known")]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"
