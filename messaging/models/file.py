"""Files that messages link to."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class File(models.Model):
    """The record of stored bytes. `storage_key` is the tenant's own folder and a name that nobody can guess."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    owner = models.ForeignKey("messaging.User", null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(_("name"), max_length=255)
    media_type = models.CharField(_("media type"), max_length=255)
    size_bytes = models.BigIntegerField(_("size, bytes"))
    storage_key = models.CharField(max_length=255, unique=True)
    created_at = models.DateTimeField(_("created"))

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("file")
        verbose_name_plural = _("files")

    def __str__(self) -> str:
        return self.name


class MessageFile(models.Model):
    """A message's link to a file. The bytes go when the last link goes."""

    message = models.ForeignKey("messaging.Message", on_delete=models.CASCADE, related_name="files")
    file = models.ForeignKey("messaging.File", on_delete=models.CASCADE, related_name="links")

    class Meta:
        ordering = ("id",)
        verbose_name = _("linked file")
        verbose_name_plural = _("linked files")
        constraints = [models.UniqueConstraint(fields=["message", "file"], name="one_link_a_message")]

    def __str__(self) -> str:
        return f"{self.message_id}: {self.file_id}"
