"""From the ids that callers use to the ids that the server uses. Either id works; the server's wins."""

from collections.abc import Iterable
from typing import Literal
from uuid import UUID

from django.db import connection

from messagecore.kernel.ids import find_uuid

_STATEMENTS = {
    "user": """
SELECT id::text, id FROM messaging_user WHERE id = ANY(%s::uuid[])
UNION ALL
SELECT external_user_id, id FROM messaging_user WHERE external_user_id = ANY(%s::text[])""",
    "conversation": """
SELECT id::text, id FROM messaging_conversation WHERE id = ANY(%s::uuid[])
UNION ALL
SELECT external_id, id FROM messaging_conversation WHERE external_id = ANY(%s::text[])""",
}


def resolve(kind: Literal["user", "conversation"], texts: Iterable[str]) -> dict[str, UUID]:
    """The server's id for each text that names a user (or a conversation) of this tenant; others are left out.

    One statement of two index scans, whatever the number; no locks. ORM: two `filter(… __in=…)`.
    """
    wanted = list(dict.fromkeys(texts))
    if not wanted:
        return {}
    uuids = [uuid for text in wanted if (uuid := find_uuid(text)) is not None]
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENTS[kind], [uuids, wanted])
        found: dict[str, UUID] = {}
        for text, server_id in cursor.fetchall():
            found.setdefault(text, server_id)  # the server's ids come first, and win
    return found
