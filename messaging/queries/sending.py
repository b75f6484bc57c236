"""The statements of the plural send. Each takes a whole batch of one tenant; none grows in number with it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from django.db import IntegrityError, connection

from messaging.queries.moderation import HeldState


@dataclass(frozen=True, slots=True)
class LockedConversation:
    id: UUID
    external_id: str | None
    last_seq: int
    message_count: int
    unread_total: int
    last_event_at: datetime
    is_frozen: bool
    slow_mode_s: int


@dataclass(frozen=True, slots=True)
class DraftKey:
    """What a draft is checked by; all ids the server's."""

    conversation_id: UUID
    sender_id: UUID
    client_message_id: str | None
    reply_to_id: UUID | None


@dataclass(frozen=True, slots=True)
class DraftState:
    """What the database knows about a draft, once its conversation is locked."""

    role: str | None
    sender_is_active: bool
    sender_banned_until: datetime | None
    sender_external_id: str
    sender_display_name: str | None
    sender_avatar_url: str | None
    earlier_message_id: UUID | None
    earlier_digest: bytes | None
    held: HeldState | None
    reply_exists: bool
    thread_id: UUID | None
    reply_count: int
    last_sent_at: datetime | None
    is_blocked: bool


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A row to insert. `content`, `mentions` and `metadata` are JSON text."""

    id: UUID
    conversation_id: UUID
    seq: int
    message_index: int
    sender_id: UUID | None
    type: str
    content: str
    reply_to_id: UUID | None
    client_message_id: str | None
    body_digest: bytes
    mentions: str
    metadata: str
    silent: bool
    unread_index: int
    thread_id: UUID | None
    forwarded_from_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """Where a conversation stands after the batch."""

    conversation_id: UUID
    last_seq: int
    message_count: int
    unread_total: int
    last_message_id: UUID


_LOCK = """
SELECT id, external_id, last_seq, message_count, unread_total, last_event_at,
       COALESCE((settings->>'isFrozen')::boolean, FALSE), COALESCE((settings->>'slowModeSeconds')::int, 0)
FROM messaging_conversation
WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE"""

_CHECK = """
SELECT p.role, COALESCE(u.is_active, FALSE), u.banned_until, COALESCE(u.external_user_id, ''), u.display_name,
       u.avatar_url, m.id, m.body_digest, h.id, h.status, h.body_digest, r.id IS NOT NULL,
       COALESCE(r.thread_id, r.id), COALESCE(t.reply_count, 0), p.last_sent_at,
       EXISTS (SELECT 1 FROM messaging_conversation c
               JOIN messaging_participant o ON o.conversation_id = c.id AND c.type = 'direct'
               JOIN messaging_userblock b ON b.blocker_id = o.user_id AND b.blocked_id = d.sender_id
               WHERE c.id = d.conversation_id)
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::uuid[]) WITH ORDINALITY
     AS d(conversation_id, sender_id, client_message_id, reply_to_id, ordinal)
LEFT JOIN messaging_user u ON u.id = d.sender_id
LEFT JOIN messaging_participant p ON p.conversation_id = d.conversation_id AND p.user_id = d.sender_id
LEFT JOIN messaging_message m ON m.sender_id = d.sender_id AND m.client_message_id = d.client_message_id
LEFT JOIN messaging_heldmessage h ON h.sender_id = d.sender_id AND h.client_message_id = d.client_message_id
LEFT JOIN messaging_message r ON r.id = d.reply_to_id AND r.conversation_id = d.conversation_id
  AND r.seq >= p.visible_from_seq
  AND r.seq > (SELECT c.purged_seq FROM messaging_conversation c WHERE c.id = r.conversation_id)
