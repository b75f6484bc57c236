"""Resuming 10,000 missed events, beside reading the same rows with one plain statement and encoding them."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg import sql

from bench import websocket
from bench.crowd import Crowd, Room, gather
from bench.measuring import median
from bench.report import as_table
from bench.swarm import Web
from messagecore.kernel.wire import optional_timestamp, timestamp

EVENTS, SPREAD_OVER = 10_000, 100
MEMBERS = 10
TURNS = 9
TARGET = 1.5
TIMEOUT_S = 120.0

_ROWS = """
SELECT m.id, m.conversation_id, c.external_id, m.seq, m.message_index,
       u.id, u.external_user_id, u.display_name, u.avatar_url,
       m.type, m.content::text, m.reply_to_id, m.thread_id, COALESCE(root.reply_count, m.reply_count),
       m.forwarded_from_id, m.client_message_id, m.mentions::text, m.silent, m.metadata::text,
       m.created_at, m.recorded_at, m.updated_at, m.edited_at, m.deleted_at,
       CASE WHEN m.seq <= others.read THEN 'read' WHEN m.seq <= others.reached THEN 'delivered' ELSE 'sent' END
FROM unnest(%s::uuid[]) held(id)
JOIN {schema}.messaging_conversation c ON c.id = held.id
JOIN {schema}.messaging_message m ON m.conversation_id = c.id
LEFT JOIN {schema}.messaging_user u ON u.id = m.sender_id
LEFT JOIN {schema}.messaging_message root ON root.id = m.thread_id
CROSS JOIN LATERAL (
  SELECT min(p.last_read_seq), min(GREATEST(p.last_read_seq, p.last_delivered_seq))
  FROM {schema}.messaging_participant p WHERE p.conversation_id = c.id) others(read, reached)
ORDER BY m.conversation_id, m.seq"""


@dataclass(slots=True)
class Resumed:
    """The same again and again, in seconds: by the product, its process's processor time, and plainly."""

    name: str
    events: int
    conversations: int
    whole: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    plain_database: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(self.whole) / median(self.plain)


