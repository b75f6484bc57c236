"""A user's place in a conversation."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    OWNER = "owner", _("Owner")
    ADMIN = "admin", _("Administrator")
    MEMBER = "member", _("Member")
    OBSERVER = "observer", _("Observer")


class Participant(models.Model):
    """Membership and what this member set or read. `visible_from_seq` is where the history that they may see begins."""

    conversation = models.ForeignKey(
        "messaging.Conversation", on_delete=models.CASCADE, db_index=False, related_name="participants"
    )
    user = models.ForeignKey("messaging.User", on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=16, choices=Role, default=Role.MEMBER)
    joined_at = models.DateTimeField(_("joined"))
    visible_from_seq = models.BigIntegerField(default=1)
    last_read_seq = models.BigIntegerField(default=0)
    last_delivered_seq = models.BigIntegerField(default=0)
    read_index = models.BigIntegerField(default=0, help_text=_("The log's unread index at last_read_seq."))
    own_since_read = models.IntegerField(default=0, help_text=_("Own messages after last_read_seq that can be unread."))
    last_sent_at = models.DateTimeField(null=True, help_text=_("Of this member's last message here, for slow mode."))
    muted_until = models.DateTimeField(null=True, blank=True)
    pinned = models.BooleanField(default=False)
    archived = models.BooleanField(default=False)
    hidden_at_index = models.BigIntegerField(
        null=True,
        blank=True,
        help_text=_("The conversation's message count when the member hid it: the next message shows it again."),
    )

    class Meta:
        ordering = ("joined_at", "id")
        verbose_name = _("participant")
        verbose_name_plural = _("participants")
        constraints = [
            models.UniqueConstraint(fields=["conversation", "user"], name="one_place_a_user"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="participant_role_is_known"),
        ]
        indexes = [models.Index(fields=["conversation", "joined_at", "id"], name="participant_listed")]

    def __str__(self) -> str:
        return f"{self.user_id} ({self.role})"
