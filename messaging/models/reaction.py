"""What somebody answered a message with, in one sign."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Reaction(models.Model):
    """One user's reaction by one name; a user may give a message several, each name once."""

    message = models.ForeignKey("messaging.Message", on_delete=models.CASCADE, related_name="reactions")
    user = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="+")
    name = models.CharField(_("name"), max_length=64)
    created_at = models.DateTimeField(_("created"))

    class Meta:
        ordering = ("created_at", "id")
        verbose_name = _("reaction")
        verbose_name_plural = _("reactions")
        constraints = [models.UniqueConstraint(fields=["message", "name", "user"], name="one_reaction_a_name")]

    def __str__(self) -> str:
        return f"{self.name} {self.user_id}"