def measure(process: Web, scale: float, *, turns: int) -> list[Resumed]:
    """Raises RuntimeError if what is resumed is not what the plain statement reads, byte for byte."""
    events = max(SPREAD_OVER, int(EVENTS * scale) // SPREAD_OVER * SPREAD_OVER)
    rooms = [
        Room(range(MEMBERS), events),
        *(Room(range(MEMBERS, 2 * MEMBERS), events // SPREAD_OVER) for _ in range(SPREAD_OVER)),
    ]
    crowd = gather("resume", users=2 * MEMBERS, rooms=rooms, now=datetime.now(UTC))
    results = [Resumed("one conversation", events, 1), Resumed("spread", events, SPREAD_OVER)]
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        for turn in range(turns + 1):
            for number, result in enumerate(results):
                person = number * MEMBERS
                again = Resumed("", 0, 0) if turn == 0 else result  # the first turn warms up both sides
                frames = _resume(process, crowd, person, again)
                plain = _read_plainly(connection, crowd, person, again)
                _compare(frames, plain, events)
    return results


def _resume(process: Web, crowd: Crowd, person: int, result: Resumed) -> list[bytes]:
    """The events in the order in which they came. The clock runs from the command to the last byte of `resumed`;
    nothing is taken apart before it stands."""
    conversations = crowd.people[person].conversations
    command = {"type": "resume", "data": {"conversations": dict.fromkeys(conversations, 0)}}
    resume = websocket.text(orjson.dumps(command))
    with socket.create_connection(("127.0.0.1", process.port), timeout=TIMEOUT_S) as wire:
        wire.sendall(websocket.handshake(process.port))
        head = _read(wire, lambda read: websocket.END_OF_HEAD in read)
        wire.sendall(websocket.text(crowd.people[person].authenticate.encode()))
        welcome = head.partition(websocket.END_OF_HEAD)[2] + _read(wire, lambda read: read.endswith(b"}"))
        if b'"authenticated"' not in welcome:
            raise RuntimeError(f"not let in: {welcome[:500]!r}")
        cpu_s, began = process.cpu_s(), time.perf_counter()
        wire.sendall(resume)
        # Its data names every conversation, at most a hundred bytes each, and membership.
        read = _read(wire, lambda read: b'"type":"resumed"' in read[-65536:] and read.endswith(b"}"))
        result.whole.append(time.perf_counter() - began)
        result.cpu.append(process.cpu_s() - cpu_s)
    texts = [payload for opcode, payload in websocket.Frames().feed(bytes(read)) if opcode == websocket.TEXT]
    return [payload for payload in texts if payload.startswith(b'{"type":"new_message"')]


def _read(wire: socket.socket, is_all: Callable[[bytearray], bool]) -> bytearray:
    read = bytearray()
    while not is_all(read):
        chunk = wire.recv(1 << 20)
        if not chunk:
            raise RuntimeError(f"cut off after {bytes(read[-200:])!r}")
        read += chunk
    return read


def _read_plainly(connection: psycopg.Connection[Any], crowd: Crowd, person: int, result: Resumed) -> list[bytes]:
    ids = [UUID(conversation) for conversation in crowd.people[person].conversations]
    statement = sql.SQL(_ROWS).format(schema=sql.Identifier(crowd.tenant.schema_name))
    began = time.perf_counter()
    rows = connection.execute(statement, [ids]).fetchall()
    read_at = time.perf_counter()
    frames = [orjson.dumps({"type": "new_message", "data": _data(row)}) for row in rows]
    result.plain.append(time.perf_counter() - began)
    result.plain_database.append(read_at - began)
    connection.rollback()
    return frames


def _data(row: Sequence[Any]) -> dict[str, Any]:
    """What `new_message` shows. None of these messages has reactions."""
    id_, conversation_id, external_id, seq, index, sender_id, name, display_name, avatar_url = row[:9]
    type_, content, reply_to_id, thread_id, replies, forwarded_from_id, client_id, mentions, silent = row[9:18]
    metadata, created_at, recorded_at, updated_at, edited_at, deleted_at, status = row[18:]
    sender = {"id": sender_id, "externalUserId": name, "displayName": display_name, "avatarUrl": avatar_url}
    message = {
        "id": id_,
        "conversationId": conversation_id,
        "conversationExternalId": external_id,
        "seq": seq,
        "messageIndex": index,
        "sender": None if sender_id is None else sender,
        "senderId": sender_id,
        "type": type_,
        "content": orjson.loads(content),
        "replyToId": reply_to_id,
        "threadId": thread_id,
        "replyCount": replies,
        "forwardedFromId": forwarded_from_id,
        "clientMessageId": client_id,
        "mentions": orjson.loads(mentions),
        "silent": silent,
        "metadata": orjson.loads(metadata),
        "reactions": [],
        "status": status,
        "createdAt": timestamp(created_at),
        "updatedAt": timestamp(updated_at),
        "editedAt": optional_timestamp(edited_at),
        "deletedAt": optional_timestamp(deleted_at),
    }
    return {
        "conversationId": conversation_id,
        "conversationExternalId": external_id,
        "seq": seq,
        "message": message,
        "timestamp": timestamp(recorded_at),
    }


def _compare(frames: Sequence[bytes], plain: Sequence[bytes], events: int) -> None:
    """The plain ones are in the order of conversations; the product takes turns, in order within each."""
    by_conversation: dict[str, list[bytes]] = {}
    for frame in frames:
        by_conversation.setdefault(orjson.loads(frame)["data"]["conversationId"], []).append(frame)
    ordered = [frame for conversation in sorted(by_conversation) for frame in by_conversation[conversation]]
    if len(plain) != events or ordered != list(plain):
        different = next((pair for pair in _pairs(ordered, plain) if pair[0] != pair[1]), None)
        raise RuntimeError(f"{len(ordered)} resumed, {len(plain)} read, of {events}; first difference: {different}")


def _pairs(first: Sequence[bytes], second: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(first, second, strict=False)


def lines(results: Sequence[Resumed]) -> list[str]:
    """Markdown."""
    return [
        "## Resume",
        "",
        f"One client that missed everything, alone with one web process: from sending `resume` until it has `resumed`, "
        f"median (and slowest) of {len(results[0].whole)}. Plainly: one statement on one connection that reads the "
        "same rows with their senders and states, and orjson, which makes the same frames of them, byte for byte; by "
        "turns with the other.",
        "",
        *as_table(
            (
                "",
                "events",
                "conversations",
                "resume",
                "processor",
                "plainly",
                "of it rows",
                "ratio",
                "target",
                "",
            ),
            [
                [
                    result.name,
                    f"{result.events:,}",
                    f"{result.conversations:,}",
                    f"{1000 * median(result.whole):.0f} ms ({1000 * max(result.whole):.0f})",
                    f"{1000 * median(result.cpu):.0f} ms",
                    f"{1000 * median(result.plain):.0f} ms ({1000 * max(result.plain):.0f})",
                    f"{1000 * median(result.plain_database):.0f} ms",
                    f"**{result.ratio:.2f}**",
                    f"{TARGET:g}",
                    "met" if result.ratio <= TARGET else "**missed**",
                ]
                for result in results
            ],
        ),
        "",
        "What bounds it: one core. Two thirds of its time are what the plain way does, too (rows, objects, JSON); the "
        "rest takes each frame past who may see it, the bound of the queue and the member's place, into a WebSocket "
        "frame and through the kernel.",
    ]
