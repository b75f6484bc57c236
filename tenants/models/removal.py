"""Bytes in the file storage that have to go."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class StorageRemoval(models.Model):
    """A promise to remove what lies under a key once it is due. Written in the transaction after which nothing refers
    to the bytes any more, or before they are written, and withdrawn by the transaction that refers to them; done by
    the sweeper, also when the tenant is gone by then."""

    storage_key = models.CharField(max_length=255, primary_key=True)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    due_at = models.DateTimeField()

    class Meta:
        verbose_name = _("storage removal")
        verbose_name_plural = _("storage removals")
        ordering = ("due_at", "storage_key")
        indexes = [models.Index(fields=["due_at", "storage_key"], name="removal_due")]

    def __str__(self) -> str:
        return self.storage_key
