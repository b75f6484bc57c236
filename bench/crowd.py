"""A tenant full of people in conversations, written with COPY, and what each of them needs to connect."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import jwt
import orjson
import psycopg
from psycopg import sql

from bench.copying import copying, table
from messagecore.kernel.ids import new_ids
from messaging.models import Conversation, Message, Participant, User
from quotas.services.accounts import open_account
from tenants.models import Tenant

TOKENS_HOLD_FOR = timedelta(hours=6)

_USER = "id external_user_id display_name created_at updated_at"
_CONVERSATION = (
    "id external_id type title created_at updated_at last_message_at last_message_id last_seq last_event_at "
    "message_count oldest_at unread_total participant_count"
)
_PLACE = "conversation_id user_id role joined_at last_read_seq last_delivered_seq read_index own_since_read"
_MESSAGE = (
    "id conversation_id seq message_index sender_id type content body_digest silent unread_index reply_count "
    "reaction_count created_at recorded_at updated_at"
)


@dataclass(frozen=True, slots=True)
class Room:
    """A conversation: the numbers of its members, and its messages, which the members sent by turns."""

    members: Sequence[int]
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Person:
    """The first frame of their connections, and the ids of their conversations."""

    authenticate: str
    conversations: Sequence[str]


@dataclass(frozen=True, slots=True)
class Crowd:
    """`rooms` are the conversations' ids in the order in which they were asked for."""

    tenant: Tenant
    people: Sequence[Person]
    rooms: Sequence[str]

    def write(self, path: Path, numbers: range) -> Path:
        """For a swarm: a line for each of these people."""
        with path.open("w", encoding="utf-8") as lines:
            for number in numbers:
                person = self.people[number]
                line = {"authenticate": person.authenticate, "conversations": list(person.conversations)}
                lines.write(orjson.dumps(line).decode() + "\n")
        return path


def deal(users: int, *, each: int, members: int, draw: random.Random) -> Iterator[Room]:
    """Conversations of so many members in which everybody is in exactly `each`. `users` is a multiple of `members`."""
    order = list(range(users))
    for _ in range(each):
        draw.shuffle(order)
        for first in range(0, users, members):
            yield Room(order[first : first + members])


def gather(name: str, *, users: int, rooms: Sequence[Room], now: datetime) -> Crowd:
    """A new tenant with these people and conversations, vacuumed and analysed. Nobody has read anything. Cost: seconds
    for 10,000 people in 20 conversations each."""
    account = open_account(name=name, subdomain=name, plan_type="enterprise")
    tenant = account.tenant
    user_ids, room_ids = new_ids(users), new_ids(len(rooms))
    began = now - timedelta(days=1)
    with copying(tenant, User, _USER) as copy:
        for number, user_id in enumerate(user_ids):
            copy.write_row((user_id, _name(number), f"User {number}", began, began))
    last_ids = _copy_messages(tenant, rooms, room_ids, user_ids, began)
    with copying(tenant, Conversation, _CONVERSATION) as copy:
        for number, (room, room_id) in enumerate(zip(rooms, room_ids, strict=True)):
            count, last_at = room.messages, _time(began, room.messages)
            copy.write_row(
                (
                    room_id,
                    f"room-{number}",
                    "group",
                    f"Conversation {number}",
                    began,
                    began,
                    last_at if count else None,
                    last_ids.get(number),
                    count,
                    last_at,
                    count,
                    _time(began, 1),
                    count,
                    len(room.members),
                )
            )
    theirs: list[list[str]] = [[] for _ in range(users)]
    with copying(tenant, Participant, _PLACE) as copy:
        for room, room_id in zip(rooms, room_ids, strict=True):
            for member in room.members:
                copy.write_row((room_id, user_ids[member], "member", began, 0, 0, 0, 0))
                theirs[member].append(str(room_id))
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        for model in (User, Message, Conversation, Participant):
            server.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table(tenant, model)))
    key, secret = account.publishable_key.value, account.token_secret.value
    people = [
        Person(_authenticate(tenant, key, secret, _name(number), now), conversations)
        for number, conversations in enumerate(theirs)
    ]
    return Crowd(tenant, people, [str(room_id) for room_id in room_ids])


def _copy_messages(
    tenant: Tenant, rooms: Sequence[Room], room_ids: Sequence[UUID], user_ids: Sequence[UUID], began: datetime
) -> dict[int, UUID]:
    """Each conversation's last message, by the conversation's number. The rows lie in the order of time, those of all
    conversations among each other."""
    last_ids = {}
    with copying(tenant, Message, _MESSAGE) as copy:
        for seq in range(1, max((room.messages for room in rooms), default=0) + 1):
            talking = [number for number, room in enumerate(rooms) if seq <= room.messages]
            at = _time(began, seq)
            for number, message_id in zip(talking, new_ids(len(talking)), strict=True):
                members = rooms[number].members
                content = json.dumps({"text": f"Message {seq}, in which somebody says what there was to say."})
                sender_id = user_ids[members[seq % len(members)]]
                head = (message_id, room_ids[number], seq, seq, sender_id, "text", content, b"", False, seq, 0, 0)
                copy.write_row((*head, at, at, at))
                last_ids[number] = message_id
    return last_ids


def _time(began: datetime, seq: int) -> datetime:
    return began + timedelta(milliseconds=seq)


def _name(number: int) -> str:
    return f"user-{number}"


def _authenticate(tenant: Tenant, api_key: str, secret: str, name: str, now: datetime) -> str:
    claims = {"iss": str(tenant.id), "sub": name, "iat": now, "exp": now + TOKENS_HOLD_FOR}
    data = {"apiKey": api_key, "token": jwt.encode(claims, secret, algorithm="HS256")}
    return json.dumps({"type": "authenticate", "data": data})
