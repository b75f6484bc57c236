"""Messages that somebody complained of."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from messagecore.kernel.ids import new_id


class ReportReason(models.TextChoices):
    SPAM = "spam", _("Spam")
    ABUSE = "abuse", _("Abuse")
    HATE = "hate", _("Hate")
    SEXUAL = "sexual", _("Sexual content")
    VIOLENCE = "violence", _("Violence")
    ILLEGAL = "illegal", _("Illegal")
    OTHER = "other", _("Other")


class ReportStatus(models.TextChoices):
    OPEN = "open", _("Open")
    RESOLVED = "resolved", _("Resolved")
    DISMISSED = "dismissed", _("Dismissed")


class MessageReport(models.Model):
    """A complaint. References the message, holds none of its content."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    message = models.ForeignKey("messaging.Message", on_delete=models.CASCADE, related_name="reports")
    reporter = models.ForeignKey("messaging.User", null=True, on_delete=models.SET_NULL, related_name="+")
    reason = models.CharField(_("reason"), max_length=16, choices=ReportReason)
    comment = models.CharField(_("comment"), max_length=1000, blank=True)
    status = models.CharField(_("status"), max_length=16, choices=ReportStatus, default=ReportStatus.OPEN)
    note = models.CharField(_("note"), max_length=1000, blank=True, help_text=_("What the moderator says of it."))
    created_at = models.DateTimeField(_("created"))
    decided_at = models.DateTimeField(_("decided"), null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("message report")
        verbose_name_plural = _("message reports")
        constraints = [
            models.UniqueConstraint(fields=["message", "reporter"], name="one_report_a_reporter"),
            models.CheckConstraint(condition=models.Q(reason__in=ReportReason.values), name="report_reason_is_known"),
            models.CheckConstraint(condition=models.Q(status__in=ReportStatus.values), name="report_status_is_known"),
        ]
        indexes = [models.Index(fields=["status", "-created_at", "-id"], name="report_listed")]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message_id}"
