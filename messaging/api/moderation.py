"""`/moderation`: filters, the review queue and reports, for secret keys; and reporting a message, for users."""

from typing import Any

from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, page_of, time_and_id
from messaging import rendering_moderation as rendering
from messaging.access import get_acting_user
from messaging.api.messages import SEND_ERRORS
from messaging.api.users import require_integrator
from messaging.models import HeldStatus, ReportReason, ReportStatus
from messaging.queries import moderation as queries
from messaging.services import filters, reports, review
from messaging.services.reports import Evidence
from tenants.api.views import TenantView

HELD = ("held_message_not_found", "permission_denied")
# What a moderator's send is never refused for: it has a sender, and filters are not asked.
APPROVED = tuple(
    code for code in SEND_ERRORS if code not in {"acting_user_required", "message_rejected", "message_held"}
)


def _place(row: Any) -> tuple[str, str]:
    return row.created_at.isoformat(), str(row.id)


# --- filters --------------------------------------------------------------------------------------------------------


class Filters(TenantView):
    @operation(
        "createFilter",
        summary="Make a message filter",
        tag="Moderation",
        request="CreateFilter",
        response="MessageFilter",
        statuses=(201,),
        errors=("permission_denied", "conflict"),
        scope="moderation:write",
        description="In force everywhere within 5 s.",
    )
    def post(self, call: Call) -> Reply:
        require_integrator(call.caller)
        made = filters.create_filter(tenant_id=call.caller.tenant.id, body=call.body, now=call.now)
        return Reply(rendering.render_filter(made), status=201)

    @operation(
        "listFilters",
        summary="List message filters",
        tag="Moderation",
        response="MessageFilterSummary",
        many=True,
        query=(CURSOR, limit_param()),
        errors=("permission_denied", "invalid_cursor"),
        scope="moderation:read",
        description="In order of creation, without their patterns.",
    )
    def get(self, call: Call) -> Page:
        require_integrator(call.caller)
        limit, after = call.query["limit"], time_and_id(call.query["cursor"])
        found = queries.list_filters(after=after, limit=limit + 1)
        return page_of(found, limit=limit, key=_place, render=rendering.render_filter_summary)


