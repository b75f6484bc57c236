"""`/conversations`, and the fixed-name route that creates one."""

from typing import Any
from uuid import UUID

from messagecore.kernel import wire
from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, decode_cursor, page_of
from messaging import rendering
from messaging.access import access_conversation, find_acting_user, get_user
from messaging.models import Conversation, ConversationType, Role
from messaging.queries import conversations as queries
from messaging.queries.conversations import ConversationView, activity_at, view_conversations
from messaging.services import conversations as services
from tenants.api.views import TenantView

LIST_QUERY = (
    CURSOR,
    limit_param(),
    Param("type", choices=tuple(ConversationType.values), description="Only conversations of this type."),
)
CREATE_ERRORS = ("id_conflict", "user_not_found", "conversation_not_found", "conflict")


def render_one(conversation: Conversation, viewer_id: UUID | None) -> dict[str, Any]:
    (view,) = view_conversations([conversation], viewer_id=viewer_id)
    return _render(view)


def _render(view: ConversationView) -> dict[str, Any]:
    return rendering.render_conversation(
        view.conversation,
        participants=view.participants,
        last_message=view.last_message,
        membership=view.membership,
    )


def conversation_page(call: Call, user_id: UUID | None) -> Page:
    """A page of a user's conversations (None: of the tenant's), by last activity."""
    cursor, limit = call.query["cursor"], call.query["limit"]
    before = None if cursor is None else decode_cursor(cursor, wire.parse_timestamp, UUID)
    found = queries.list_conversations(
        user_id=user_id,
        before=None if before is None else (before[0], before[1]),
        type_=call.query["type"],
        limit=limit + 1,
    )
    shown = page_of(
        found,
        limit=limit,
        key=lambda row: (activity_at(row).isoformat(), str(row.id)),
        render=lambda row: row,
    )
    return Page([_render(view) for view in view_conversations(shown.data, viewer_id=user_id)], shown.next_cursor)


def _create(call: Call) -> tuple[dict[str, Any], bool]:
    actor = find_acting_user(call.caller)
    body = call.body
    made = services.create_conversation(
        tenant_id=call.caller.tenant.id,
        wanted=services.NewConversation(
            type=body["type"],
            title=body.get("title"),
            participants=body.get("participantIds", []),
            external_id=body.get("externalId"),
            metadata=body.get("metadata", {}),
        ),
        actor=actor,
        now=call.now,
    )
    return render_one(made.conversation, actor.id if actor else None), made.created


class FixedCreate(TenantView):
    @operation(
        "createConversationFixed",
        summary="Create a conversation (fixed-name route)",
        tag="Messages",
        request="CreateConversation",
        response="Conversation",
        errors=CREATE_ERRORS,
        scope="conversations:write",
        description="Always 200. An existing direct pair or `externalId` returns that conversation.",
    )
    def post(self, call: Call) -> dict[str, Any]:
        return _create(call)[0]


class Conversations(TenantView):
    @operation(
        "createConversation",
        summary="Create a conversation",
        tag="Conversations",
        request="CreateConversation",
        response="Conversation",
        statuses=(201, 200),
        errors=CREATE_ERRORS,
        scope="conversations:write",
        description="201 when it made one, 200 when the direct pair or `externalId` was there already.",
    )
    def post(self, call: Call) -> Reply:
        rendered, created = _create(call)
        return Reply(rendered, status=201 if created else 200)

    @operation(
        "listConversations",
        summary="List conversations",
        tag="Conversations",
        response="Conversation",
        many=True,
        query=LIST_QUERY,
        errors=("user_not_found", "invalid_cursor"),
        scope="conversations:read",
        description="By last activity: the acting user's, or the whole tenant's for a secret key that acts as nobody.",
    )
    def get(self, call: Call) -> Page:
        actor = find_acting_user(call.caller)
        return conversation_page(call, actor.id if actor else None)


class ConversationDetail(TenantView):
    @operation(
        "getConversation",
        summary="Read a conversation",
        tag="Conversations",
        response="Conversation",
        errors=("conversation_not_found", "user_not_found"),
        scope="conversations:read",
    )
    def get(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        return render_one(access.conversation, actor.id if actor else None)


class ConversationParticipants(TenantView):
    @operation(
        "addParticipants",
        summary="Add participants",
        tag="Conversations",
        request="AddParticipants",
        response="Conversation",
        errors=("conversation_not_found", "user_not_found", "permission_denied", "conflict"),
        scope="conversations:write",
        description="Who is in already is left as they are. `showHistory: false`: newcomers see what comes after them.",
    )
    def post(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        conversation = services.add_participants(
            tenant_id=call.caller.tenant.id,
            conversation=access.conversation,
            participants=call.body["participantIds"],
            role=call.body.get("role", Role.MEMBER),
            show_history=call.body.get("showHistory", True),
            actor=actor,
        )
        return render_one(conversation, actor.id if actor else None)


class ConversationParticipant(TenantView):
    @operation(
        "removeParticipant",
        summary="Remove a participant, or leave",
        tag="Conversations",
        errors=("conversation_not_found", "user_not_found", "participant_not_found", "permission_denied", "conflict"),
        scope="conversations:write",
        description="At once, on every open socket. A user may always remove themselves.",
    )
    def delete(self, call: Call, conversationId: str, userId: str) -> None:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        services.remove_participant(
            tenant_id=call.caller.tenant.id, conversation=access.conversation, user=get_user(userId), actor=actor
        )
