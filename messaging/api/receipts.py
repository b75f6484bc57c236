"""What has reached whom: `/messages/{id}/receipts`, `/messages/{id}/delivery/{userId}`, and saying that it has."""

from typing import Any

from messagecore.kernel.api.operations import Call, operation
from messaging import rendering
from messaging.access import access_conversation, find_acting_user, get_acting_user, get_user
from messaging.api.users import require_integrator
from messaging.services import receipts as services
from messaging.services.messages import access_message
from tenants.api.views import TenantView


class ConversationDelivered(TenantView):
    @operation(
        "markDelivered",
        summary="Say up to where messages have arrived",
        tag="Conversations",
        request="MarkDelivered",
        response="DeliveredPosition",
        errors=("acting_user_required", "conversation_not_found", "user_not_found"),
        scope="conversations:write",
        description=(
            "On the acting user's device. A seq below the present position changes nothing, one beyond the end means "
            "it. What is read has arrived."
        ),
    )
    def post(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name
        user = get_acting_user(call.caller)
        access = access_conversation(conversationId, user)
        assert access.participant is not None
        moved_to = services.mark_delivered(
            tenant_id=call.caller.tenant.id,
            conversation_id=access.conversation.id,
            conversation_external_id=access.conversation.external_id,
            user_id=user.id,
            external_user_id=user.external_user_id,
            seq=call.body["seq"],
            now=call.now,
        )
        return {
            "conversationId": str(access.conversation.id),
            "conversationExternalId": access.conversation.external_id,
            "lastDeliveredSeq": rendering.delivered_seq(access.participant) if moved_to is None else moved_to,
        }


class MessageReceipts(TenantView):
    @operation(
        "listReceipts",
        summary="List whom a message reached",
        tag="Messages",
        response="Receipt",
        listed=True,
        errors=("message_not_found", "user_not_found", "conversation_too_large"),
        scope="messages:read",
        description=(
            "One for each other participant who may see it, in order of joining, in conversations of up to 100 people."
        ),
    )
    def get(self, call: Call, messageId: str) -> list[dict[str, Any]]:  # noqa: N803
        access = access_message(messageId, find_acting_user(call.caller))
        return [rendering.render_receipt(receipt) for receipt in services.list_receipts(access)]


class MessageDelivery(TenantView):
    @operation(
        "explainDelivery",
        summary="Ask why a user did not get a message",
        tag="Messages",
        response="Delivery",
        errors=("message_not_found", "user_not_found", "permission_denied"),
        scope="messages:read",
        description="For a secret key. What became of it, why, and what was notified, as things are now.",
    )
    def get(self, call: Call, messageId: str, userId: str) -> dict[str, Any]:  # noqa: N803
        require_integrator(call.caller)
        access = access_message(messageId, find_acting_user(call.caller))
        delivery = services.explain_delivery(
            tenant_id=call.caller.tenant.id, message=access.message, user=get_user(userId), now=call.now
        )
        return rendering.render_delivery(delivery)
