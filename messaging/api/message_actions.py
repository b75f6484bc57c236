"""`/messages/{id}`: one message, and what is done to it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from messagecore.kernel.api.operations import CURSOR, Call, Param, Reply, limit_param, operation
from messagecore.kernel.api.paging import Page, decode_cursor, page_of
from messaging import rendering
from messaging.access import MessageNotFound, access_conversation, find_acting_user, get_acting_user
from messaging.api.messages import SEND_ERRORS, rendered_send
from messaging.models import Message, MessageRevision, Reaction, User
from messaging.queries import messages as queries
from messaging.queries.threads import thread_participants
from messaging.services import messages as services
from messaging.services.filters import MessageHeld
from messaging.services.messages import MessageAccess, access_message
from tenants.api.views import TenantView

SEEN = ("message_not_found", "user_not_found")
CHANGED = (*SEEN, "permission_denied", "conflict")


def _render(message: Message, viewer: User | None) -> dict[str, Any]:
    """Raises MessageNotFound for what the viewer ceased to see since it was looked up: they block its author now."""
    viewer_id = None if viewer is None else viewer.id
    view = queries.get_messages([message.id], viewer_id=viewer_id).get(message.id)
    if view is None:
        raise MessageNotFound
    return rendering.render_message(view)


def _act(call: Call, message_id: str, action: Callable[..., Message]) -> dict[str, Any]:
    """Runs a service that the integrator may call, too, and answers with the message as it is then."""
    actor = find_acting_user(call.caller)
    access = access_message(message_id, actor)
    return _render(action(tenant_id=call.caller.tenant.id, access=access, actor=actor), actor)


class MessageDetail(TenantView):
    @operation(
        "getMessage",
        summary="Read a message",
        tag="Messages",
        response="Message",
        errors=SEEN,
        scope="messages:read",
    )
    def get(self, call: Call, messageId: str) -> dict[str, Any]:  # noqa: N803 - the contract's name for the path
        actor = find_acting_user(call.caller)
        return _render(access_message(messageId, actor).message, actor)

    @operation(
        "editMessage",
        summary="Edit a message",
        tag="Messages",
        request="EditMessage",
        response="Message",
        errors=(*CHANGED, "message_rejected"),
        scope="messages:write",
        description="Its author may, and a secret key that acts as nobody. What it said before is kept.",
    )
    def patch(self, call: Call, messageId: str) -> dict[str, Any]:  # noqa: N803
        actor = find_acting_user(call.caller)
        access = access_message(messageId, actor)
        tenant_id = call.caller.tenant.id
        message = services.edit_message(tenant_id=tenant_id, access=access, change=call.body, actor=actor)
        return _render(message, actor)

    @operation(
        "deleteMessage",
        summary="Delete a message for everyone",
        tag="Messages",
        response="Message",
        errors=CHANGED,
        scope="messages:write",
        description="The tombstone keeps its seq. The author may, owners and admins, and a secret key.",
    )
    def delete(self, call: Call, messageId: str) -> dict[str, Any]:  # noqa: N803
        return _act(call, messageId, services.delete_message)


class MessageRevisions(TenantView):
    @operation(
        "listMessageRevisions",
        summary="Read what a message said before its edits",
        tag="Messages",
        response="MessageRevision",
        many=True,
        query=(CURSOR, limit_param()),
        errors=(*SEEN, "invalid_cursor"),
        scope="messages:read",
        description="The latest first.",
    )
    def get(self, call: Call, messageId: str) -> Page:  # noqa: N803
        access = access_message(messageId, find_acting_user(call.caller))
        rows = MessageRevision.objects.filter(message=access.message).order_by("-id")
        cursor, limit = call.query["cursor"], call.query["limit"]
        if cursor is not None:
            rows = rows.filter(id__lt=decode_cursor(cursor, int)[0])
        return page_of(
            list(rows[: limit + 1]), limit=limit, key=lambda row: (row.id,), render=rendering.render_revision
        )


class MessageReactions(TenantView):
    @operation(
        "addReaction",
        summary="Give a reaction",
        tag="Messages",
        request="AddReaction",
        response="Message",
        errors=(*CHANGED, "acting_user_required"),
        scope="messages:write",
        description="Giving it twice changes nothing.",
    )
    def post(self, call: Call, messageId: str) -> dict[str, Any]:  # noqa: N803
        return _react(call, messageId, call.body["name"], services.add_reaction)

    @operation(
        "listReactions",
        summary="List who reacted",
        tag="Messages",
        response="Reactor",
        many=True,
        query=(CURSOR, limit_param(), Param("name", maximum=64, description="Only this reaction.")),
        errors=(*SEEN, "invalid_cursor"),
        scope="messages:read",
        description="In order of reacting.",
    )
    def get(self, call: Call, messageId: str) -> Page:  # noqa: N803
        access = access_message(messageId, find_acting_user(call.caller))
        rows = Reaction.objects.filter(message=access.message).select_related("user").order_by("id")
        cursor, limit, name = call.query["cursor"], call.query["limit"], call.query["name"]
        if name is not None:
            rows = rows.filter(name=name)
        if cursor is not None:
            rows = rows.filter(id__gt=decode_cursor(cursor, int)[0])
        return page_of(list(rows[: limit + 1]), limit=limit, key=lambda row: (row.id,), render=rendering.render_reactor)


class MessageReaction(TenantView):
    @operation(
        "removeReaction",
        summary="Take a reaction back",
        tag="Messages",
        response="Message",
        errors=(*SEEN, "acting_user_required"),
        scope="messages:write",
        description="Taking back what is not there changes nothing.",
    )
    def delete(self, call: Call, messageId: str, name: str) -> dict[str, Any]:  # noqa: N803
        return _react(call, messageId, name, services.remove_reaction)


def _react(call: Call, message_id: str, name: str, action: Callable[..., Message]) -> dict[str, Any]:
    user = get_acting_user(call.caller)
    access = access_message(message_id, user)
    return _render(action(tenant_id=call.caller.tenant.id, access=access, name=name, user=user), user)


class MessageForward(TenantView):
    @operation(
        "forwardMessage",
        summary="Forward a message",
        tag="Messages",
        request="ForwardMessage",
        response="Message",
        statuses=(201,),
        errors=(*SEND_ERRORS, "conflict"),
        scope="messages:write",
        description="Says the same again in another conversation, as the acting user's own message.",
    )
    def post(self, call: Call, messageId: str) -> Reply | MessageHeld:  # noqa: N803
        user = get_acting_user(call.caller)
        sent = services.forward_message(
            tenant_id=call.caller.tenant.id,
            access=access_message(messageId, user),
            body=call.body,
            user=user,
            hides_conversation=not call.caller.is_integrator,
        )
        return rendered_send(sent, status=201)


class MessagePin(TenantView):
    @operation(
        "pinMessage",
        summary="Pin a message",
        tag="Messages",
        response="Message",
        errors=CHANGED,
        scope="messages:write",
        description="Owners and admins may, in a direct conversation both. Pinning twice changes nothing.",
    )
    def put(self, call: Call, messageId: str) -> dict[str, Any]:  # noqa: N803
        return _act(call, messageId, services.pin_message)

    @operation(
        "unpinMessage",
        summary="Unpin a message",
        tag="Messages",
        response="Message",
        errors=CHANGED,
        scope="messages:write",
    )
    def delete(self, call: Call, messageId: str) -> dict[str, Any]:  # noqa: N803
        return _act(call, messageId, services.unpin_message)


class MessageThread(TenantView):
    @operation(
        "getThread",
        summary="Read a thread",
        tag="Messages",
        response="Thread",
        query=(
            Param("afterSeq", "integer", default=0, minimum=0, maximum=2**53, description="Replies with a larger seq."),
            limit_param(),
        ),
        errors=SEEN,
        scope="messages:read",
        description="Any message of the thread names it.",
    )
    def get(self, call: Call, messageId: str) -> dict[str, Any]:  # noqa: N803
        access = access_message(messageId, find_acting_user(call.caller))
        root_id = access.message.thread_id or access.message.id
        return _thread(access, root_id, after_seq=call.query["afterSeq"], limit=call.query["limit"])


def _thread(access: MessageAccess, root_id: UUID, *, after_seq: int, limit: int) -> dict[str, Any]:
    view = access.conversation.viewpoint
    root = queries.get_messages([root_id], viewer_id=view.viewer_id).get(root_id)
    if root is None or root.seq < view.visible_from_seq:
        raise MessageNotFound
    replies = queries.in_thread(view, root_id, after_seq=after_seq, limit=limit + 1)
    count = Message.objects.filter(pk=root_id).values_list("reply_count", flat=True).get()
    people = thread_participants(root_id, visible_from_seq=view.visible_from_seq, viewer_id=view.viewer_id)
    return {
        "root": rendering.render_message(root),
        "replies": [rendering.render_message(reply) for reply in replies[:limit]],
        "replyCount": count,
        "participants": [rendering.render_reference(person) for person in people],
        "hasMore": len(replies) > limit,
    }


class ConversationPins(TenantView):
    @operation(
        "listPinnedMessages",
        summary="List a conversation's pinned messages",
        tag="Conversations",
        response="Message",
        listed=True,
        errors=("conversation_not_found", "user_not_found"),
        scope="messages:read",
        description="The latest pin first; at most 100.",
    )
    def get(self, call: Call, conversationId: str) -> list[dict[str, Any]]:  # noqa: N803
        access = access_conversation(conversationId, find_acting_user(call.caller))
        ids = list(access.conversation.pins.order_by("-pinned_at", "-id").values_list("message_id", flat=True))
        views = queries.get_messages(ids, viewer_id=access.viewpoint.viewer_id)
        return [
            rendering.render_message(views[message_id])
            for message_id in ids
            if message_id in views and views[message_id].seq >= access.visible_from_seq
        ]
