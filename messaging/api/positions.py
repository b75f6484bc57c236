"""Reading: positions in a conversation, and a user's unread total."""

from typing import Any

from messagecore.kernel.api.operations import Call, operation
from messaging.access import (
    MessageNotFound,
    access_conversation,
    get_acting_user,
    get_user,
    require_self_or_integrator,
)
from messaging.api.conversations import render_one
from messaging.queries.unread import unread_total
from messaging.services import positions as services
from messaging.services.messages import access_message
from tenants.api.views import TenantView

ERRORS = ("acting_user_required", "conversation_not_found", "user_not_found")


class ConversationRead(TenantView):
    @operation(
        "markRead",
        summary="Move the read position on",
        tag="Conversations",
        request="MarkRead",
        response="Conversation",
        errors=ERRORS,
        scope="conversations:write",
        description="The acting user's. A seq below the present position changes nothing, one beyond the end means it.",
    )
    def post(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name
        user = get_acting_user(call.caller)
        access = access_conversation(conversationId, user)
        services.mark_read(
            tenant_id=call.caller.tenant.id,
            conversation=access.conversation,
            user=user,
            seq=call.body["seq"],
            now=call.now,
        )
        return render_one(access.conversation, user.id)


class ConversationUnread(TenantView):
    @operation(
        "markUnread",
        summary="Make a message and what follows it unread again",
        tag="Conversations",
        request="MarkUnread",
        response="Conversation",
        errors=(*ERRORS, "message_not_found"),
        scope="conversations:write",
    )
    def post(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        user = get_acting_user(call.caller)
        access = access_conversation(conversationId, user)
        message = access_message(call.body["messageId"], user).message
        if message.conversation_id != access.conversation.id:
            raise MessageNotFound
        services.mark_unread(
            tenant_id=call.caller.tenant.id,
            conversation=access.conversation,
            user=user,
            from_seq=message.seq,
            now=call.now,
        )
        return render_one(access.conversation, user.id)


class UserUnread(TenantView):
    @operation(
        "getUnreadTotal",
        summary="Read a user's unread total",
        tag="Users",
        response="UnreadTotal",
        errors=("user_not_found",),
        scope="conversations:read",
    )
    def get(self, call: Call, userId: str) -> dict[str, int]:  # noqa: N803
        user = get_user(userId)
        require_self_or_integrator(call.caller, user)
        total = unread_total(user.id)
        return {"unreadMessages": total.messages, "unreadConversations": total.conversations}
