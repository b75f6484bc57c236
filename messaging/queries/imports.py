"""The statements of an import's chunk. Each takes the whole chunk; none grows in number with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from messagecore.kernel import wire
from messagecore.kernel.ids import find_uuid

# --- what is there --------------------------------------------------------------------------------------------------

_USERS = """
SELECT id, external_user_id, display_name, avatar_url, email, metadata::text, is_active FROM messaging_user
WHERE id = ANY(%s::uuid[]) OR external_user_id = ANY(%s::text[]) ORDER BY id FOR KEY SHARE"""

_LOCK_USERS = """
SELECT id, external_user_id, display_name, avatar_url, email, metadata::text, is_active FROM messaging_user
WHERE external_user_id = ANY(%s::text[]) ORDER BY id FOR NO KEY UPDATE"""

_FIND_CONVERSATIONS = """
SELECT id FROM messaging_conversation
WHERE id = ANY(%s::uuid[]) OR external_id = ANY(%s::text[]) OR direct_key = ANY(%s::text[])"""

_LOCK_CONVERSATIONS = """
SELECT id, external_id, type, direct_key, title, metadata::text, last_seq, message_count, unread_total, last_event_at,
       participant_count, last_message_at, last_message_id, oldest_at
FROM messaging_conversation WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"""

_OWNED = "SELECT conversation_id FROM messaging_participant WHERE conversation_id = ANY(%s) AND role = 'owner'"

_MESSAGES = """
SELECT m.id, m.conversation_id, m.thread_id, m.seq > c.purged_seq
FROM messaging_message m JOIN messaging_conversation c ON c.id = m.conversation_id WHERE m.id = ANY(%s)"""

_SENT = """
SELECT m.sender_id, m.client_message_id FROM unnest(%s::uuid[], %s::text[]) AS k(sender_id, client_message_id)
JOIN messaging_message m ON m.sender_id = k.sender_id AND m.client_message_id = k.client_message_id"""


@dataclass(slots=True)
class UserState:
    """A user as the chunk finds them and, behind its lines, leaves them."""

    id: UUID
    external_id: str
    display_name: str | None = None
    avatar_url: str | None = None
    email: str | None = None
    metadata: dict[str, Any] | None = None
    is_active: bool = True
    created_at: datetime | None = None
    """Set for a new user."""


@dataclass(slots=True)
class ConversationState:
    """A conversation as the chunk finds it and, behind its lines, leaves it."""

    id: UUID
    external_id: str | None
    type: str
    direct_key: str | None
    title: str | None
    metadata: dict[str, Any]
    last_seq: int
    message_count: int
    unread_total: int
    last_event_at: datetime
    participant_count: int
    last_message_at: datetime | None
    last_message_id: UUID | None
    oldest_at: datetime
    created_at: datetime | None = None
    """Set for a new conversation."""


@dataclass(frozen=True, slots=True)
class KnownMessage:
    """A message that is there. `remains`: retention has not moved the log's start beyond it."""

    conversation_id: UUID
    thread_id: UUID | None
    remains: bool


def find_users(names: Sequence[str]) -> list[UserState]:
    """The users that any of these ids, the server's or the integrator's, names.

    None of them is deleted until the transaction ends: what they are said to have written cannot outlive them.
    """
    uuids = [uuid for name in names if (uuid := find_uuid(name)) is not None]
    return _users(_USERS, [uuids, list(names)])


def lock_users(external_ids: Sequence[str]) -> list[UserState]:
    """Those who exist, in id order, locked until the transaction ends: nobody else changes them meanwhile."""
    return _users(_LOCK_USERS, [list(external_ids)])


def _users(statement: str, parameters: Sequence[Any]) -> list[UserState]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [
            UserState(id_, external_id, name, avatar_url, email, orjson.loads(metadata), is_active)
            for id_, external_id, name, avatar_url, email, metadata, is_active in cursor.fetchall()
        ]


def lock_conversations(names: Sequence[str], direct_keys: Sequence[str]) -> list[ConversationState]:
    """The conversations of these ids and direct pairs, locked in id order until the transaction ends: two statements.

    What is made elsewhere between the two is not seen; inserting it again then fails.
    """
    uuids = [uuid for name in names if (uuid := find_uuid(name)) is not None]
    with connection.cursor() as cursor:
        cursor.execute(_FIND_CONVERSATIONS, [uuids, list(names), list(direct_keys)])
        ids = [row[0] for row in cursor.fetchall()]
        cursor.execute(_LOCK_CONVERSATIONS, [ids])
        return [ConversationState(*(*row[:5], orjson.loads(row[5]), *row[6:])) for row in cursor.fetchall()]


