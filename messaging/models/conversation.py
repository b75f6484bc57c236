"""A place where users talk."""

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class ConversationType(models.TextChoices):
    DIRECT = "direct", _("Direct")
    GROUP = "group", _("Group")
    CHANNEL = "channel", _("Channel")


class Conversation(models.Model):
    """`last_seq` numbers the durable events (messages among them), `message_count` the messages alone. Both advance
    under this row's lock, so that the order of numbers is the order of commits."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    external_id = models.CharField(_("external id"), max_length=255, unique=True, null=True, blank=True)
    type = models.CharField(_("type"), max_length=16, choices=ConversationType)
    direct_key = models.CharField(
        max_length=73, unique=True, null=True, blank=True, editable=False, help_text=_("The two users' ids, sorted.")
    )
    title = models.CharField(_("title"), max_length=255, null=True, blank=True)  # noqa: DJ001
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    settings = models.JSONField(_("settings"), default=dict, blank=True)
    created_by = models.ForeignKey("messaging.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("updated"))
    last_message_at = models.DateTimeField(_("last message"), null=True, blank=True)
    last_message_id = models.UUIDField(null=True, blank=True, editable=False)
    last_seq = models.BigIntegerField(default=0)
    last_event_at = models.DateTimeField(help_text=_("The log's own time of its last event: never goes back."))
    message_count = models.BigIntegerField(default=0)
    purged_seq = models.BigIntegerField(default=0, help_text=_("Retention removed the log up to and with this seq."))
    purged_count = models.BigIntegerField(default=0, help_text=_("How many messages went with it."))
    oldest_at = models.DateTimeField(help_text=_("No remaining entry of the log was recorded before."))
    unread_total = models.BigIntegerField(default=0, help_text=_("The unread index of its last message."))
    participant_count = models.IntegerField(default=0)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(type__in=ConversationType.values), name="conversation_type_is_known"
            ),
        ]
        indexes = [
            models.Index(fields=["created_at", "id"], name="conversation_listed"),
            models.Index(fields=["oldest_at", "id"], name="conversation_oldest"),
            GinIndex(fields=["metadata"], opclasses=["jsonb_path_ops"], name="conversation_metadata"),
        ]

    def __str__(self) -> str:
        return self.title or self.external_id or str(self.id)

    @property
    def remaining_count(self) -> int:
        """The messages that retention has left, tombstones included."""
        return self.message_count - self.purged_count
