"""What search finds a message by."""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.utils.translation import gettext_lazy as _


class SearchEntry(models.Model):
    """One searchable message: its words (`messaging/search/words.py` says which) and what search filters by, as
    lexemes of one vector, so that one index answers every combination. Written by the sweeper, not by the send."""

    message = models.OneToOneField(
        "messaging.Message", on_delete=models.CASCADE, primary_key=True, db_constraint=False, related_name="+"
    )
    created_at = models.DateTimeField(_("created"))
    terms = SearchVectorField()

    class Meta:
        ordering = ("-created_at", "-message")
        verbose_name = _("search entry")
        verbose_name_plural = _("search entries")
        indexes = [
            models.Index(fields=["created_at", "message"], name="search_by_time"),
            GinIndex(fields=["terms"], name="search_by_terms"),
        ]

    def __str__(self) -> str:
        return str(self.message_id)
