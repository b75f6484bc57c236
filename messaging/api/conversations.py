"""`/conversations`, and the fixed-name route that creates one."""

from typing import Any
from uuid import UUID

from messagecore.kernel import wire
from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, decode_cursor, page_of, time_and_id
from messagecore.kernel.errors import FieldError, InvalidJson, ValidationFailed
from messaging import rendering
from messaging.access import access_conversation, find_acting_user, get_acting_user, get_conversation, get_user
from messaging.models import Conversation, ConversationType, Role
from messaging.queries import conversations as queries
from messaging.queries.conversations import ConversationFilter, ConversationView, activity_at, view_conversations
from messaging.services import conversations as services
from messaging.services import participants
from tenants.api.views import TenantView

LIST_QUERY = (
    CURSOR,
    limit_param(),
    Param("type", choices=tuple(ConversationType.values), description="Only conversations of this type."),
    Param("participant", description="Only those that this user is in, by either id."),
    Param("externalId", description="Only the one with this external id."),
    Param("metadata", maximum=2000, description="A JSON object that their metadata contains."),
    Param("updatedSince", "timestamp", description="Only those where something happened since then."),
    *(
        Param(name, choices=("exclude", "only", "include"), default=default, description=description)
        for name, default, description in (
            ("hidden", "exclude", "Those that the acting user hid; the next message shows them again."),
            ("archived", "include", "Those that the acting user archived."),
            ("pinned", "include", "Those that the acting user pinned."),
        )
    ),
    Param("unreadOnly", "boolean", default=False, description="Only those with unread messages, for the acting user."),
)
_WANTED = {"exclude": False, "only": True, "include": None}
CHANGE_ERRORS = ("conversation_not_found", "user_not_found", "permission_denied")
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
    found = queries.list_conversations(
        user_id=user_id,
        before=time_and_id(cursor),
        wanted=_filter(call),
        limit=limit + 1,
    )
    shown = page_of(
        found,
        limit=limit,
        key=lambda row: (activity_at(row).isoformat(), str(row.id)),
        render=lambda row: row,
    )
    return Page([_render(view) for view in view_conversations(shown.data, viewer_id=user_id)], shown.next_cursor)


def _filter(call: Call) -> ConversationFilter:
    """Raises ValidationFailed, UserNotFound."""
    query = call.query
    metadata = query["metadata"]
    if metadata is not None:
        try:
            parsed = wire.loads(metadata)
        except InvalidJson:
            parsed = None
        if not isinstance(parsed, dict):
            raise ValidationFailed([FieldError("/metadata", "must be a JSON object")])
        metadata = wire.dumps(parsed).decode()
    return ConversationFilter(
        type=query["type"],
        participant_id=None if query["participant"] is None else get_user(query["participant"]).id,
        external_id=query["externalId"],
        metadata=metadata,
        updated_since=query["updatedSince"],
        unread_only=query["unreadOnly"],
        hidden=_WANTED[query["hidden"]],
        archived=_WANTED[query["archived"]],
        pinned=_WANTED[query["pinned"]],
    )


