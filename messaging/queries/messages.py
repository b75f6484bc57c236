"""Reading messages: newest page, pages by number, by seq, by time, around a message."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection

from messaging.queries.log import SPANS, LogSpan, span_arrays
from tenants.pipeline import Read


class SenderView(NamedTuple):
    id: UUID
    external_user_id: str
    display_name: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class ReactionCount:
    """How many gave a reaction; `me`: the viewer among them."""

    name: str
    count: int
    me: bool


class MessageView(NamedTuple):
    """A message as it is read: the row with its sender, its reactions and its conversation's external id."""

    sender: SenderView | None
    content: Any
    mentions: Sequence[str]
    metadata: dict[str, Any]
    id: UUID
    conversation_id: UUID
    conversation_external_id: str | None
    seq: int
    message_index: int
    type: str
    reply_to_id: UUID | None
    thread_id: UUID | None
    reply_count: int
    forwarded_from_id: UUID | None
    client_message_id: str | None
    silent: bool
    created_at: datetime
    recorded_at: datetime
    updated_at: datetime
    edited_at: datetime | None
    deleted_at: datetime | None
    status: str = "sent"
    reactions: tuple[ReactionCount, ...] = ()


_REACTIONS = """
SELECT message_id, name, count(*), COALESCE(bool_or(user_id = %s), FALSE)
FROM messaging_reaction WHERE message_id = ANY(%s) GROUP BY message_id, name ORDER BY min(created_at), name"""

# A message is read when every participant but its sender has read that far, and delivered when it has reached all of
# them. In conversations above 100 people nobody looks at that, and it would cost a look at each of them.
_STATUS = """
CASE WHEN c.participant_count NOT BETWEEN 2 AND 100 THEN 'sent'
  WHEN NOT EXISTS (
    SELECT 1 FROM messaging_participant p WHERE p.conversation_id = m.conversation_id
      AND p.user_id IS DISTINCT FROM m.sender_id AND p.last_read_seq < m.seq) THEN 'read'
  WHEN NOT EXISTS (
    SELECT 1 FROM messaging_participant p WHERE p.conversation_id = m.conversation_id
      AND p.user_id IS DISTINCT FROM m.sender_id AND p.last_read_seq < m.seq AND p.last_delivered_seq < m.seq)
    THEN 'delivered'
  ELSE 'sent' END"""

# What has to be made of several columns, or parsed, comes first; from the id on it is as MessageView has it.
_COLUMNS = """
SELECT m.sender_id, u.external_user_id, u.display_name, u.avatar_url,
       m.content::text, m.mentions::text, m.metadata::text, m.reaction_count,
       m.id, m.conversation_id, c.external_id, m.seq, m.message_index, m.type,
       m.reply_to_id, m.thread_id, COALESCE(root.reply_count, m.reply_count), m.forwarded_from_id, m.client_message_id,
       m.silent, m.created_at, m.recorded_at, m.updated_at, m.edited_at, m.deleted_at, """
_ID = 8

_REFERENCES = """
LEFT JOIN messaging_user u ON u.id = m.sender_id
LEFT JOIN messaging_message root ON root.id = m.thread_id
"""

_ANYWHERE = " FROM messaging_message m JOIN messaging_conversation c ON c.id = m.conversation_id"

# The same for stretches of logs, looking once at each conversation instead of at each message: how far the two who have
# read least, and whom least has reached, have come. The sender may be one of them, and does not count.
_STATUS_IN_SPANS = """
CASE WHEN c.participant_count NOT BETWEEN 2 AND 100 THEN 'sent'
  WHEN m.seq <= COALESCE(
    CASE WHEN c.reader[1] IS NOT DISTINCT FROM m.sender_id THEN c.read[2] ELSE c.read[1] END, m.seq)
    THEN 'read'
  WHEN m.seq <= COALESCE(
    CASE WHEN c.receiver[1] IS NOT DISTINCT FROM m.sender_id THEN c.reached[2] ELSE c.reached[1] END,
    m.seq) THEN 'delivered'
  ELSE 'sent' END"""

