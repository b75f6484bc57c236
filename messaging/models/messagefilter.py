"""What may not be said, and what is done about it."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class FilterKind(models.TextChoices):
    WORDS = "words", _("Words")
    REGEX = "regex", _("Regular expression")


class FilterAction(models.TextChoices):
    REJECT = "reject", _("Reject")
    MASK = "mask", _("Mask")
    HOLD = "hold", _("Hold for review")


class MessageFilter(models.Model):
    """`patterns`: words, or regular expressions in RE2's language, which takes linear time whatever the text."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=100)
    kind = models.CharField(_("kind"), max_length=16, choices=FilterKind)
    patterns = models.JSONField(_("patterns"))
    action = models.CharField(_("action"), max_length=16, choices=FilterAction)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created"))
    updated_at = models.DateTimeField(_("updated"))

    class Meta:
        ordering = ("created_at", "id")
        verbose_name = _("message filter")
        verbose_name_plural = _("message filters")
        constraints = [
            models.CheckConstraint(condition=models.Q(kind__in=FilterKind.values), name="filter_kind_is_known"),
            models.CheckConstraint(condition=models.Q(action__in=FilterAction.values), name="filter_action_is_known"),
        ]

    def __str__(self) -> str:
        return self.name