def _create(call: Call) -> tuple[dict[str, Any], bool]:
    actor = find_acting_user(call.caller)
    body = call.body
    made = services.create_conversation(
        tenant_id=call.caller.tenant.id,
        wanted=services.NewConversation(
            type=body["type"],
            title=body.get("title") or None,
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

    @operation(
        "updateConversation",
        summary="Change a conversation",
        tag="Conversations",
        request="UpdateConversation",
        response="Conversation",
        errors=CHANGE_ERRORS,
        scope="conversations:write",
        description="Owners and admins may. An empty title (an empty object for metadata) clears.",
    )
    def patch(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        conversation = services.update_conversation(
            tenant_id=call.caller.tenant.id, conversation=access.conversation, change=call.body, actor=actor
        )
        return render_one(conversation, actor.id if actor else None)

    @operation(
        "deleteConversation",
        summary="Delete a conversation with everything in it",
        tag="Conversations",
        errors=CHANGE_ERRORS,
        scope="conversations:write",
        description="Its owner may, and a secret key.",
    )
    def delete(self, call: Call, conversationId: str) -> None:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        services.delete_conversation(
            tenant_id=call.caller.tenant.id, conversation=access.conversation, actor=actor, now=call.now
        )


class ConversationJoin(TenantView):
    @operation(
        "joinConversation",
        summary="Join a channel",
        tag="Conversations",
        response="Conversation",
        errors=("conversation_not_found", "user_not_found", "acting_user_required", "banned_from_conversation"),
        scope="conversations:write",
        description="Channels are open to the tenant's users; other conversations are joined by being added.",
    )
    def post(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        user = get_acting_user(call.caller)
        conversation = participants.join_channel(
            tenant_id=call.caller.tenant.id, conversation=get_conversation(conversationId), user=user
        )
        return render_one(conversation, user.id)


class ConversationMembership(TenantView):
    @operation(
        "changeMembership",
        summary="Mute, pin, archive or hide a conversation for oneself",
        tag="Conversations",
        request="ChangeMembership",
        response="Conversation",
        errors=("conversation_not_found", "user_not_found", "acting_user_required"),
        scope="conversations:write",
    )
    def patch(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        user = get_acting_user(call.caller)
        access = access_conversation(conversationId, user)
        participants.change_membership(
            tenant_id=call.caller.tenant.id,
            conversation=access.conversation,
            user=user,
            change=call.body,
            now=call.now,
        )
        return render_one(access.conversation, user.id)


class ConversationParticipants(TenantView):
    @operation(
        "listParticipants",
        summary="List a conversation's participants",
        tag="Conversations",
        response="Participant",
        many=True,
        query=(
            CURSOR,
            limit_param(),
            Param("role", choices=tuple(Role.values), description="Only these."),
            Param("search", description="Part of a display name or external id."),
        ),
        errors=("conversation_not_found", "user_not_found", "invalid_cursor"),
        scope="conversations:read",
        description="In order of joining.",
    )
    def get(self, call: Call, conversationId: str) -> Page:  # noqa: N803
        access = access_conversation(conversationId, find_acting_user(call.caller))
        query = call.query
        cursor, limit = query["cursor"], query["limit"]
        after = None if cursor is None else decode_cursor(cursor, wire.parse_timestamp, int)
        found = queries.list_participants(
            access.conversation.id,
            after=None if after is None else (after[0], after[1]),
            role=query["role"],
            search=query["search"],
            limit=limit + 1,
        )
        return page_of(
            found,
            limit=limit,
            key=lambda row: (row.joined_at.isoformat(), row.id),
            render=rendering.render_participant,
        )

    @operation(
        "addParticipants",
        summary="Add participants",
        tag="Conversations",
        request="AddParticipants",
        response="Conversation",
        errors=(
            "conversation_not_found",
            "user_not_found",
            "permission_denied",
            "conflict",
            "banned_from_conversation",
        ),
        scope="conversations:write",
        description="Who is in already is left as they are. `showHistory: false`: newcomers see what comes after them.",
    )
    def post(self, call: Call, conversationId: str) -> dict[str, Any]:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        conversation = participants.add_participants(
            tenant_id=call.caller.tenant.id,
            conversation=access.conversation,
            participants=call.body["participantIds"],
            role=call.body.get("role", Role.MEMBER),
            show_history=call.body.get("showHistory"),
            actor=actor,
        )
        return render_one(conversation, actor.id if actor else None)


class ConversationParticipant(TenantView):
    @operation(
        "changeRole",
        summary="Change a participant's role",
        tag="Conversations",
        request="UpdateParticipant",
        response="Participant",
        errors=(*CHANGE_ERRORS, "participant_not_found", "conflict"),
        scope="conversations:write",
        description="There is one owner: whoever hands ownership on is an admin afterwards.",
    )
    def patch(self, call: Call, conversationId: str, userId: str) -> dict[str, Any]:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_conversation(conversationId, actor)
        place = participants.change_role(
            tenant_id=call.caller.tenant.id,
            conversation=access.conversation,
            user=get_user(userId),
            role=call.body["role"],
            actor=actor,
        )
        return rendering.render_participant(place)

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
        participants.remove_participant(
            tenant_id=call.caller.tenant.id, conversation=access.conversation, user=get_user(userId), actor=actor
        )
