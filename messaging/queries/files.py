"""Which files a user may use, and what links to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

# A message that the user sees (as `queries.messages` decides it) links to the file.
_SEEN = """EXISTS (
  SELECT 1 FROM messaging_messagefile l
  JOIN messaging_message m ON m.id = l.message_id
  JOIN messaging_conversation c ON c.id = m.conversation_id AND m.seq > c.purged_seq
  JOIN messaging_participant p ON p.conversation_id = c.id AND p.user_id = d.user_id AND m.seq >= p.visible_from_seq
  WHERE l.file_id = f.id AND NOT EXISTS (
    SELECT 1 FROM messaging_userblock b WHERE b.blocker_id = d.user_id AND b.blocked_id = m.sender_id))"""

_USABLE = f"""
SELECT d.user_id, f.id FROM unnest(%s::uuid[], %s::uuid[], %s::boolean[]) AS d(user_id, file_id, speaks_for_tenant)
JOIN messaging_file f ON f.id = d.file_id
WHERE f.owner_id = d.user_id OR (f.owner_id IS NULL AND d.speaks_for_tenant) OR {_SEEN}
ORDER BY f.id FOR KEY SHARE OF f"""  # noqa: S608 - constants of this module

_MAY_SEE = f"""
SELECT TRUE FROM messaging_file f, (SELECT %s::uuid AS user_id) d
WHERE f.id = %s AND (f.owner_id = d.user_id OR {_SEEN})"""  # noqa: S608 - constants of this module

_LINK = """
INSERT INTO messaging_messagefile (message_id, file_id) SELECT * FROM unnest(%s::uuid[], %s::uuid[])
ON CONFLICT (message_id, file_id) DO NOTHING"""

_UNLINK_MESSAGES = "DELETE FROM messaging_messagefile WHERE message_id = ANY(%s) RETURNING file_id"

_UNLINK_CONVERSATION = """
DELETE FROM messaging_messagefile l USING messaging_message m
WHERE m.id = l.message_id AND m.conversation_id = %s RETURNING l.file_id"""

_UNLINK_SENDER = """
DELETE FROM messaging_messagefile l USING messaging_message m
WHERE m.id = l.message_id AND m.sender_id = %s RETURNING l.file_id"""

_LOCK = "SELECT 1 FROM messaging_file WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

_DELETE = """
DELETE FROM messaging_file f
WHERE f.id = ANY(%s) AND NOT EXISTS (SELECT 1 FROM messaging_messagefile l WHERE l.file_id = f.id)
RETURNING f.storage_key, f.size_bytes"""

_HAND_ON = """
UPDATE messaging_file f SET owner_id = (
  SELECT m.sender_id FROM messaging_messagefile l JOIN messaging_message m ON m.id = l.message_id
  WHERE l.file_id = f.id ORDER BY l.id LIMIT 1)
WHERE f.owner_id = %s"""


@dataclass(frozen=True, slots=True)
class Use:
    """A user who wants to link to a file; `speaks_for_tenant`: it is the integrator who asks, in their name."""

    user_id: UUID
    file_id: UUID
    speaks_for_tenant: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deleted row stood for."""

    storage_key: str
    size_bytes: int


def usable(uses: Sequence[Use]) -> set[tuple[UUID, UUID]]:
    """The (user, file) pairs that are allowed: a file of their own, one that a message which they see links to, or,
    where the integrator asks, one that is nobody's. One statement.

    Locks these files against deletion until the transaction ends; waits for a deletion that is under way.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _USABLE,
            [
                [use.user_id for use in uses],
                [use.file_id for use in uses],
                [use.speaks_for_tenant for use in uses],
            ],
        )
        return {(user_id, file_id) for user_id, file_id in cursor.fetchall()}


def may_see(user_id: UUID, file_id: UUID) -> bool:
    """Whether the file is the user's, or a message that they see links to it. Cost: a look at each of its links."""
    with connection.cursor() as cursor:
        cursor.execute(_MAY_SEE, [user_id, file_id])
        return cursor.fetchone() is not None


def link(pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Links (message, file) pairs whose files `usable` has locked; a link that is there stays. One statement.

    ORM: `MessageFile.objects.bulk_create(…, ignore_conflicts=True)`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LINK, [[message_id for message_id, _ in pairs], [file_id for _, file_id in pairs]])


def unlink_messages(message_ids: Sequence[UUID]) -> list[UUID]:
    """Removes the messages' links and returns the files that lost one."""
    return _files(_UNLINK_MESSAGES, list(message_ids))


def unlink_conversation(conversation_id: UUID) -> list[UUID]:
    """The same for every message of a conversation."""
    return _files(_UNLINK_CONVERSATION, conversation_id)


def unlink_sender(user_id: UUID) -> list[UUID]:
    """The same for every message that the user sent."""
    return _files(_UNLINK_SENDER, user_id)


def _files(statement: str, parameter: UUID | list[UUID]) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [parameter])
        return list({row[0] for row in cursor.fetchall()})


def delete_unlinked(file_ids: Sequence[UUID]) -> list[Deleted]:
    """Deletes those of the files that nothing links to.

    Locks all of them in id order first, and looks for links after that: a message that is being sent with one of them
    either has its link here or does not find the file. Two statements.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [list(file_ids)])
        cursor.execute(_DELETE, [list(file_ids)])
        return [Deleted(*row) for row in cursor.fetchall()]


def hand_on(user_id: UUID) -> None:
    """What other people's messages still link to becomes the property of the first of them. Cost: the user's files."""
    with connection.cursor() as cursor:
        cursor.execute(_HAND_ON, [user_id])
