"""Filling a tenant with COPY: the rows that the product would have written, without its taking a day to do so.

Rows lie in the order of time, as they would: the messages of all conversations among each other, over a year. The
search entries are made by the indexer's own functions; the newest go through the indexer itself.
"""

import itertools
import json
import os
import random
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db.models import Model
from psycopg import sql

from bench.copying import copying, table
from bench.shape import BLOCKED, BUSIEST, FIRST_ORDINARY, MEMBERS, READER, Room, Shape, rooms
from bench.words import Texts
from messagecore.kernel.ids import new_ids
from messaging.models import Conversation, Message, Participant, Reaction, SearchEntry, User, UserBlock
from messaging.search import vectors
from messaging.search.words import searched
from messaging.services.indexing import index_messages
from tenants.models import Tenant
from tenants.scope import tenant_scope

SPAN = timedelta(days=365)
INDEXED_SHARE = 0.01
"""Of the messages, the newest: as many as the indexer itself indexes."""
INDEXED_AT_ONCE = 500

# Every so many messages of a conversation, at which of them. No two meet.
_DELETED, _SILENT, _EDITED, _REACTED = (100, 37), (100, 73), (50, 11), (50, 9)
_ANSWERED, _ANSWERS = (20, 5), (20, 6)

_USER = "id external_user_id display_name created_at updated_at"
_MESSAGE = (
    "id conversation_id seq message_index sender_id type content body_digest silent unread_index reply_to_id thread_id "
    "reply_count reaction_count created_at recorded_at updated_at edited_at deleted_at"
)
_ENTRY = "message_id conversation_id seq sender_id created_at terms"
_PLACE = (
    "conversation_id user_id role joined_at last_read_seq last_delivered_seq read_index own_since_read last_sent_at"
)
_CONVERSATION = (
    "id external_id type title created_by_id created_at updated_at last_message_at last_message_id last_seq "
    "last_event_at message_count oldest_at unread_total participant_count"
)
_REACTION = "message_id user_id name created_at"
_BLOCK = "blocker_id blocked_id created_at"


@dataclass(slots=True)
class _Log:
    """What has been written of a conversation."""

    id: UUID
    indexes: "array[int]" = field(default_factory=lambda: array("q", [0]))  # the unread index at each seq
    last_own: dict[int, int] = field(default_factory=dict)
    last_id: UUID | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None


def fill(tenant: Tenant, shape: Shape, *, seed: int, now: datetime) -> None:
    """The tenant as `shape` says, ready to be read: vacuumed, analysed and searchable. The same for the same seed, but
    for ids and times. Cost: about a minute for 250,000 messages."""
    draw = random.Random(seed)
    planned = rooms(shape, draw)
    filling = _Filling(
        tenant=tenant,
        planned=planned,
        logs=[_Log(room_id) for room_id in new_ids(len(planned))],
        user_ids=new_ids(shape.users),
        draw=draw,
        began=(now - SPAN).replace(microsecond=0),
    )
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute("SET maintenance_work_mem = '512MB'")
        filling.copy_users()
        with _without_indexes(server, tenant, Message), _without_indexes(server, tenant, SearchEntry):
            newest, reactions = filling.copy_messages(Texts(seed))
        filling.copy_reactions(reactions)
        filling.copy_conversations()
        filling.copy_places()
        filling.copy_blocks()
        for model in (User, Message, Reaction, Conversation, Participant, UserBlock, SearchEntry):
            server.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table(tenant, model)))
    for first in range(0, len(newest), INDEXED_AT_ONCE):
        with tenant_scope(tenant):
            index_messages(newest[first : first + INDEXED_AT_ONCE])


def user_name(number: int) -> str:
    """The external id of the user at this position."""
    return f"user-{number}"


def room_name(number: int) -> str:
    """The external id of the conversation at this position."""
    return f"room-{number}"


# --- rows -----------------------------------------------------------------------------------------------------------

_NewReaction = tuple[UUID, UUID, str, datetime]