class FilterDetail(TenantView):
    @operation(
        "getFilter",
        summary="Read a message filter",
        tag="Moderation",
        response="MessageFilter",
        errors=("filter_not_found", "permission_denied"),
        scope="moderation:read",
    )
    def get(self, call: Call, filterId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name for the path
        require_integrator(call.caller)
        return rendering.render_filter(filters.get_filter(filterId))

    @operation(
        "updateFilter",
        summary="Change a message filter",
        tag="Moderation",
        request="UpdateFilter",
        response="MessageFilter",
        errors=("filter_not_found", "permission_denied"),
        scope="moderation:write",
        description="What is left out or null stays; patterns are replaced as a whole. In force within 5 s.",
    )
    def patch(self, call: Call, filterId: str) -> dict[str, Any]:  # noqa: N803
        require_integrator(call.caller)
        changed = filters.update_filter(
            tenant_id=call.caller.tenant.id, filter_id=filterId, change=call.body, now=call.now
        )
        return rendering.render_filter(changed)

    @operation(
        "deleteFilter",
        summary="Delete a message filter",
        tag="Moderation",
        errors=("filter_not_found", "permission_denied"),
        scope="moderation:write",
        description="What it held stays in the review queue.",
    )
    def delete(self, call: Call, filterId: str) -> Any:  # noqa: N803
        require_integrator(call.caller)
        filters.delete_filter(tenant_id=call.caller.tenant.id, filter_id=filterId)


# --- the review queue -----------------------------------------------------------------------------------------------


class HeldMessages(TenantView):
    @operation(
        "listHeldMessages",
        summary="List messages held for review",
        tag="Moderation",
        response="HeldMessage",
        many=True,
        query=(
            CURSOR,
            limit_param(),
            Param("status", choices=tuple(HeldStatus.values), default=str(HeldStatus.PENDING), description="These."),
        ),
        errors=("permission_denied", "invalid_cursor"),
        scope="moderation:read",
        description="The oldest first.",
    )
    def get(self, call: Call) -> Page:
        require_integrator(call.caller)
        limit, after = call.query["limit"], time_and_id(call.query["cursor"])
        found = queries.list_held(status=call.query["status"], after=after, limit=limit + 1)
        return page_of(found, limit=limit, key=_place, render=rendering.render_held)


class HeldMessageApprove(TenantView):
    @operation(
        "approveHeldMessage",
        summary="Approve a held message: send it",
        tag="Moderation",
        response="HeldMessage",
        errors=(*HELD, "conflict", *APPROVED),
        scope="moderation:write",
        description=(
            "As it was written, past all filters, under its `clientMessageId`. Where it cannot be sent (its sender has "
            "left, say), it stays in the queue. Approving twice sends once."
        ),
    )
    def post(self, call: Call, heldMessageId: str) -> dict[str, Any]:  # noqa: N803
        require_integrator(call.caller)
        held = review.approve_held(tenant_id=call.caller.tenant.id, held_id=heldMessageId, now=call.now)
        return rendering.render_held(held)


class HeldMessageReject(TenantView):
    @operation(
        "rejectHeldMessage",
        summary="Reject a held message",
        tag="Moderation",
        response="HeldMessage",
        errors=(*HELD, "conflict"),
        scope="moderation:write",
        description="It is never sent, and what it said is forgotten. Rejecting twice changes nothing.",
    )
    def post(self, call: Call, heldMessageId: str) -> dict[str, Any]:  # noqa: N803
        require_integrator(call.caller)
        return rendering.render_held(review.reject_held(held_id=heldMessageId, now=call.now))


# --- reports --------------------------------------------------------------------------------------------------------


class MessageReporting(TenantView):
    @operation(
        "reportMessage",
        summary="Report a message",
        tag="Moderation",
        request="ReportMessage",
        response="MessageReport",
        statuses=(201, 200),
        errors=("message_not_found", "user_not_found", "acting_user_required", "conflict"),
        scope="messages:write",
        description=(
            "To the tenant's moderators. Once for each reporter: again changes it (200), and opens it again if it had "
            "been decided and says something else now."
        ),
    )
    def post(self, call: Call, messageId: str) -> Reply:  # noqa: N803
        reported = reports.report_message(
            message_id=messageId,
            reporter=get_acting_user(call.caller),
            reason=call.body["reason"],
            comment=call.body.get("comment", ""),
            now=call.now,
        )
        return Reply(rendering.render_report(reported.report), status=201 if reported.is_new else 200)


def _render_evidence(found: Evidence) -> dict[str, Any]:
    return rendering.render_moderated_report(found.report, found.message, found.count)


class Reports(TenantView):
    @operation(
        "listReports",
        summary="List reports of messages",
        tag="Moderation",
        response="ModeratedReport",
        many=True,
        query=(
            CURSOR,
            limit_param(),
            Param("status", choices=tuple(ReportStatus.values), default=str(ReportStatus.OPEN), description="These."),
            Param("reason", choices=tuple(ReportReason.values), description="Only these."),
        ),
        errors=("permission_denied", "invalid_cursor"),
        scope="moderation:read",
        description="The latest first, each with the message as it is now.",
    )
    def get(self, call: Call) -> Page:
        require_integrator(call.caller)
        query, limit = call.query, call.query["limit"]
        found = queries.list_reports(
            status=query["status"], reason=query["reason"], before=time_and_id(query["cursor"]), limit=limit + 1
        )
        shown = page_of(found, limit=limit, key=_place, render=lambda report: report)
        return Page([_render_evidence(evidence) for evidence in reports.evidence_of(shown.data)], shown.next_cursor)


class ReportResolve(TenantView):
    @operation(
        "resolveReport",
        summary="Decide on a report",
        tag="Moderation",
        request="ResolveReport",
        response="ModeratedReport",
        errors=("report_not_found", "permission_denied", "conflict"),
        scope="moderation:write",
        description=(
            "`deleteMessage` deletes the message for everyone and resolves every open report of it. Deciding again "
            "alike changes nothing."
        ),
    )
    def post(self, call: Call, reportId: str) -> dict[str, Any]:  # noqa: N803
        require_integrator(call.caller)
        report = reports.resolve_report(
            tenant_id=call.caller.tenant.id,
            report_id=reportId,
            status=call.body["status"],
            note=call.body.get("note", ""),
            deletes_message=call.body.get("deleteMessage", False),
            now=call.now,
        )
        (evidence,) = reports.evidence_of([report])
        return _render_evidence(evidence)