# OFFSET 0: each conversation is looked at before its messages, once.
_IN_SPANS = f"""
FROM (
  SELECT span.first_seq, span.last_seq, place.id, place.external_id, place.participant_count, place.purged_seq, behind.*
  FROM {SPANS}
  JOIN messaging_conversation place ON place.id = span.conversation_id
  CROSS JOIN LATERAL (
    SELECT array_agg(p.user_id ORDER BY p.last_read_seq, p.user_id) reader,
           array_agg(p.last_read_seq ORDER BY p.last_read_seq, p.user_id) read,
           array_agg(p.user_id ORDER BY GREATEST(p.last_read_seq, p.last_delivered_seq), p.user_id) receiver,
           array_agg(GREATEST(p.last_read_seq, p.last_delivered_seq)
                     ORDER BY GREATEST(p.last_read_seq, p.last_delivered_seq), p.user_id) reached
    FROM messaging_participant p
    WHERE p.conversation_id = place.id AND place.participant_count BETWEEN 2 AND 100) behind
  OFFSET 0) c
CROSS JOIN LATERAL (
  SELECT * FROM messaging_message entry WHERE entry.conversation_id = c.id
    AND entry.seq BETWEEN c.first_seq AND c.last_seq AND entry.seq > c.purged_seq OFFSET 0) m"""  # noqa: S608 - a constant of this module


# What the viewer does not want to see; without a viewer everything is seen.
_NOT_BLOCKED = """NOT EXISTS (
  SELECT 1 FROM messaging_userblock b WHERE b.blocker_id = %s AND b.blocked_id = m.sender_id)"""


MessageRow = tuple[Any, ...]
"""A row of _COLUMNS and a status."""


def views_of(rows: Sequence[MessageRow], viewer_id: UUID | None = None) -> list[MessageView]:
    """The messages in these rows with their reactions: one statement where there are any, else none."""
    reactions = _reactions_of(rows, viewer_id)
    views: list[MessageView] = []
    for row in rows:
        sender_id, name, display_name, avatar_url, content, mentions, metadata, reaction_count = row[:_ID]
        sender = None if name is None else SenderView(sender_id, name, display_name, avatar_url)
        parsed = orjson.loads(content), orjson.loads(mentions), orjson.loads(metadata)
        reacted = tuple(reactions[row[_ID]]) if reaction_count else ()
        views.append(MessageView._make((sender, *parsed, *row[_ID:], reacted)))
    return views


def _reactions_of(rows: Sequence[MessageRow], viewer_id: UUID | None) -> Mapping[UUID, Sequence[ReactionCount]]:
    reacted_to = [row[_ID] for row in rows if row[_ID - 1]]
    reactions: defaultdict[UUID, list[ReactionCount]] = defaultdict(list)
    if reacted_to:
        with connection.cursor() as cursor:
            cursor.execute(_REACTIONS, [viewer_id, reacted_to])
            for message_id, name, count, me in cursor.fetchall():
                reactions[message_id].append(ReactionCount(name, count, me))
    return reactions


def _fetch(clause: str, parameters: Sequence[Any], viewer_id: UUID | None) -> list[MessageView]:
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS + _STATUS + _ANYWHERE + _REFERENCES + clause, parameters)
        rows = cursor.fetchall()
    return views_of(rows, viewer_id)


def get_messages(ids: Sequence[UUID], *, viewer_id: UUID | None = None) -> dict[UUID, MessageView]:
    """Those of `ids` that exist, that retention left, and whose sender the viewer does not block.

    ORM: `Message.objects.select_related(…).in_bulk(ids)` and one count by name.
    """
    clause = f"WHERE m.id = ANY(%s) AND m.seq > c.purged_seq AND {_NOT_BLOCKED}"
    found = _fetch(clause, [list(ids), viewer_id], viewer_id)
    return {view.id: view for view in found}


@dataclass(frozen=True, slots=True)
class Position:
    """Where a message stands in both orders."""

    seq: int
    created_at: datetime


