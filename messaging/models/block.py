"""Who does not want to hear from whom."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class UserBlock(models.Model):
    """While it stands, `blocker` sees nothing that `blocked` wrote, and gets no direct messages from them."""

    blocker = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="blocks", db_index=False)
    blocked = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(_("created"))

    class Meta:
        ordering = ("created_at", "id")
        verbose_name = _("block")
        verbose_name_plural = _("blocks")
        constraints = [models.UniqueConstraint(fields=["blocker", "blocked"], name="one_block_a_pair")]

    def __str__(self) -> str:
        return f"{self.blocker_id} blocks {self.blocked_id}"