LEFT JOIN messaging_message t ON t.id = COALESCE(r.thread_id, r.id)
ORDER BY d.ordinal"""

_MEMBERS = """
SELECT p.conversation_id, p.user_id FROM unnest(%s::uuid[], %s::uuid[]) AS d(conversation_id, user_id)
JOIN messaging_participant p ON p.conversation_id = d.conversation_id AND p.user_id = d.user_id"""

_WRITE = """
WITH written AS (
  INSERT INTO messaging_message (id, conversation_id, seq, message_index, sender_id, type, content, reply_to_id,
    client_message_id, body_digest, mentions, metadata, silent, unread_index, thread_id, forwarded_from_id,
    reply_count, reaction_count, created_at, recorded_at, updated_at)
  SELECT n.id, n.conversation_id, n.seq, n.message_index, n.sender_id, n.type, n.content::jsonb, n.reply_to_id,
    n.client_message_id, n.body_digest, n.mentions::jsonb, n.metadata::jsonb, n.silent, n.unread_index, n.thread_id,
    n.forwarded_from_id, 0, 0, %(now)s, %(now)s, %(now)s
  FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[], %(indexes)s::bigint[],
    %(senders)s::uuid[], %(types)s::text[], %(contents)s::text[], %(replies)s::uuid[], %(client_ids)s::text[],
    %(digests)s::bytea[], %(mentions)s::text[], %(metadata)s::text[], %(silent)s::boolean[],
    %(unread_indexes)s::bigint[], %(threads)s::uuid[], %(forwarded)s::uuid[])
    AS n(id, conversation_id, seq, message_index, sender_id, type, content, reply_to_id, client_message_id,
      body_digest, mentions, metadata, silent, unread_index, thread_id, forwarded_from_id)
), advanced AS (
  UPDATE messaging_conversation c
  SET last_seq = a.last_seq, message_count = a.message_count, unread_total = a.unread_total,
      last_message_id = a.last_message_id, last_message_at = %(now)s, last_event_at = %(now)s
  FROM unnest(%(advanced)s::uuid[], %(last_seqs)s::bigint[], %(counts)s::bigint[], %(unread_totals)s::bigint[],
    %(last_ids)s::uuid[]) AS a(id, last_seq, message_count, unread_total, last_message_id)
  WHERE c.id = a.id
), read AS (
  UPDATE messaging_participant p SET last_read_seq = s.seq, last_delivered_seq = s.seq, read_index = s.unread_index,
    own_since_read = 0, last_sent_at = %(now)s
  FROM (SELECT DISTINCT ON (conversation_id, sender_id) * FROM unnest(%(conversations)s::uuid[], %(senders)s::uuid[],
    %(seqs)s::bigint[], %(unread_indexes)s::bigint[]) AS r(conversation_id, sender_id, seq, unread_index)
    ORDER BY conversation_id, sender_id, seq DESC) s
  WHERE p.conversation_id = s.conversation_id AND p.user_id = s.sender_id AND p.last_read_seq < s.seq
), threaded AS (
  UPDATE messaging_message m SET reply_count = m.reply_count + t.replies
  FROM (SELECT id, count(*) AS replies FROM unnest(%(threads)s::uuid[]) AS t(id) WHERE id IS NOT NULL GROUP BY id) t
  WHERE m.id = t.id
)
INSERT INTO public.tenants_outboxevent (tenant_id, type, conversation_id, seq, subject_id, recorded_at)
SELECT %(tenant)s, 'new_message', o.conversation_id, o.seq, o.id, %(now)s
FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[]) AS o(id, conversation_id, seq)
ORDER BY o.conversation_id, o.seq"""


def lock_conversations(ids: Sequence[UUID]) -> dict[UUID, LockedConversation]:
    """Locks the conversations in id order until the transaction ends; who does not exist is left out.

    ORM: `Conversation.objects.filter(id__in=ids).order_by("id").select_for_update(no_key=True)`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [sorted(ids)])
        return {row[0]: LockedConversation(*row) for row in cursor.fetchall()}


