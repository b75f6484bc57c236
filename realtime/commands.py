"""What each command does, once it is known who gives it: a thin handler for each, by type. `authenticate` and `resume`,
which are about the connection itself, are the consumer's and realtime.visit's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from django.utils import timezone

from messagecore.kernel import wire
from messaging.access import MessageNotFound, access_conversation, get_user
from messaging.models import Message
from messaging.queries.messages import get_messages
from messaging.rendering import render_message
from messaging.services import messages, positions, receipts
from messaging.services.batching import send_batcher
from messaging.services.sending import draft_from_body
from realtime.broker import publisher
from realtime.database import in_database_thread
from realtime.people import people_of
from realtime.protocol import hints
from realtime.rooms import Room
from realtime.session import Asker, Session
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

Answer = tuple[str | None, dict[str, Any]]
"""The event that a command is answered with when it had no id (None: nothing), and the data of its answer."""

Handler = Callable[[Asker, dict[str, Any]], Awaitable[Answer]]
SessionHandler = Callable[[Session, dict[str, Any]], Awaitable[Answer]]


async def join_conversation(session: Session, data: dict[str, Any]) -> Answer:
    room = await session.room(data["conversationId"])
    session.hub.look_at(session.connection, room)
    asyncio.get_running_loop().call_soon(_show_people_soon, session, room)
    return "joined_conversation", {
        "conversationId": str(room.id),
        "conversationExternalId": room.external_id,
        "lastSeq": room.cursor,
    }


_showing: set[asyncio.Task[None]] = set()


def _show_people_soon(session: Session, room: Room) -> None:
    task = asyncio.get_running_loop().create_task(_show_people(session, room))
    _showing.add(task)
    task.add_done_callback(_showing.discard)


async def _show_people(session: Session, room: Room) -> None:
    for shown in await people_of(session, room):
        session.connection.put(shown.frame, ephemeral=shown.is_ephemeral)


async def set_presence(session: Session, data: dict[str, Any]) -> Answer:
    await session.presence.show_as(session.tenant.id, session.user_id, session.connection.id, data["status"])
    return None, {}


async def leave_conversation(session: Session, data: dict[str, Any]) -> Answer:
    room = await session.room(data["conversationId"])
    session.hub.look_away(session.connection, room)
    return "left_conversation", {"conversationId": str(room.id), "conversationExternalId": room.external_id}


async def typing_start(asker: Asker, data: dict[str, Any]) -> Answer:
    return await _typing(asker, data, is_typing=True)


async def typing_stop(asker: Asker, data: dict[str, Any]) -> Answer:
    return await _typing(asker, data, is_typing=False)


async def _typing(asker: Asker, data: dict[str, Any], *, is_typing: bool) -> Answer:
    room = await asker.room(data["conversationId"])
    hint = hints.TypingHint(room.id, asker.user_id, asker.external_user_id, is_typing)
    publisher().publish(asker.tenant.id, hints.encode(hint))
    return None, {}


async def send_message(asker: Asker, data: dict[str, Any]) -> Answer:
    """Answered after the commit that made the message durable."""
    draft = draft_from_body(data, sender=str(asker.user_id), hides_conversation=True)
    sent = await asyncio.wrap_future(send_batcher().submit(asker.tenant, draft, via="socket"))
    return None, render_message(sent.message)


MessageService = Callable[..., Message]


async def edit_message(asker: Asker, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_on_message, asker, data["messageId"], messages.edit_message, change=data)


async def delete_message(asker: Asker, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_on_message, asker, data["messageId"], messages.delete_message)


async def add_reaction(asker: Asker, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_react, asker, data, messages.add_reaction)


async def remove_reaction(asker: Asker, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_react, asker, data, messages.remove_reaction)


def _on_message(asker: Asker, message_id: str, service: MessageService, **arguments: Any) -> dict[str, Any]:
    with tenant_scope(asker.tenant):
        user = get_user(str(asker.user_id))
        access = messages.access_message(message_id, user)
        service(tenant_id=asker.tenant.id, access=access, actor=user, **arguments)
        return _shown(asker, access.message.id)


def _react(asker: Asker, data: dict[str, Any], service: MessageService) -> dict[str, Any]:
    with tenant_scope(asker.tenant):
        user = get_user(str(asker.user_id))
        access = messages.access_message(data["messageId"], user)
        service(tenant_id=asker.tenant.id, access=access, name=data["name"], user=user)
        return _shown(asker, access.message.id)


def _shown(asker: Asker, message_id: UUID) -> dict[str, Any]:
    view = get_messages([message_id], viewer_id=asker.user_id).get(message_id)
    if view is None:
        raise MessageNotFound  # they block its author since it was looked up
    return render_message(view)


async def mark_read(asker: Asker, data: dict[str, Any]) -> Answer:
    room = await asker.room(data["conversationId"])
    await in_database_thread(_mark_read, asker, room.id, data["seq"])
    return None, {}


def _mark_read(asker: Asker, conversation_id: UUID, seq: int) -> None:
    with tenant_scope(asker.tenant):
        user = get_user(str(asker.user_id))
        access = access_conversation(str(conversation_id), user)
        positions.mark_read(
            tenant_id=asker.tenant.id, conversation=access.conversation, user=user, seq=seq, now=timezone.now()
        )


async def mark_delivered(asker: Asker, data: dict[str, Any]) -> Answer:
    room = await asker.room(data["conversationId"])
    await in_database_thread(_mark_delivered, asker, room.id, room.external_id, data["seq"])
    return None, {}


def _mark_delivered(asker: Asker, conversation_id: UUID, conversation_external_id: str | None, seq: int) -> None:
    """Clients say this of every message: one statement, which finds no place where the user is in there no longer."""
    with tenant_scope(asker.tenant):
        receipts.mark_delivered(
            tenant_id=asker.tenant.id,
            conversation_id=conversation_id,
            conversation_external_id=conversation_external_id,
            user_id=asker.user_id,
            external_user_id=asker.external_user_id,
            seq=seq,
            now=timezone.now(),
        )


async def ping(asker: Asker, data: dict[str, Any]) -> Answer:
    return "pong", {"serverTime": wire.timestamp(timezone.now())}


OF_A_CONNECTION: Mapping[str, SessionHandler] = {
    "join_conversation": join_conversation,
    "leave_conversation": leave_conversation,
    "set_presence": set_presence,
}
OF_A_USER: Mapping[str, Handler] = {
    "typing_start": typing_start,
    "typing_stop": typing_stop,
    "send_message": send_message,
    "edit_message": edit_message,
    "delete_message": delete_message,
    "add_reaction": add_reaction,
    "remove_reaction": remove_reaction,
    "mark_read": mark_read,
    "mark_delivered": mark_delivered,
    "ping": ping,
}
"""They need no connection: any process does them."""

HANDLERS: Mapping[str, SessionHandler] = {**OF_A_CONNECTION, **OF_A_USER}
