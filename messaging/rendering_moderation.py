"""How bans, filters, held messages and reports are shown: from what was read to the catalogue's objects."""

from typing import Any

from messagecore.kernel import wire
from messaging.models import Ban, HeldMessage, MessageFilter, MessageReport
from messaging.queries.messages import MessageView
from messaging.queries.moderation import FilterSummary, ReportCount
from messaging.rendering import render_message, render_reference


def render_ban(ban: Ban) -> dict[str, Any]:
    """With its user, conversation and moderator at hand."""
    return {
        "user": render_reference(ban.user),
        "userId": str(ban.user_id),
        "externalUserId": ban.user.external_user_id,
        "conversationId": None if ban.conversation_id is None else str(ban.conversation_id),
        "conversationExternalId": None if ban.conversation is None else ban.conversation.external_id,
        "reason": ban.reason,
        "until": wire.optional_timestamp(ban.until),
        "bannedBy": None if ban.banned_by is None else render_reference(ban.banned_by),
        "createdAt": wire.timestamp(ban.created_at),
    }


def render_end_of_ban(ban: Ban) -> dict[str, Any]:
    """Whom it keeps out and until when: what those may know who are refused because of it."""
    return {"userId": str(ban.user_id), "until": wire.optional_timestamp(ban.until)}


def render_filter_summary(row: FilterSummary) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.name,
        "kind": row.kind,
        "patternCount": row.pattern_count,
        "action": row.action,
        "isEnabled": row.is_enabled,
        "createdAt": wire.timestamp(row.created_at),
        "updatedAt": wire.timestamp(row.updated_at),
    }


def render_filter(row: MessageFilter) -> dict[str, Any]:
    summary = FilterSummary(
        row.id, row.name, row.kind, len(row.patterns), row.action, row.is_enabled, row.created_at, row.updated_at
    )
    return render_filter_summary(summary) | {"patterns": row.patterns}


_SHOWN_OF_DRAFT = ("type", "content", "replyToId", "forwardedFromId", "mentions", "metadata", "silent")


def render_held(held: HeldMessage) -> dict[str, Any]:
    """With its sender and conversation at hand."""
    return {
        "id": str(held.id),
        "status": held.status,
        "conversationId": str(held.conversation_id),
        "conversationExternalId": held.conversation.external_id,
        "sender": render_reference(held.sender),
        "senderId": str(held.sender_id),
        "clientMessageId": held.client_message_id,
        "filterId": None if held.filter_id is None else str(held.filter_id),
        "draft": {name: held.draft[name] for name in _SHOWN_OF_DRAFT} if held.draft else None,
        "messageId": None if held.message_id is None else str(held.message_id),
        "createdAt": wire.timestamp(held.created_at),
        "decidedAt": wire.optional_timestamp(held.decided_at),
    }


def render_report(report: MessageReport) -> dict[str, Any]:
    """As its reporter sees it."""
    return {
        "id": str(report.id),
        "messageId": str(report.message_id),
        "reason": report.reason,
        "comment": report.comment,
        "status": report.status,
        "createdAt": wire.timestamp(report.created_at),
    }


def render_moderated_report(report: MessageReport, message: MessageView | None, count: ReportCount) -> dict[str, Any]:
    """As moderators see it, with its reporter at hand."""
    return render_report(report) | {
        "message": None if message is None else render_message(message),
        "reporter": None if report.reporter is None else render_reference(report.reporter),
        "reporterId": None if report.reporter_id is None else str(report.reporter_id),
        "note": report.note,
        "reportCount": count.total,
        "openReportCount": count.open,
        "decidedAt": wire.optional_timestamp(report.decided_at),
    }
