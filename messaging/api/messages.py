"""The message routes with fixed names. Clients of them are in the field: they answer 200 on success, always."""

from typing import Any

from messagecore.kernel.api.operations import Call, Param, Reply, limit_param, operation
from messaging import rendering
from messaging.access import ActingUserRequired, UserNotFound, access_conversation, find_acting_user, get_acting_user
from messaging.queries.history import HistoryRequest, read_history
from messaging.services.filters import MessageHeld
from messaging.services.sending import Sent, draft_from_body, send_message
from tenants.api.views import TenantView

SEND_ERRORS = (
    "acting_user_required",
    "user_not_found",
    "conversation_not_found",
    "message_not_found",
    "not_a_participant",
    "blocked",
    "conversation_frozen",
    "slow_mode",
    "permission_denied",
    "idempotency_conflict",
    "message_quota_exceeded",
    "message_rejected",
    "message_held",
)


def rendered_send(sent: Sent | MessageHeld, *, status: int = 200) -> Reply | MessageHeld:
    """The message; a header says that it was there before. What is held is a refusal, answered after the commit."""
    if isinstance(sent, MessageHeld):
        return sent
    headers = {"Idempotent-Replayed": "true"} if sent.replayed else {}
    return Reply(rendering.render_message(sent.message), status=status, headers=headers)


class SendMessage(TenantView):
    @operation(
        "sendMessage",
        summary="Send a message",
        tag="Messages",
        request="SendMessage",
        response="Message",
        errors=SEND_ERRORS,
        scope="messages:write",
        description=(
            "A repeat of the same `clientMessageId` returns the first message with `Idempotent-Replayed: true`. "
            "A secret key names the sender by `senderId` or `X-Acting-User`; a user token is its own sender."
        ),
    )
    def post(self, call: Call) -> Reply | MessageHeld:
        sender = sender_of(call, call.body)
        sent = send_message(
            tenant_id=call.caller.tenant.id,
            draft=draft_from_body(call.body, sender=sender, hides_conversation=not call.caller.is_integrator),
            via="rest",
        )
        return rendered_send(sent)


def sender_of(call: Call, body: dict[str, Any]) -> str:
    """Whose message a `SendMessage` body is. A user cannot send as somebody else: for them others do not exist."""
    named = body.get("senderId")
    if call.caller.is_integrator and call.caller.claims is None:
        if (sender := named or call.caller.acting_user) is None:
            raise ActingUserRequired
        return str(sender)
    actor = get_acting_user(call.caller)
    if named not in {None, str(actor.id), actor.external_user_id}:
        raise UserNotFound
    return str(actor.id)


class ConversationHistory(TenantView):
    @operation(
        "listMessages",
        summary="Read a conversation's messages",
        tag="Messages",
        response="MessageHistory",
        query=(
            Param("page", "integer", default=1, minimum=1, maximum=2**53, description="`page × limit` ≤ 10,000."),
            limit_param(),
            Param("before", description="A time or a message id: what is older."),
            Param("beforeSeq", "integer", minimum=0, maximum=2**53, description="Messages with a smaller seq."),
            Param("afterSeq", "integer", minimum=0, maximum=2**53, description="Messages with a larger seq."),
            Param("around", description="A message id or seq: it in the middle."),
        ),
        errors=("conversation_not_found", "user_not_found", "message_not_found", "page_too_deep"),
        scope="messages:read",
        description=(
            "Oldest first. `total` counts the conversation's messages, tombstones included, whatever was asked; "
            "`hasMore`: an older one exists."
        ),
    )
    def get(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        query = call.query
        wanted = HistoryRequest(
            page=query["page"],
            limit=query["limit"],
            before=query["before"],
            before_seq=query["beforeSeq"],
            after_seq=query["afterSeq"],
            around=query["around"],
        )
        history = read_history(access, wanted)
        return {
            "messages": [rendering.render_message(view) for view in history.messages],
            "pagination": {
                "page": query["page"] if wanted.is_by_page else None,
                "limit": query["limit"],
                "total": history.total,
                "hasMore": history.has_more,
            },
        }
