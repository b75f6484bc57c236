"""Appending to a conversation's log what is not a message: numbered, promised and announced like messages are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from messaging import ports
from messaging.access import ConversationNotFound
from messaging.events import Announcement, DurableEvent
from messaging.models import Conversation, User
from messaging.queries import log, rendered
from tenants import outbox
from tenants.outbox import Promise


@dataclass(frozen=True, slots=True)
class Entry:
    """An event to append. `subject_id` is the user or message that it is about, `author_id` who wrote that message;
    `data` holds references and small facts, never content."""

    type: str
    subject_id: UUID | None
    data: Mapping[str, Any]
    author_id: UUID | None = None


def lock(conversation_id: UUID) -> Conversation:
    """The row as it is now, locked like a send locks it. Raises ConversationNotFound."""
    locked = Conversation.objects.select_for_update(no_key=True).filter(pk=conversation_id).first()
    if locked is None:
        raise ConversationNotFound
    return locked


def advance(locked: Conversation, *, events: int, participants: int = 0) -> datetime:
    """Numbers `events` more and returns the log's time of them, which never goes back."""
    now = max(timezone.now(), locked.last_event_at)
    locked.last_seq += events
    locked.participant_count += participants
    locked.last_event_at = now
    locked.save(update_fields=["last_seq", "participant_count", "last_event_at"])
    return now


def append(
    tenant_id: UUID,
    locked: Conversation,
    entries: Sequence[Entry],
    *,
    actor: User | None,
    now: datetime,
    before: Sequence[Announcement] = (),
    after: Sequence[Announcement] = (),
) -> None:
    """Writes entries as the last ones that `advance` numbered, with their outbox rows, and announces them when the
    transaction has committed: `before`, the events, `after`. Three statements and the rendering's, whatever the
    number of entries of one type."""
    first_seq = locked.last_seq - len(entries) + 1
    actor_id = None if actor is None else actor.id
    rows = [
        log.EventRow(
            conversation_id=locked.id,
            conversation_external_id=locked.external_id,
            seq=first_seq + place,
            type=entry.type,
            actor_id=actor_id,
            subject_id=entry.subject_id,
            data=dict(entry.data),
            recorded_at=now,
            author_id=entry.author_id,
        )
        for place, entry in enumerate(entries)
    ]
    log.record_events(rows)
    outbox.write(tenant_id, [Promise(row.type, locked.id, row.seq, row.subject_id, now) for row in rows])
    events = [
        DurableEvent(locked.id, row.seq, row.type, data, row.author_id)
        for row, data in zip(rows, rendered.render_events(rows), strict=True)
    ]
    announce(tenant_id, [*before, *events, *after])


def announce(tenant_id: UUID, announcements: Sequence[Announcement]) -> None:
    """Once the transaction has committed."""
    transaction.on_commit(lambda: ports.announcer().announce(tenant_id, announcements))
