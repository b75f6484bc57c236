"""Complaints of messages: made by those who see them, decided on by moderators.

Order of locks: the conversation, then the report.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F

from messagecore.kernel import ids
from messagecore.kernel.errors import Conflict, FieldError, NotFound, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messaging.access import ConversationAccess, MessageNotFound, access_conversation
from messaging.models import Message, MessageReport, MessageType, ReportStatus, User
from messaging.queries.messages import MessageView, get_messages
from messaging.queries.moderation import ReportCount, count_reports
from messaging.services import log
from messaging.services.messages import MessageAccess, delete_message


class ReportNotFound(NotFound):
    code = "report_not_found"


@dataclass(frozen=True, slots=True)
class Reported:
    """A report that is there; `is_new`: the reporter had made none of this message before."""

    report: MessageReport
    is_new: bool


def report_message(*, message_id: str, reporter: User, reason: str, comment: str, now: datetime) -> Reported:
    """Complains of a message, once for each reporter: again changes the report, and opens it again if that says
    something else than what was decided on. Who blocks the author may, too, and a tombstone can be reported.

    Raises MessageNotFound, Conflict (one's own message, or the system's).
    """
    found = _visible(message_id, reporter)
    log.lock(found.conversation_id)
    message = Message.objects.filter(pk=found.pk, seq__gt=F("conversation__purged_seq")).first()
    if message is None:
        raise MessageNotFound
    if message.type == MessageType.SYSTEM:
        raise Conflict("A system message cannot be reported.")
    if message.sender_id == reporter.id:
        raise Conflict("Nobody reports their own message.")
    report = MessageReport.objects.select_for_update(of=("self",)).filter(message=message, reporter=reporter).first()
    if report is None:
        made = MessageReport.objects.create(
            id=ids.new_id(), message=message, reporter=reporter, reason=reason, comment=comment, created_at=now
        )
        return Reported(made, is_new=True)
    if (report.reason, report.comment) != (reason, comment):
        report.reason, report.comment = reason, comment
        report.status, report.decided_at = ReportStatus.OPEN, None
        report.save(update_fields=["reason", "comment", "status", "decided_at"])
    return Reported(report, is_new=False)


def _visible(message_id: str, reporter: User) -> Message:
    """As `access_message`, but for blocking: whoever blocks first and complains then is right to. Nothing of the
    message is shown."""
    uuid = find_uuid(message_id)
    message = None if uuid is None else Message.objects.filter(pk=uuid).first()
    if message is None:
        raise MessageNotFound
    try:
        access = access_conversation(str(message.conversation_id), reporter)
    except NotFound:
        raise MessageNotFound from None
    if message.seq < access.visible_from_seq:
        raise MessageNotFound
    return message


@dataclass(frozen=True, slots=True)
class Evidence:
    """A report with its message as it is now, None where retention is about to take it, and how many reports of that
    message there are."""

    report: MessageReport
    message: MessageView | None
    count: ReportCount


def evidence_of(reports: Sequence[MessageReport]) -> list[Evidence]:
    """Three statements, whatever the number of reports."""
    message_ids = list({report.message_id for report in reports})
    views, counts = get_messages(message_ids), count_reports(message_ids)
    return [
        Evidence(report, views.get(report.message_id), counts.get(report.message_id, ReportCount(0, 0)))
        for report in reports
    ]


def get_report(any_id: str) -> MessageReport:
    """With its reporter. Raises ReportNotFound."""
    uuid = find_uuid(any_id)
    found = (
        None if uuid is None else MessageReport.objects.select_related("reporter", "message").filter(pk=uuid).first()
    )
    if found is None:
        raise ReportNotFound
    return found


def resolve_report(
    *, tenant_id: UUID, report_id: str, status: str, note: str, deletes_message: bool, now: datetime
) -> MessageReport:
    """Closes a report. Deciding again alike changes nothing, besides deleting the message.

    `deletes_message`: for everyone, which resolves every open report of it. Raises ReportNotFound, Conflict (it was
    decided otherwise), ValidationFailed (dismissed, but deleted).
    """
    if deletes_message and status != ReportStatus.RESOLVED:
        raise ValidationFailed([FieldError("/deleteMessage", "goes with the status resolved")])
    message = get_report(report_id).message
    conversation = log.lock(message.conversation_id)
    MessageReport.objects.select_for_update().filter(pk=report_id).first()
    report = get_report(report_id)
    if report.status == ReportStatus.OPEN:
        report.status, report.note, report.decided_at = status, note, now
        report.save(update_fields=["status", "note", "decided_at"])
    elif report.status != status:
        raise Conflict(f"The report is {report.status}.")
    if deletes_message:
        with suppress(MessageNotFound):  # retention was faster
            access = MessageAccess(message, ConversationAccess(conversation, None))
            delete_message(tenant_id=tenant_id, access=access, actor=None)
        others = MessageReport.objects.filter(message_id=report.message_id, status=ReportStatus.OPEN)
        others.update(status=ReportStatus.RESOLVED, decided_at=now)
    return report
