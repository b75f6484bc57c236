"""An end user of the integrator's product."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class User(models.Model):
    """Known to the integrator by `external_user_id`, to the server by `id`. Not a Django auth user."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    external_user_id = models.CharField(_("external id"), max_length=255, unique=True)
    display_name = models.CharField(_("display name"), max_length=255, null=True, blank=True)  # noqa: DJ001 - null is "not given" on the wire
    avatar_url = models.CharField(_("avatar URL"), max_length=2048, null=True, blank=True)  # noqa: DJ001
    email = models.CharField(_("email"), max_length=320, null=True, blank=True)  # noqa: DJ001
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    is_active = models.BooleanField(_("active"), default=True)
    banned_until = models.DateTimeField(_("banned until"), null=True, blank=True)
    tokens_valid_after = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("updated"))

    class Meta:
        ordering = ("created_at", "id")
        verbose_name = _("user")
        verbose_name_plural = _("users")
        indexes = [models.Index(fields=["created_at", "id"], name="user_listed")]

    def __str__(self) -> str:
        return self.display_name or self.external_user_id
