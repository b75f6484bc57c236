"""Reading threads."""

from uuid import UUID

from django.db import connection

from messaging.queries.messages import SenderView

SHOWN_PARTICIPANTS = 100

_PARTICIPANTS = """
SELECT u.id, u.external_user_id, u.display_name, u.avatar_url
FROM (SELECT sender_id, min(seq) AS first_seq FROM messaging_message
      WHERE thread_id = %s AND seq >= %s AND deleted_at IS NULL AND sender_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM messaging_userblock b WHERE b.blocker_id = %s AND b.blocked_id = sender_id)
      GROUP BY sender_id) r
JOIN messaging_user u ON u.id = r.sender_id ORDER BY r.first_seq LIMIT %s"""


def thread_participants(root_id: UUID, *, visible_from_seq: int, viewer_id: UUID | None) -> list[SenderView]:
    """Who replied, in order of their first reply, at most SHOWN_PARTICIPANTS, without those whom the viewer blocks.
    Cost: the thread's rows."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTICIPANTS, [root_id, visible_from_seq, viewer_id, SHOWN_PARTICIPANTS])
        return [SenderView(*row) for row in cursor.fetchall()]
