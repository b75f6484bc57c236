"""What each command does, once the connection is open: a thin handler for each, by type. `authenticate` and `resume`,
which are about the connection itself, are the consumer's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import redis
from django.utils import timezone

from messagecore.kernel import wire
from messaging.access import ConversationNotFound, MessageNotFound, access_conversation, get_user
from messaging.models import Message
from messaging.queries.messages import get_messages
from messaging.rendering import render_message
from messaging.services import messages, positions, reading, receipts
from messaging.services.batching import send_batcher
from messaging.services.reading import Place
from messaging.services.sending import draft_from_body
from realtime.broker import publisher
from realtime.connection import Connection
from realtime.database import DatabaseError, in_database_thread, read_in_database_thread
from realtime.hub import Hub
from realtime.presence.announcing import presence_frame
from realtime.presence.keeper import PresenceKeeper
from realtime.protocol import frames, hints
from realtime.rooms import Room
from tenants.cards import TenantCard
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

SHOWN_PEOPLE = 100
"""Participants whose presence and read position somebody who begins to look at a conversation is told at once."""


class Session:
    """An authenticated connection with what its commands need."""

    def __init__(self, connection: Connection, hub: Hub, presence: PresenceKeeper) -> None:
        assert connection.tenant is not None
        assert connection.user_id is not None
        self.connection = connection
        self.tenant: TenantCard = connection.tenant
        self.user_id: UUID = connection.user_id
        self.hub = hub
        self.presence = presence

    async def room(self, any_id: str) -> Room:
        """Raises ConversationNotFound for a conversation that the user is not in.

        A client may name a conversation before the hint of it has come here: it made it by REST a moment ago. So a
        miss is asked of the database before it is one.
        """
        room = self.hub.find_room(self.connection, any_id)
        if room is None:
            await self.hub.comparison.compare_user(self.tenant.id, self.user_id)
            room = self.hub.find_room(self.connection, any_id)
        if room is None:
            raise ConversationNotFound
        return room


Answer = tuple[str | None, dict[str, Any]]
"""The event that a command is answered with when it had no id (None: nothing), and the data of its answer."""

Handler = Callable[[Session, dict[str, Any]], Awaitable[Answer]]


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
    """Up to where the others have read, and who is online or away, as events; changes follow as they happen."""
    asked_at = timezone.now()
    try:
        places = await read_in_database_thread(reading.participants_of, session.tenant, room.id, limit=SHOWN_PEOPLE)
    except DatabaseError as error:
        logger.warning("the people of a conversation are not shown to a newcomer: %s", error)
        return
    _show_read_positions(session, room, places, asked_at)
    await _show_presence(session, places)


def _show_read_positions(session: Session, room: Room, places: Sequence[Place], asked_at: datetime) -> None:
    """The events say when it was asked: what was told of somebody meanwhile is newer, and clients keep that."""
    for place in places:
        if place.last_read_seq > 0 and place.user_id != session.user_id:
            read = {
                "conversationId": str(room.id),
                "conversationExternalId": room.external_id,
                "userId": str(place.user_id),
                "externalUserId": place.external_user_id,
                "lastReadSeq": place.last_read_seq,
                "timestamp": wire.timestamp(asked_at),
            }
            session.connection.put(frames.event("conversation_read", read))


async def _show_presence(session: Session, places: Sequence[Place]) -> None:
    """What is shown is what the others who look at the room were told, so that nothing that is under way to them
    contradicts it."""
    people = {place.user_id: place.external_user_id for place in places}
    try:
        told = await session.presence.told(session.tenant.id, list(people))
    except (redis.RedisError, OSError) as error:
        logger.warning("presence is not shown to a newcomer: %s", error)
        return
    local = session.hub.tenant_of(session.connection)
    for change in told.users:
        is_shown = change.status != "offline" and change.user_id not in {session.user_id, *session.connection.blocked}
        if local is not None and is_shown:
            frame = presence_frame(change, people[change.user_id])
            if local.told.take_read(change.user_id, told.number, frame):
                session.connection.put(frame, ephemeral=True)


async def set_presence(session: Session, data: dict[str, Any]) -> Answer:
    await session.presence.show_as(session.tenant.id, session.user_id, session.connection.id, data["status"])
    return None, {}


async def leave_conversation(session: Session, data: dict[str, Any]) -> Answer:
    room = await session.room(data["conversationId"])
    session.hub.look_away(session.connection, room)
    return "left_conversation", {"conversationId": str(room.id), "conversationExternalId": room.external_id}


async def typing_start(session: Session, data: dict[str, Any]) -> Answer:
    return await _typing(session, data, is_typing=True)


async def typing_stop(session: Session, data: dict[str, Any]) -> Answer:
    return await _typing(session, data, is_typing=False)


async def _typing(session: Session, data: dict[str, Any], *, is_typing: bool) -> Answer:
    room = await session.room(data["conversationId"])
    hint = hints.TypingHint(room.id, session.user_id, session.connection.external_user_id, is_typing)
    publisher().publish(session.tenant.id, hints.encode(hint))
    return None, {}


async def send_message(session: Session, data: dict[str, Any]) -> Answer:
    """Answered after the commit that made the message durable."""
    draft = draft_from_body(data, sender=str(session.user_id), hides_conversation=True)
    sent = await asyncio.wrap_future(send_batcher().submit(session.tenant, draft, via="socket"))
    return None, render_message(sent.message)


MessageService = Callable[..., Message]


async def edit_message(session: Session, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_on_message, session, data["messageId"], messages.edit_message, change=data)


async def delete_message(session: Session, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_on_message, session, data["messageId"], messages.delete_message)


async def add_reaction(session: Session, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_react, session, data, messages.add_reaction)


async def remove_reaction(session: Session, data: dict[str, Any]) -> Answer:
    return None, await in_database_thread(_react, session, data, messages.remove_reaction)


def _on_message(session: Session, message_id: str, service: MessageService, **arguments: Any) -> dict[str, Any]:
    with tenant_scope(session.tenant):
        user = get_user(str(session.user_id))
        access = messages.access_message(message_id, user)
        service(tenant_id=session.tenant.id, access=access, actor=user, **arguments)
        return _shown(session, access.message.id)


def _react(session: Session, data: dict[str, Any], service: MessageService) -> dict[str, Any]:
    with tenant_scope(session.tenant):
        user = get_user(str(session.user_id))
        access = messages.access_message(data["messageId"], user)
        service(tenant_id=session.tenant.id, access=access, name=data["name"], user=user)
        return _shown(session, access.message.id)


def _shown(session: Session, message_id: UUID) -> dict[str, Any]:
    view = get_messages([message_id], viewer_id=session.user_id).get(message_id)
    if view is None:
        raise MessageNotFound  # they block its author since it was looked up
    return render_message(view)


async def mark_read(session: Session, data: dict[str, Any]) -> Answer:
    room = await session.room(data["conversationId"])
    await in_database_thread(_mark_read, session, room.id, data["seq"])
    return None, {}


def _mark_read(session: Session, conversation_id: UUID, seq: int) -> None:
    with tenant_scope(session.tenant):
        user = get_user(str(session.user_id))
        access = access_conversation(str(conversation_id), user)
        positions.mark_read(
            tenant_id=session.tenant.id, conversation=access.conversation, user=user, seq=seq, now=timezone.now()
        )


async def mark_delivered(session: Session, data: dict[str, Any]) -> Answer:
    room = await session.room(data["conversationId"])
    await in_database_thread(_mark_delivered, session, room.id, room.external_id, data["seq"])
    return None, {}


def _mark_delivered(session: Session, conversation_id: UUID, conversation_external_id: str | None, seq: int) -> None:
    """Clients say this of every message: one statement, which finds no place where the user is in there no longer."""
    with tenant_scope(session.tenant):
        receipts.mark_delivered(
            tenant_id=session.tenant.id,
            conversation_id=conversation_id,
            conversation_external_id=conversation_external_id,
            user_id=session.user_id,
            external_user_id=session.connection.external_user_id,
            seq=seq,
            now=timezone.now(),
        )


async def ping(session: Session, data: dict[str, Any]) -> Answer:
    return "pong", {"serverTime": wire.timestamp(timezone.now())}


HANDLERS: Mapping[str, Handler] = {
    "join_conversation": join_conversation,
    "leave_conversation": leave_conversation,
    "typing_start": typing_start,
    "typing_stop": typing_stop,
    "send_message": send_message,
    "edit_message": edit_message,
    "delete_message": delete_message,
    "add_reaction": add_reaction,
    "remove_reaction": remove_reaction,
    "mark_read": mark_read,
    "mark_delivered": mark_delivered,
    "set_presence": set_presence,
    "ping": ping,
}