def owned_among(conversation_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the conversations that have an owner."""
    with connection.cursor() as cursor:
        cursor.execute(_OWNED, [list(conversation_ids)])
        return {row[0] for row in cursor.fetchall()}


def known_messages(ids: Sequence[UUID]) -> dict[UUID, KnownMessage]:
    """Those of `ids` that are there. To be asked under their conversations' locks."""
    with connection.cursor() as cursor:
        cursor.execute(_MESSAGES, [list(ids)])
        return {row[0]: KnownMessage(*row[1:]) for row in cursor.fetchall()}


def sent_among(keys: Sequence[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Those of the (sender, client message id) pairs that were used."""
    with connection.cursor() as cursor:
        cursor.execute(_SENT, [[sender for sender, _ in keys], [client_id for _, client_id in keys]])
        return {(sender, client_id) for sender, client_id in cursor.fetchall()}


# --- what the chunk adds ----------------------------------------------------------------------------------------------

_INSERT_USERS = """
INSERT INTO messaging_user
  (id, external_user_id, display_name, avatar_url, email, metadata, is_active, created_at, updated_at)
SELECT n.id, n.external_id, n.name, n.avatar_url, n.email, n.metadata::jsonb, n.is_active, n.created_at, %s
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::boolean[], %s::timestamptz[])
  AS n(id, external_id, name, avatar_url, email, metadata, is_active, created_at) ORDER BY n.external_id"""

_UPDATE_USERS = """
UPDATE messaging_user u SET display_name = n.name, avatar_url = n.avatar_url, email = n.email,
  metadata = n.metadata::jsonb, is_active = n.is_active, updated_at = %s
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::boolean[])
  AS n(id, name, avatar_url, email, metadata, is_active) WHERE u.id = n.id"""

_INSERT_CONVERSATIONS = """
INSERT INTO messaging_conversation (id, external_id, type, direct_key, title, metadata, settings, created_at,
  updated_at, last_event_at, oldest_at, last_message_at, last_message_id, last_seq, message_count, participant_count,
  purged_seq, purged_count, unread_total)
SELECT n.id, n.external_id, n.type, n.direct_key, n.title, n.metadata::jsonb, '{}', n.created_at, %(now)s,
  %(now)s, n.oldest_at, n.last_message_at, n.last_message_id, n.last_seq, n.message_count, n.participants, 0, 0, 0
FROM unnest(%(ids)s::uuid[], %(external_ids)s::text[], %(types)s::text[], %(direct_keys)s::text[], %(titles)s::text[],
  %(metadata)s::text[], %(created)s::timestamptz[], %(oldest)s::timestamptz[], %(messages_at)s::timestamptz[],
  %(last_ids)s::uuid[], %(seqs)s::bigint[], %(counts)s::bigint[], %(participants)s::int[])
  AS n(id, external_id, type, direct_key, title, metadata, created_at, oldest_at, last_message_at, last_message_id,
    last_seq, message_count, participants) ORDER BY n.external_id"""

# Hidden stays hidden: the next message shows a hidden conversation again, but an imported one is no news.
_ADVANCE = """
WITH n AS (
  SELECT * FROM unnest(%(ids)s::uuid[], %(external_ids)s::text[], %(titles)s::text[], %(metadata)s::text[],
    %(oldest)s::timestamptz[], %(messages_at)s::timestamptz[], %(last_ids)s::uuid[], %(seqs)s::bigint[],
    %(counts)s::bigint[], %(participants)s::int[], %(renewed)s::boolean[])
    AS n(id, external_id, title, metadata, oldest_at, last_message_at, last_message_id, last_seq, message_count,
      participants, renewed)
), hidden AS (
  UPDATE messaging_participant p SET hidden_at_index = n.message_count
  FROM n JOIN messaging_conversation c ON c.id = n.id
  WHERE p.conversation_id = n.id AND p.hidden_at_index = c.message_count AND n.message_count <> c.message_count
)
UPDATE messaging_conversation c SET external_id = n.external_id, title = n.title, metadata = n.metadata::jsonb,
  oldest_at = n.oldest_at, last_message_at = n.last_message_at, last_message_id = n.last_message_id,
  last_seq = n.last_seq, message_count = n.message_count, participant_count = n.participants, last_event_at = %(now)s,
  updated_at = CASE WHEN n.renewed THEN %(now)s ELSE c.updated_at END
FROM n WHERE c.id = n.id"""

_INSERT_PARTICIPANTS = """
INSERT INTO messaging_participant (conversation_id, user_id, role, joined_at, visible_from_seq, last_read_seq,
  last_delivered_seq, read_index, own_since_read, pinned, archived)
SELECT n.conversation_id, n.user_id, n.role, n.joined_at, 1, n.read_seq, 0, n.read_index, 0, FALSE, FALSE
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[], %s::bigint[], %s::bigint[])
  WITH ORDINALITY AS n(conversation_id, user_id, role, joined_at, read_seq, read_index, place) ORDER BY n.place"""

_INSERT_MESSAGES = """
WITH written AS (
  INSERT INTO messaging_message (id, conversation_id, seq, message_index, sender_id, type, content, reply_to_id,
    client_message_id, body_digest, mentions, metadata, silent, unread_index, thread_id, reply_count, reaction_count,
    created_at, recorded_at, updated_at, edited_at, deleted_at)
  SELECT n.id, n.conversation_id, n.seq, n.message_index, n.sender_id, n.type, n.content::jsonb, n.reply_to_id,
    n.client_message_id, '', n.mentions::jsonb, n.metadata::jsonb, TRUE, n.unread_index, n.thread_id, n.reply_count,
    n.reaction_count, n.created_at, %(now)s, COALESCE(n.deleted_at, n.edited_at, n.created_at), n.edited_at,
    n.deleted_at
  FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[], %(indexes)s::bigint[],
    %(senders)s::uuid[], %(types)s::text[], %(contents)s::text[], %(replies)s::uuid[], %(client_ids)s::text[],
    %(mentions)s::text[], %(metadata)s::text[], %(unread_indexes)s::bigint[], %(threads)s::uuid[],
    %(reply_counts)s::int[], %(reaction_counts)s::int[], %(created)s::timestamptz[], %(edited)s::timestamptz[],
    %(deleted)s::timestamptz[])
    AS n(id, conversation_id, seq, message_index, sender_id, type, content, reply_to_id, client_message_id, mentions,
      metadata, unread_index, thread_id, reply_count, reaction_count, created_at, edited_at, deleted_at)
)
UPDATE messaging_message m SET reply_count = m.reply_count + t.replies
FROM unnest(%(answered)s::uuid[], %(answers)s::int[]) AS t(id, replies) WHERE m.id = t.id"""

_INSERT_REACTIONS = """
INSERT INTO messaging_reaction (message_id, user_id, name, created_at)
SELECT n.message_id, n.user_id, n.name, n.created_at
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[])
  WITH ORDINALITY AS n(message_id, user_id, name, created_at, place) ORDER BY n.place"""

_INSERT_FAILURES = """
INSERT INTO messaging_importfailure (job_id, line, code, pointer, message)
SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[])"""


@dataclass(frozen=True, slots=True)
class NewPlace:
    """A participant to insert. Nothing of the log up to `read_seq` is unread for them."""

    conversation_id: UUID
    user_id: UUID
    role: str
    joined_at: datetime
    read_seq: int
    read_index: int


@dataclass(slots=True)
class ImportedMessage:
    """A message to insert. `content`, `metadata` and `mentions` are JSON text; `reply_count` counts the answers that
    the same chunk holds."""

    id: UUID
    conversation_id: UUID
    seq: int
    message_index: int
    sender_id: UUID
    type: str
    content: str
    reply_to_id: UUID | None
    client_message_id: str | None
    mentions: str
    metadata: str
    unread_index: int
    thread_id: UUID | None
    reaction_count: int
    created_at: datetime
    edited_at: datetime | None
    deleted_at: datetime | None
    reply_count: int = 0


@dataclass(frozen=True, slots=True)
class NewReaction:
    message_id: UUID
    user_id: UUID
    name: str
    created_at: datetime


def insert_users(users: Sequence[UserState], *, now: datetime) -> None:
    """Raises IntegrityError if one was made elsewhere meanwhile. In the order of their external ids, so that two
    transactions with the same people wait for each other in one direction."""
    _execute(
        _INSERT_USERS,
        [
            now,
            [user.id for user in users],
            [user.external_id for user in users],
            [user.display_name for user in users],
            [user.avatar_url for user in users],
            [user.email for user in users],
            [_json(user.metadata) for user in users],
            [user.is_active for user in users],
            [user.created_at for user in users],
        ],
    )


def update_users(users: Sequence[UserState], *, now: datetime) -> None:
    """Users that `lock_users` locked."""
    _execute(
        _UPDATE_USERS,
        [
            now,
            [user.id for user in users],
            [user.display_name for user in users],
            [user.avatar_url for user in users],
            [user.email for user in users],
            [_json(user.metadata) for user in users],
            [user.is_active for user in users],
        ],
    )


def insert_conversations(conversations: Sequence[ConversationState], *, now: datetime) -> None:
    """With the log as it is at the chunk's end. Raises IntegrityError if one was made elsewhere meanwhile."""
    parameters = _columns(conversations, now) | {
        "types": [one.type for one in conversations],
        "direct_keys": [one.direct_key for one in conversations],
        "created": [one.created_at for one in conversations],
    }
    _execute(_INSERT_CONVERSATIONS, parameters)