def find_position(conversation_id: UUID, message_id: UUID) -> Position | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, created_at FROM messaging_message WHERE id = %s AND conversation_id = %s",
            [message_id, conversation_id],
        )
        row = cursor.fetchone()
    return None if row is None else Position(*row)


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """A conversation as somebody sees it: from which seq on, without those whom they block, and whose reactions are
    `me` (None: nobody's)."""

    conversation_id: UUID
    visible_from_seq: int = 1
    viewer_id: UUID | None = None


def newest(view: Viewpoint, *, before_seq: int | None = None, offset: int = 0, limit: int) -> list[MessageView]:
    """Messages before `before_seq` (None: the end), newest first, `offset` skipped. An index scan backwards on
    (conversation, seq): the cost is offset + limit rows. ORM: `order_by("-seq")[offset:offset + limit]`."""
    end = before_seq if before_seq is not None else 2**62
    return _fetch(
        f"WHERE m.conversation_id = %s AND m.seq >= %s AND m.seq < %s AND {_NOT_BLOCKED} "
        "ORDER BY m.seq DESC OFFSET %s LIMIT %s",
        [view.conversation_id, view.visible_from_seq, end, view.viewer_id, offset, limit],
        view.viewer_id,
    )


def before_time(view: Viewpoint, at: datetime, *, offset: int = 0, limit: int) -> list[MessageView]:
    """Messages created before `at`, latest first, ordered by (created_at, seq). Cost: offset + limit rows."""
    return _fetch(
        f"WHERE m.conversation_id = %s AND m.created_at < %s AND m.seq >= %s AND {_NOT_BLOCKED} "
        "ORDER BY m.created_at DESC, m.seq DESC OFFSET %s LIMIT %s",
        [view.conversation_id, at, view.visible_from_seq, view.viewer_id, offset, limit],
        view.viewer_id,
    )


def after(view: Viewpoint, seq: int, *, limit: int) -> list[MessageView]:
    """The first messages after `seq`, oldest first. Cost: limit rows."""
    return _fetch(
        f"WHERE m.conversation_id = %s AND m.seq > %s AND m.seq >= %s AND {_NOT_BLOCKED} ORDER BY m.seq LIMIT %s",
        [view.conversation_id, seq, view.visible_from_seq, view.viewer_id, limit],
        view.viewer_id,
    )


def in_spans(spans: Sequence[LogSpan]) -> Read[MessageRow]:
    """The messages in these spans of logs, in any order, for `views_of`. An index scan a span."""
    return Read(_COLUMNS + _STATUS_IN_SPANS + _IN_SPANS + _REFERENCES, span_arrays(spans), tuple)


_LAST_VISIBLE = f"""
SELECT p.conversation_id, last.id FROM messaging_participant p
JOIN messaging_conversation c ON c.id = p.conversation_id
CROSS JOIN LATERAL (SELECT m.id FROM messaging_message m WHERE m.conversation_id = p.conversation_id
  AND m.seq >= p.visible_from_seq AND m.seq > c.purged_seq AND {_NOT_BLOCKED} ORDER BY m.seq DESC LIMIT 1) last
WHERE p.user_id = %s AND p.conversation_id = ANY(%s)"""  # noqa: S608 - a constant of this module


def last_visible(viewer_id: UUID, conversation_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The newest message of each conversation that its member sees, where its last one is a blocked person's. Cost:
    the blocked messages at each log's end."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST_VISIBLE, [viewer_id, viewer_id, list(conversation_ids)])
        return dict(cursor.fetchall())


def in_thread(view: Viewpoint, root_id: UUID, *, after_seq: int, limit: int) -> list[MessageView]:
    """The thread's replies after a seq, oldest first. An index scan on (thread, seq). Cost: limit rows."""
    return _fetch(
        f"WHERE m.thread_id = %s AND m.seq > %s AND m.seq >= %s AND {_NOT_BLOCKED} ORDER BY m.seq LIMIT %s",
        [root_id, after_seq, view.visible_from_seq, view.viewer_id, limit],
        view.viewer_id,
    )
