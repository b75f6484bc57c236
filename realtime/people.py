"""Showing the people of a conversation to somebody who begins to look at it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import redis
from django.utils import timezone

from messagecore.kernel import wire
from messaging.services import reading
from messaging.services.reading import Place
from realtime.database import DatabaseError, read_in_database_thread
from realtime.presence.announcing import presence_frame
from realtime.protocol import frames
from realtime.rooms import Room
from realtime.session import Session

logger = logging.getLogger(__name__)

SHOWN_PEOPLE = 100
"""Participants whose presence and read position are told at once; changes follow as they happen."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing about one of them: what it is about, as it is now, and the frame that says so."""

    user_id: UUID
    fact: str
    value: str | int
    frame: str

    @property
    def is_ephemeral(self) -> bool:
        return self.fact == "presence"


async def people_of(session: Session, room: Room, *, offline: bool = False) -> list[Shown]:
    """Up to where the others have read, and who is online or away (`offline`: everybody's presence). To be told at
    once: what comes by hints from now on is newer. What cannot be had just now is left out."""
    asked_at = timezone.now()
    try:
        places = await read_in_database_thread(reading.participants_of, session.tenant, room.id, limit=SHOWN_PEOPLE)
    except DatabaseError as error:
        logger.warning("the people of a conversation are not shown to a newcomer: %s", error)
        return []
    others = [place for place in places if place.user_id != session.user_id]
    return _read_positions(room, others, asked_at) + await _presence(session, others, offline=offline)


def _read_positions(room: Room, places: Sequence[Place], asked_at: datetime) -> list[Shown]:
    """The events say when it was asked: what was told of somebody meanwhile is newer, and clients keep that."""
    return [
        Shown(
            place.user_id,
            "read",
            place.last_read_seq,
            frames.event(
                "conversation_read",
                {
                    "conversationId": str(room.id),
                    "conversationExternalId": room.external_id,
                    "userId": str(place.user_id),
                    "externalUserId": place.external_user_id,
                    "lastReadSeq": place.last_read_seq,
                    "timestamp": wire.timestamp(asked_at),
                },
            ),
        )
        for place in places
        if place.last_read_seq > 0
    ]


async def _presence(session: Session, places: Sequence[Place], *, offline: bool) -> list[Shown]:
    """What is shown is what the others who look at the room were told, so that nothing that is under way to them
    contradicts it."""
    people: Mapping[UUID, str] = {place.user_id: place.external_user_id for place in places}
    if not people:
        return []
    try:
        told = await session.presence.told(session.tenant.id, list(people))
    except (redis.RedisError, OSError) as error:
        logger.warning("presence is not shown to a newcomer: %s", error)
        return []
    shown: list[Shown] = []
    local = session.hub.tenant_of(session.connection)
    for change in told.users:
        is_shown = (offline or change.status != "offline") and change.user_id not in session.connection.blocked
        if local is not None and is_shown:
            frame = presence_frame(change, people[change.user_id])
            if local.told.take_read(change.user_id, told.number, frame):
                shown.append(Shown(change.user_id, "presence", change.status, frame))
    return shown
