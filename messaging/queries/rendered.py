"""Log entries as they are shown: each rendered from the rows as they are now, in a fixed number of statements."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from messaging import rendering
from messaging.models import Conversation
from messaging.queries import messages, users
from messaging.queries.log import EventRow
from messaging.rendering import EventContext


def render_events(rows: Sequence[EventRow]) -> list[Mapping[str, Any]]:
    """The `data` of each entry. At most three statements: the users, messages and conversations they refer to."""
    about_messages = [row for row in rows if row.type in rendering.EVENTS_OF_MESSAGES]
    user_ids = {row.actor_id for row in rows} | {
        row.subject_id for row in rows if row.type in rendering.EVENTS_OF_PARTICIPANTS
    }
    updated = {row.conversation_id for row in rows if row.type == "conversation_updated"}
    context = EventContext(
        users=users.references(user_id for user_id in user_ids if user_id is not None) if user_ids - {None} else {},
        messages=messages.get_messages(_ids(about_messages)) if about_messages else {},
        conversations=Conversation.objects.in_bulk(updated) if updated else {},
    )
    return [rendering.render_event(row, context) for row in rows]


def _ids(rows: Sequence[EventRow]) -> list[UUID]:
    return list({row.subject_id for row in rows if row.subject_id is not None})
