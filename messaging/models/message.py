"""A message: content, and at once the log's record of `new_message`."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class MessageType(models.TextChoices):
    TEXT = "text", _("Text")
    IMAGE = "image", _("Image")
    FILE = "file", _("File")
    AUDIO = "audio", _("Audio")
    VIDEO = "video", _("Video")
    LOCATION = "location", _("Location")
    SYSTEM = "system", _("System")
    CUSTOM = "custom", _("Custom")


class Message(models.Model):
    """Written only by `messaging.services.sending`.

    The conversation's log is these rows together with `ConversationEvent`, by `seq`: a message needs no second row
    to be an event (docs/adr/0003). References carry no database constraint: they cost a third of the insert, and
    the send checks both under the conversation's lock.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    conversation = models.ForeignKey(
        "messaging.Conversation", on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="messages"
    )
    seq = models.BigIntegerField()
    message_index = models.BigIntegerField()
    sender = models.ForeignKey(
        "messaging.User", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False, related_name="+"
    )
    type = models.CharField(_("type"), max_length=16, choices=MessageType)
    content = models.JSONField(_("content"))
    reply_to_id = models.UUIDField(null=True)
    client_message_id = models.CharField(max_length=255, null=True)  # noqa: DJ001 - null: the client brought none
    body_digest = models.BinaryField(max_length=16, help_text=_("Of what was sent, to tell a replay from a conflict."))
    mentions = models.JSONField(default=list)
    metadata = models.JSONField(_("metadata"), default=dict)
    silent = models.BooleanField(default=False)
    unread_index = models.BigIntegerField(
        default=0, help_text=_("How many messages that can be unread the log had up to and with this one.")
    )
    forwarded_from_id = models.UUIDField(null=True, help_text=_("The message that this one repeats."))
    thread_id = models.UUIDField(null=True, help_text=_("The message at the root of the thread that this replies in."))
    reply_count = models.IntegerField(default=0)
    reaction_count = models.IntegerField(default=0)
    created_at = models.DateTimeField(_("created"))
    recorded_at = models.DateTimeField(help_text=_("The log's own time: never decreasing in seq."))
    updated_at = models.DateTimeField(_("updated"))
    edited_at = models.DateTimeField(_("edited"), null=True)
    deleted_at = models.DateTimeField(_("deleted"), null=True)

    class Meta:
        ordering = ("conversation", "seq")
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.UniqueConstraint(fields=["conversation", "seq"], name="message_seq"),
            models.UniqueConstraint(
                fields=["sender", "client_message_id"],
                name="message_sent_once",
                condition=models.Q(client_message_id__isnull=False),
            ),
            models.CheckConstraint(condition=models.Q(type__in=MessageType.values), name="message_type_is_known"),
        ]
        indexes = [
            models.Index(fields=["conversation", "created_at", "seq"], name="message_by_time"),
            models.Index(fields=["sender", "conversation", "seq"], name="message_by_sender"),
            models.Index(
                fields=["thread_id", "seq"], name="message_in_thread", condition=models.Q(thread_id__isnull=False)
            ),
            models.Index(
                fields=["conversation", "seq"], name="message_deleted", condition=models.Q(deleted_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.conversation_id}#{self.seq}"
