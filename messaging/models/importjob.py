"""Bulk imports: how far each came, and what was wrong with it."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class ImportJob(models.Model):
    """An import that arrives in chunks. `position_bytes` is what was taken in so far: where the next chunk begins."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=255, blank=True)
    position_bytes = models.BigIntegerField(default=0)
    lines = models.BigIntegerField(default=0)
    created_count = models.BigIntegerField(default=0)
    updated_count = models.BigIntegerField(default=0)
    unchanged_count = models.BigIntegerField(default=0)
    failed_count = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("updated"))
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("import")
        verbose_name_plural = _("imports")

    def __str__(self) -> str:
        return self.name or str(self.id)


class ImportFailure(models.Model):
    """A line that was left out, and why. Never quotes the line."""

    job = models.ForeignKey("messaging.ImportJob", on_delete=models.CASCADE, related_name="failures", db_index=False)
    line = models.BigIntegerField()
    code = models.CharField(max_length=64)
    pointer = models.CharField(max_length=1000, blank=True)
    message = models.CharField(max_length=1000)

    class Meta:
        ordering = ("job", "line", "id")
        verbose_name = _("import failure")
        verbose_name_plural = _("import failures")
        indexes = [models.Index(fields=["job", "line", "id"], name="import_failure_listed")]

    def __str__(self) -> str:
        return f"line {self.line}: {self.code}"