def advance_conversations(conversations: Sequence[ConversationState], renewed: set[UUID], *, now: datetime) -> None:
    """Moves locked conversations on to the chunk's end; `renewed` are those whose title or metadata changed."""
    parameters = _columns(conversations, now) | {"renewed": [one.id in renewed for one in conversations]}
    _execute(_ADVANCE, parameters)


def _columns(conversations: Sequence[ConversationState], now: datetime) -> dict[str, Any]:
    return {
        "now": now,
        "ids": [one.id for one in conversations],
        "external_ids": [one.external_id for one in conversations],
        "titles": [one.title for one in conversations],
        "metadata": [_json(one.metadata) for one in conversations],
        "oldest": [one.oldest_at for one in conversations],
        "messages_at": [one.last_message_at for one in conversations],
        "last_ids": [one.last_message_id for one in conversations],
        "seqs": [one.last_seq for one in conversations],
        "counts": [one.message_count for one in conversations],
        "participants": [one.participant_count for one in conversations],
    }


def insert_places(places: Sequence[NewPlace]) -> None:
    """Raises IntegrityError if a user was deleted meanwhile."""
    _execute(
        _INSERT_PARTICIPANTS,
        [
            [place.conversation_id for place in places],
            [place.user_id for place in places],
            [place.role for place in places],
            [place.joined_at for place in places],
            [place.read_seq for place in places],
            [place.read_index for place in places],
        ],
    )


