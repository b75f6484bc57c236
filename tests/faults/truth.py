"""What the database says at the end of a scenario: every conversation's log, and who is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One durable event. `subject` is the message or the user that it is about (of a new message: itself), `author`
    who wrote the message."""

    type: str
    subject: str | None
    author: str | None
    client_message_id: str | None = None
    recorded_at: float = 0.0
    """The log's own time of it, in seconds."""


@dataclass(frozen=True, slots=True)
class Log:
    """`entries` by seq, from behind `purged_seq`, where retention has cut it, up to `last_seq`."""

    entries: Mapping[int, LogEntry]
    last_seq: int
    purged_seq: int = 0

    def is_arrival(self, seq: int, user: str) -> bool:
        """Whether that is where this user came in."""
        entry = self.entries.get(seq)
        return entry is not None and entry.type == "participant_added" and entry.subject == user

    def is_departure(self, seq: int, user: str) -> bool:
        entry = self.entries.get(seq)
        return entry is not None and entry.type == "participant_removed" and entry.subject == user


@dataclass(frozen=True, slots=True)
class Truth:
    """By conversation: its log, and for each member the seq from which they may see it. Gone ones are left out."""

    logs: Mapping[str, Log]
    visible_from: Mapping[str, Mapping[str, int]]

    def conversations_of(self, user: str) -> frozenset[str]:
        return frozenset(conversation for conversation, those in self.visible_from.items() if user in those)


_MESSAGES = """
SELECT conversation_id, seq, 'new_message', id, sender_id, client_message_id,
       extract(epoch FROM recorded_at)::float8 FROM {schema}.messaging_message"""
_EVENTS = """
SELECT e.conversation_id, e.seq, e.type, e.subject_id, m.sender_id, NULL, extract(epoch FROM e.recorded_at)::float8
FROM {schema}.messaging_conversationevent e LEFT JOIN {schema}.messaging_message m ON m.id = e.subject_id"""
_PLACES = "SELECT conversation_id, user_id, visible_from_seq FROM {schema}.messaging_participant"
_CONVERSATIONS = "SELECT id, last_seq, purged_seq FROM {schema}.messaging_conversation"


def read_truth(connection: psycopg.Connection[Any], tenant_id: str) -> Truth:
    """One snapshot of everything that a tenant has. Cost: all of it."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        schema = _schema(connection, tenant_id)

        def rows(statement: str) -> list[tuple[Any, ...]]:
            return connection.execute(sql.SQL(statement).format(schema=schema)).fetchall()

        entries: dict[str, dict[int, LogEntry]] = {}
        for conversation, seq, type_, subject, author, client_id, at in rows(f"{_MESSAGES} UNION ALL {_EVENTS}"):
            entry = LogEntry(type_, _text(subject), _text(author), client_id, at)
            entries.setdefault(str(conversation), {})[seq] = entry
        logs = {
            str(conversation): Log(entries.get(str(conversation), {}), last_seq, purged_seq)
            for conversation, last_seq, purged_seq in rows(_CONVERSATIONS)
        }
        visible_from: dict[str, dict[str, int]] = {conversation: {} for conversation in logs}
        for conversation, user, seq in rows(_PLACES):
            visible_from[str(conversation)][str(user)] = seq
    return Truth(logs, visible_from)


_ENDS = """
SELECT p.conversation_id, c.last_seq FROM {schema}.messaging_participant p
JOIN {schema}.messaging_conversation c ON c.id = p.conversation_id WHERE p.user_id = %s"""


def ends_of(connection: psycopg.Connection[Any], tenant_id: str, user: str) -> dict[str, int]:
    """The conversations that a user is in, each with where its log ends."""
    statement = sql.SQL(_ENDS).format(schema=_schema(connection, tenant_id))
    return {str(conversation): last_seq for conversation, last_seq in connection.execute(statement, [user]).fetchall()}


def _schema(connection: psycopg.Connection[Any], tenant_id: str) -> sql.Identifier:
    row = connection.execute("SELECT schema_name FROM tenants_tenant WHERE id = %s", [tenant_id]).fetchone()
    assert row is not None
    return sql.Identifier(row[0])


def _text(value: object) -> str | None:
    return None if value is None else str(value)
