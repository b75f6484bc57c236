"""Reading what is to be indexed, and writing the index: two statements, whatever the number of messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

_READ = """
SELECT id, conversation_id, sender_id, type, content::text, created_at, deleted_at IS NOT NULL, xmin::text
FROM messaging_message WHERE id = ANY(%s) ORDER BY id"""

# A message that changed since it was read has another `xmin`, and a promise of its own. Its `updated_at` may be the
# same: the log's time stands still while a clock that is behind catches up. One that is being changed is locked, and
# skipped. One that is held here cannot be deleted before this commits: its deletion then sees the entry.
_WRITE = """
WITH held AS MATERIALIZED (
  SELECT m.id, m.conversation_id, m.seq, m.sender_id, m.created_at, given.terms
  FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS given(id, version, terms)
  JOIN messaging_message m ON m.id = given.id AND m.xmin = given.version::xid
  ORDER BY m.id FOR SHARE OF m SKIP LOCKED
), written AS (
  INSERT INTO messaging_searchentry (message_id, conversation_id, seq, sender_id, created_at, terms)
  SELECT id, conversation_id, seq, sender_id, created_at, terms::tsvector FROM held WHERE terms IS NOT NULL
  ON CONFLICT (message_id) DO UPDATE SET terms = EXCLUDED.terms
), removed AS (
  DELETE FROM messaging_searchentry e USING held WHERE e.message_id = held.id AND held.terms IS NULL
)
SELECT id FROM held"""

_REMOVE = "DELETE FROM messaging_searchentry WHERE message_id = ANY(%s)"
_REMOVE_CONVERSATION = "DELETE FROM messaging_searchentry WHERE conversation_id = %s"
_REMOVE_SENDERS = """
DELETE FROM messaging_searchentry e USING messaging_message m
WHERE m.sender_id = %s AND m.conversation_id = %s AND e.message_id = m.id"""


@dataclass(frozen=True, slots=True)
class Indexable:
    """What the index takes of a message; `version` is another after whatever changes its row."""

    id: UUID
    conversation_id: UUID
    sender_id: UUID | None
    type: str
    content: Any
    created_at: datetime
    is_deleted: bool
    version: str


@dataclass(frozen=True, slots=True)
class IndexedAs:
    """What a message of that version is found by, as a `tsvector`; None: by nothing."""

    id: UUID
    version: str
    terms: str | None


def read_messages(ids: Sequence[UUID]) -> list[Indexable]:
    """Those that exist, in id order. Locks nothing."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, [list(ids)])
        return [
            Indexable(id_, conversation_id, sender_id, type_, orjson.loads(content), *rest)
            for id_, conversation_id, sender_id, type_, content, *rest in cursor.fetchall()
        ]


def write_entries(entries: Sequence[IndexedAs]) -> set[UUID]:
    """Writes or removes the entries of messages that are as they were read, and that nobody is changing; returns which.

    Holds those messages FOR SHARE until the transaction ends: whoever edits or deletes one waits for that.
    """
    if not entries:
        return set()
    columns: list[Any] = [
        [entry.id for entry in entries],
        [entry.version for entry in entries],
        [entry.terms for entry in entries],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, columns)
        return {row[0] for row in cursor.fetchall()}


def remove_entries(message_ids: Sequence[UUID]) -> None:
    """To be called when the messages are changed or deleted already, in that transaction: an indexer that held one of
    them has then committed, and what it wrote is seen here."""
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE, [list(message_ids)])


def remove_conversation(conversation_id: UUID) -> None:
    """The entries of a conversation whose messages are deleted already. An index range."""
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE_CONVERSATION, [conversation_id])


def remove_of_sender(sender_id: UUID, conversation_id: UUID) -> None:
    """The entries of what somebody wrote in a conversation, emptied already in this transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE_SENDERS, [sender_id, conversation_id])