def insert_messages(messages: Sequence[ImportedMessage], answers: dict[UUID, int], *, now: datetime) -> None:
    """Inserts silent messages, recorded now; `answers` are replies to threads whose roots were there before.

    Sibling of `queries.sending.write_messages`: the outbox is written apart, since other events lie between these
    messages. Raises IntegrityError for an id or a `client_message_id` that came into another conversation meanwhile:
    whoever numbered the messages must know of each whether it is new, so nothing is left out in silence.
    ORM: `Message.objects.bulk_create`.
    """
    _execute(
        _INSERT_MESSAGES,
        {
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
            "mentions": [message.mentions for message in messages],
            "metadata": [message.metadata for message in messages],
            "unread_indexes": [message.unread_index for message in messages],
            "threads": [message.thread_id for message in messages],
            "reply_counts": [message.reply_count for message in messages],
            "reaction_counts": [message.reaction_count for message in messages],
            "created": [message.created_at for message in messages],
            "edited": [message.edited_at for message in messages],
            "deleted": [message.deleted_at for message in messages],
            "answered": list(answers),
            "answers": list(answers.values()),
        },
    )


def insert_reactions(reactions: Sequence[NewReaction]) -> None:
    """Raises IntegrityError if a user was deleted meanwhile."""
    _execute(
        _INSERT_REACTIONS,
        [
            [reaction.message_id for reaction in reactions],
            [reaction.user_id for reaction in reactions],
            [reaction.name for reaction in reactions],
            [reaction.created_at for reaction in reactions],
        ],
    )


def insert_failures(job_id: UUID, failures: Sequence[tuple[int, str, str, str]]) -> None:
    """Lines of the report: line, code, pointer, message."""
    _execute(_INSERT_FAILURES, [job_id, *(list(column) for column in zip(*failures, strict=True))])


def _execute(statement: str, parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def _json(value: dict[str, Any] | None) -> str:
    return wire.dumps(value or {}).decode()
