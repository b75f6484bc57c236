"""Telling watchers whose presence changed: those who look at a conversation of the user's."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

from messagecore.kernel import wire
from messaging.services import reading
from messaging.services.reading import PRESENCE_CONVERSATIONS, PresenceAudience
from realtime.broker import publisher
from realtime.database import read_in_database_thread
from realtime.hub import Hub
from realtime.presence.store import Change
from realtime.protocol import frames, hints
from realtime.protocol.hints import PresenceChange, PresenceHint
from tenants.cards import TenantCard

MAX_HINT_BYTES = 256 * 1024
"""What every process of the tenant reads in one go: about 8,000 conversations, some 15 ms of its event loop."""


class Announcements:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def announce(self, tenant: TenantCard, number: int, changes: Sequence[Change]) -> None:
        """Tells the onlookers of the users' conversations in every process. One statement for those who have no
        connection here, whose conversations are known; one hint, or a few if it would be too large. Users who are gone
        are left out. Raises DatabaseError."""
        here = ((change.user_id, self._find_here(tenant.id, change.user_id)) for change in changes)
        audiences = {user_id: found for user_id, found in here if found is not None}
        elsewhere = [change.user_id for change in changes if change.user_id not in audiences]
        if elsewhere:
            audiences.update(await read_in_database_thread(reading.presence_audiences, tenant, elsewhere))
        entries = [
            PresenceChange(change.user_id, audience.conversation_ids, presence_frame(change, audience.external_user_id))
            for change in changes
            if (audience := audiences.get(change.user_id)) is not None and audience.conversation_ids
        ]
        for part in _parts(entries):
            publisher().publish(tenant.id, hints.encode(PresenceHint(number, part)))

    def _find_here(self, tenant_id: UUID, user_id: UUID) -> PresenceAudience | None:
        local = self._hub.tenants.get(tenant_id)
        for connection in () if local is None else local.users.get(user_id, ()):
            if connection.meanwhile is None:  # its conversations are read
                conversations = tuple(islice(connection.conversations, PRESENCE_CONVERSATIONS))
                return PresenceAudience(connection.external_user_id, conversations)
        return None


def presence_frame(change: Change, external_user_id: str | None) -> str:
    seen_at = None if change.last_seen_ms is None else datetime.fromtimestamp(change.last_seen_ms / 1000, UTC)
    data = {
        "userId": str(change.user_id),
        "externalUserId": external_user_id,
        "status": change.status,
        "lastSeen": wire.optional_timestamp(seen_at),
    }
    return frames.event("user_presence", data)


def _parts(entries: Iterable[PresenceChange]) -> Iterator[tuple[PresenceChange, ...]]:
    part: list[PresenceChange] = []
    size = 0
    for entry in entries:
        entry_size = 33 * (len(entry.conversation_ids) + 1) + len(entry.frame.encode())
        if part and size + entry_size > MAX_HINT_BYTES:
            yield tuple(part)
            part, size = [], 0
        part.append(entry)
        size += entry_size
    if part:
        yield tuple(part)
