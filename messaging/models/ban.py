"""Who may not take part, where, until when."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class Ban(models.Model):
    """From one conversation, or, without one, from the whole tenant. `until` none: for good.

    The tenant-wide ban's end stands on the user's row, too (`User.banned_until`), where every request sees it.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="bans")
    conversation = models.ForeignKey(
        "messaging.Conversation", null=True, blank=True, on_delete=models.CASCADE, related_name="bans"
    )
    reason = models.CharField(_("reason"), max_length=1000, blank=True)
    until = models.DateTimeField(_("until"), null=True, blank=True)
    banned_by = models.ForeignKey("messaging.User", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(_("created"))

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("ban")
        verbose_name_plural = _("bans")
        constraints = [
            models.UniqueConstraint(fields=["user", "conversation"], name="one_ban_a_place", nulls_distinct=False)
        ]

    def __str__(self) -> str:
        return f"{self.user_id} from {self.conversation_id or 'everywhere'}"
