"""What search finds a message by."""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.utils.translation import gettext_lazy as _


class SearchEntry(models.Model):
    """One searchable message: its words (`messaging/search/words.py` says which) and what search filters by, as
    lexemes of one vector, so that one index answers every combination. Written by the sweeper, not by the send.

    The columns are what decides who may find it, so that the message itself is read only when it is shown
    (docs/adr/0010). They name rows without being keys to them: deleting a user would look for theirs through the table.
    """

    message = models.OneToOneField(
        "messaging.Message", on_delete=models.CASCADE, primary_key=True, db_constraint=False, related_name="+"
    )
    conversation_id = models.UUIDField()
    seq = models.BigIntegerField()
    sender_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(_("created"))
    terms = SearchVectorField()

    class Meta:
        ordering = ("-created_at", "-message")
        verbose_name = _("search entry")
        verbose_name_plural = _("search entries")
        indexes = [
            models.Index(fields=["created_at", "message"], name="search_by_time"),
            models.Index(fields=["conversation_id", "created_at", "message"], name="search_by_conversation"),
            # Every search reads through the list of pending entries: 512 kB takes it 0.2 ms, and halves what writing
            # takes; PostgreSQL's 4 MB would take it 3 ms.
            GinIndex(fields=["terms"], name="search_by_terms", fastupdate=True, gin_pending_list_limit=512),
        ]

    def __str__(self) -> str:
        return str(self.message_id)
