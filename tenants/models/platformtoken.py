"""Tokens of platform staff and their scripts."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class PlatformToken(models.Model):
    """`mc_pt_…`: named, scoped, expiring, revocable; kept as a keyed hash."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=255)
    prefix = models.CharField(_("prefix"), max_length=16, db_index=True)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = models.JSONField(
        _("scopes"), default=list, blank=True, help_text=_('Such as ["tenants:read"]. Empty: all.')
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        ordering = ("-created_at", "id")
        verbose_name = _("platform token")
        verbose_name_plural = _("platform tokens")

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"