def check_drafts(drafts: Sequence[DraftKey]) -> list[DraftState]:
    """One state for each draft, in order. To be asked under the conversations' locks: removal of a participant and an
    earlier send of the same `client_message_id` take the same locks, so what they committed is seen here.

    ORM: five `in_bulk`s (users, participants, messages and held messages by client id, replied messages) joined in
    Python.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _CHECK,
            [
                [draft.conversation_id for draft in drafts],
                [draft.sender_id for draft in drafts],
                [draft.client_message_id for draft in drafts],
                [draft.reply_to_id for draft in drafts],
            ],
        )
        return [
            DraftState(
                role=role,
                sender_is_active=is_active,
                sender_banned_until=banned_until,
                sender_external_id=external_id,
                sender_display_name=name,
                sender_avatar_url=avatar_url,
                earlier_message_id=earlier_id,
                earlier_digest=None if digest is None else bytes(digest),
                held=None if held_id is None else HeldState(held_id, held_status, bytes(held_digest)),
                reply_exists=reply_exists,
                thread_id=thread_id,
                reply_count=reply_count,
                last_sent_at=last_sent_at,
                is_blocked=is_blocked,
            )
            for (
                role,
                is_active,
                banned_until,
                external_id,
                name,
                avatar_url,
                earlier_id,
                digest,
                held_id,
                held_status,
                held_digest,
                reply_exists,
                thread_id,
                reply_count,
                last_sent_at,
                is_blocked,
            ) in cursor.fetchall()
        ]


def members_among(pairs: Sequence[tuple[UUID, UUID]]) -> dict[UUID, frozenset[UUID]]:
    """Those of the (conversation, user) pairs that are participants, by conversation. One index look a pair."""
    found: defaultdict[UUID, set[UUID]] = defaultdict(set)
    with connection.cursor() as cursor:
        cursor.execute(_MEMBERS, [[pair[0] for pair in pairs], [pair[1] for pair in pairs]])
        for conversation_id, user_id in cursor.fetchall():
            found[conversation_id].add(user_id)
    return {conversation_id: frozenset(users) for conversation_id, users in found.items()}


def is_sent_already(error: IntegrityError) -> bool:
    """Whether `write_messages` met a client message id that its sender had used."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.diag.constraint_name == "message_sent_once"


def write_messages(
    tenant_id: UUID, messages: Sequence[NewMessage], advances: Sequence[Advance], *, now: datetime
) -> None:
    """Inserts the messages, moves their conversations and their senders' read positions on, counts replies and writes
    the outbox, in one statement.

    Raises IntegrityError if a `client_message_id` was used at the same moment in another conversation.
    ORM: `Message.objects.bulk_create`, `bulk_update` of conversations, participants and thread roots,
    `tenants.outbox.write`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _WRITE,
            {
                "tenant": tenant_id,
                "now": now,
                "ids": [message.id for message in messages],
                "conversations": [message.conversation_id for message in messages],
                "seqs": [message.seq for message in messages],
                "indexes": [message.message_index for message in messages],
                "senders": [message.sender_id for message in messages],
                "types": [message.type for message in messages],
                "contents": [message.content for message in messages],
                "replies": [message.reply_to_id for message in messages],
                "client_ids": [message.client_message_id for message in messages],
                "digests": [message.body_digest for message in messages],
                "mentions": [message.mentions for message in messages],
                "metadata": [message.metadata for message in messages],
                "silent": [message.silent for message in messages],
                "unread_indexes": [message.unread_index for message in messages],
                "threads": [message.thread_id for message in messages],
                "forwarded": [message.forwarded_from_id for message in messages],
                "advanced": [advance.conversation_id for advance in advances],
                "last_seqs": [advance.last_seq for advance in advances],
                "counts": [advance.message_count for advance in advances],
                "unread_totals": [advance.unread_total for advance in advances],
                "last_ids": [advance.last_message_id for advance in advances],
            },
        )
