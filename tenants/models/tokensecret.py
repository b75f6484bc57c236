"""Secrets with which user tokens are signed."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class TokenSecret(models.Model):
    """A signing secret, encrypted at rest. Its id is the `kid` of the tokens that it signs; a tenant may have
    several while one replaces another."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="token_secrets")
    ciphertext = models.BinaryField(editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    retires_at = models.DateTimeField(_("retires"), null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("token secret")
        verbose_name_plural = _("token secrets")

    def __str__(self) -> str:
        return str(self.id)