@dataclass(frozen=True, slots=True)
class _Filling:
    """One tenant being filled: what is planned, and what has been written so far."""

    tenant: Tenant
    planned: Sequence[Room]
    logs: Sequence[_Log]
    user_ids: Sequence[UUID]
    draw: random.Random
    began: datetime

    def copy_users(self) -> None:
        with copying(self.tenant, User, _USER) as copy:
            for number, user_id in enumerate(self.user_ids):
                at = self.began + timedelta(microseconds=number)
                copy.write_row((user_id, user_name(number), f"User {number}", at, at))

    def copy_messages(self, texts: Texts) -> tuple[list[UUID], list[_NewReaction]]:
        """Returns the messages that the indexer has still to index, and the reactions, which refer to messages."""
        order = list(
            itertools.chain.from_iterable([number] * room.messages for number, room in enumerate(self.planned))
        )
        self.draw.shuffle(order)
        rare = _rare_places(self.planned)
        step = SPAN / len(order)
        indexed_from = len(order) - int(len(order) * INDEXED_SHARE)
        newest: list[UUID] = []
        reactions: list[_NewReaction] = []
        with (
            copying(self.tenant, Message, _MESSAGE) as messages,
            copying(self.tenant, SearchEntry, _ENTRY) as entries,
        ):
            for number, place in enumerate(order):
                log, room = self.logs[place], self.planned[place]
                at = self.began + step * number
                message_id = _id_at(at, number, self.draw)
                seq = len(log.indexes)
                is_rare = (place, seq) in rare
                sender = room.members[-1] if is_rare else self._member(room)
                sender_id = self.user_ids[sender]
                is_deleted = not is_rare and _falls(seq, _DELETED)
                is_silent = _falls(seq, _SILENT)
                is_answered = _falls(seq, _ANSWERED) and seq < room.messages
                has_reaction = _falls(seq, _REACTED)
                content = {} if is_deleted else {"text": texts.text(rare=is_rare)}
                later = at + timedelta(minutes=1)
                log.indexes.append(log.indexes[-1] + (not is_silent))
                root = log.last_id if _falls(seq, _ANSWERS) else None
                messages.write_row(
                    (
                        message_id,
                        log.id,
                        seq,
                        seq,
                        sender_id,
                        "text",
                        json.dumps(content, ensure_ascii=False),
                        b"",
                        is_silent,
                        log.indexes[-1],
                        root,
                        root,
                        int(is_answered),
                        int(has_reaction),
                        at,
                        at,
                        later if is_deleted else at,
                        at if _falls(seq, _EDITED) else None,
                        later if is_deleted else None,
                    )
                )
                if number >= indexed_from:
                    newest.append(message_id)
                elif not is_deleted:
                    filters = vectors.filters_of(
                        conversation_id=log.id, sender_id=sender_id, type_="text", created_at=at
                    )
                    terms = vectors.vector(searched(content).values(), filters)
                    entries.write_row((message_id, log.id, seq, sender_id, at, terms))
                if has_reaction:
                    reactions.append((message_id, self.user_ids[self._member(room)], "👍", at))
                log.last_own[sender] = seq
                log.last_id, log.last_at = message_id, at
                log.first_at = log.first_at or at
        return newest, reactions

    def copy_reactions(self, reactions: Sequence[_NewReaction]) -> None:
        with copying(self.tenant, Reaction, _REACTION) as copy:
            for reaction in reactions:
                copy.write_row(reaction)

    def copy_conversations(self) -> None:
        with copying(self.tenant, Conversation, _CONVERSATION) as copy:
            for number, (room, log) in enumerate(zip(self.planned, self.logs, strict=True)):
                count = len(log.indexes) - 1
                copy.write_row(
                    (
                        log.id,
                        room_name(number),
                        "group",
                        f"Conversation {number}",
                        self.user_ids[room.members[0]],
                        self.began,
                        self.began,
                        log.last_at,
                        log.last_id,
                        count,
                        log.last_at or self.began,
                        count,
                        log.first_at or self.began,
                        log.indexes[-1],
                        len(room.members),
                    )
                )

    def copy_places(self) -> None:
        with copying(self.tenant, Participant, _PLACE) as copy:
            for room, log in zip(self.planned, self.logs, strict=True):
                count = len(log.indexes) - 1
                for member in room.members:
                    # Sending moves the read position, so nobody is behind their own last message.
                    read = max(count - self._behind(member, room, count), log.last_own.get(member, 0))
                    delivered = self.draw.randint(read, count)
                    role = "owner" if member == room.members[0] else "member"
                    sent_at = log.last_at if member in log.last_own else None
                    copy.write_row(
                        (
                            log.id,
                            self.user_ids[member],
                            role,
                            self.began,
                            read,
                            delivered,
                            log.indexes[read],
                            0,
                            sent_at,
                        )
                    )

    def copy_blocks(self) -> None:
        with copying(self.tenant, UserBlock, _BLOCK) as copy:
            for blocked in BLOCKED:
                copy.write_row((self.user_ids[READER], self.user_ids[blocked], self.began))

    def _member(self, room: Room) -> int:
        return room.members[self.draw.randrange(len(room.members))]

    def _behind(self, member: int, room: Room, count: int) -> int:
        """How many messages a member has not read: most are up to date, some a page behind; of an ordinary
        conversation some have read nothing."""
        is_ordinary = len(room.members) <= MEMBERS
        if member == READER and not is_ordinary:
            return min(1_000, count // 5)
        kind = self.draw.random()
        if kind < 0.6:
            return 0
        if kind < 0.9 or not is_ordinary:
            return min(self.draw.randint(1, 20), count)
        return count


def _rare_places(planned: Sequence[Room]) -> set[tuple[int, int]]:
    """The messages with the rare words, as (conversation, seq): two in the reader's conversations, one elsewhere."""
    return {
        (BUSIEST, max(planned[BUSIEST].messages // 10, 1)),
        (FIRST_ORDINARY, max(planned[FIRST_ORDINARY].messages // 2, 1)),
        (len(planned) - 1, max(planned[-1].messages // 2, 1)),
    }


def _falls(seq: int, rule: tuple[int, int]) -> bool:
    every, at = rule
    return seq % every == at


def _id_at(at: datetime, number: int, draw: random.Random) -> UUID:
    """The UUIDv7 that a message of that time would have got."""
    milliseconds = (at - _EPOCH) // _MILLISECOND
    return UUID(int=milliseconds << 80 | 7 << 76 | (number & 0xFFF) << 64 | 2 << 62 | draw.getrandbits(62))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


_INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)"""


@contextmanager
def _without_indexes(server: psycopg.Connection[tuple[Any, ...]], tenant: Tenant, model: type[Model]) -> Iterator[None]:
    """Drops the table's indexes, those of constraints apart, and makes them again when the rows are there."""
    found = server.execute(_INDEXES, [table(tenant, model).as_string()]).fetchall()
    for name, _ in found:
        server.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(name)))
    yield
    for _, definition in found:
        server.execute(definition)
