"""`/messages/scheduled`: messages that are sent later."""

from typing import Any

from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, page_of, time_and_id
from messaging import rendering
from messaging.access import access_conversation, find_acting_user
from messaging.api.messages import SEND_ERRORS, sender_of
from messaging.models import ScheduledStatus
from messaging.services import scheduling as services
from messaging.services.sending import draft_from_body
from tenants.api.views import TenantView

SEEN = ("scheduled_message_not_found", "user_not_found")
NOT_ASKED_YET = {"conversation_frozen", "slow_mode", "message_quota_exceeded", "message_rejected", "message_held"}
CHECKED = tuple(code for code in SEND_ERRORS if code not in NOT_ASKED_YET)


class ScheduledMessages(TenantView):
    @operation(
        "scheduleMessage",
        summary="Schedule a message",
        tag="Messages",
        request="ScheduleMessage",
        response="ScheduledMessage",
        statuses=(201,),
        errors=(*CHECKED, "conflict"),
        scope="messages:write",
        description=(
            "It is checked now and sent at `sendAt`, once, late rather than never; it counts against the month then. "
            "A repeat of the same `clientMessageId` returns the first one with `Idempotent-Replayed: true`."
        ),
    )
    def post(self, call: Call) -> Reply:
        sender = sender_of(call, call.body)
        scheduled = services.schedule_message(
            tenant_id=call.caller.tenant.id,
            draft=draft_from_body(call.body, sender=sender, hides_conversation=not call.caller.is_integrator),
            send_at=call.body["sendAt"],
            now=call.now,
        )
        headers = {"Idempotent-Replayed": "true"} if scheduled.replayed else {}
        return Reply(rendering.render_scheduled(scheduled.message), status=201, headers=headers)

    @operation(
        "listScheduledMessages",
        summary="List scheduled messages",
        tag="Messages",
        response="ScheduledMessage",
        many=True,
        query=(
            CURSOR,
            limit_param(),
            Param("status", choices=tuple(ScheduledStatus.values), description="Only these."),
            Param("conversation", description="Only those for this conversation, by either id."),
        ),
        errors=("user_not_found", "conversation_not_found", "invalid_cursor"),
        scope="messages:read",
        description="In order of their times: the acting user's, or everybody's for a secret key that acts as nobody.",
    )
    def get(self, call: Call) -> Page:
        query, limit = call.query, call.query["limit"]
        actor = find_acting_user(call.caller)
        named = query["conversation"]
        found = services.list_scheduled(
            actor=actor,
            status=query["status"],
            conversation_id=None if named is None else access_conversation(named, actor).conversation.id,
            after=time_and_id(query["cursor"]),
            limit=limit + 1,
        )
        return page_of(
            found,
            limit=limit,
            key=lambda row: (row.send_at.isoformat(), str(row.id)),
            render=rendering.render_scheduled,
        )


class ScheduledMessageDetail(TenantView):
    @operation(
        "getScheduledMessage",
        summary="Read a scheduled message",
        tag="Messages",
        response="ScheduledMessage",
        errors=SEEN,
        scope="messages:read",
    )
    def get(self, call: Call, scheduledMessageId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name
        scheduled = services.get_scheduled(scheduledMessageId, find_acting_user(call.caller))
        return rendering.render_scheduled(scheduled)

    @operation(
        "updateScheduledMessage",
        summary="Change a scheduled message",
        tag="Messages",
        request="UpdateScheduledMessage",
        response="ScheduledMessage",
        errors=(*SEEN, *CHECKED, "conflict"),
        scope="messages:write",
        description="While it waits. What is left out or null stays as it is; the whole is checked anew.",
    )
    def patch(self, call: Call, scheduledMessageId: str) -> dict[str, Any]:  # noqa: N803
        scheduled = services.get_scheduled(scheduledMessageId, find_acting_user(call.caller))
        changed = services.change_scheduled(
            tenant_id=call.caller.tenant.id,
            scheduled=scheduled,
            change=call.body,
            speaks_for_tenant=call.caller.is_integrator,
            now=call.now,
        )
        return rendering.render_scheduled(changed)

    @operation(
        "cancelScheduledMessage",
        summary="Cancel a scheduled message",
        tag="Messages",
        response="ScheduledMessage",
        errors=(*SEEN, "conflict"),
        scope="messages:write",
        description="What it would have said is forgotten. Cancelling twice changes nothing; what is sent stays sent.",
    )
    def delete(self, call: Call, scheduledMessageId: str) -> dict[str, Any]:  # noqa: N803
        scheduled = services.get_scheduled(scheduledMessageId, find_acting_user(call.caller))
        cancelled = services.cancel_scheduled(tenant_id=call.caller.tenant.id, scheduled=scheduled, now=call.now)
        return rendering.render_scheduled(cancelled)
