"""What messaging asks of the outside, as tests want it: announcements kept, presence as it is set."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

import orjson

from messagecore.kernel import wire
from messaging.events import Announcement
from messaging.ports import OnlinePage, Presence


def as_sent(value: Any) -> Any:
    """Something rendered, as a client reads it."""
    return orjson.loads(wire.dumps(value))


class RecordingAnnouncer:
    """Keeps what was announced, in order, as listeners read it."""

    def __init__(self) -> None:
        self.announced: list[tuple[UUID, Announcement]] = []

    def announce(self, tenant_id: UUID, announcements: Sequence[Announcement]) -> None:
        self.announced.extend((tenant_id, _as_read(announcement)) for announcement in announcements)


def _as_read(announcement: Announcement) -> Announcement:
    values = {field.name: getattr(announcement, field.name) for field in fields(announcement)}
    return replace(announcement, **{name: as_sent(it) for name, it in values.items() if isinstance(it, Mapping)})


class FixedPresence:
    """Says that exactly these users are online."""

    def __init__(self, online: Sequence[UUID] = ()) -> None:
        self.online = set(online)

    def presence_of(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> Mapping[UUID, Presence]:
        return {user_id: Presence("online" if user_id in self.online else "offline") for user_id in user_ids}

    def online_after(self, tenant_id: UUID, after: UUID | None, *, limit: int) -> OnlinePage:
        found = sorted(user_id for user_id in self.online if after is None or user_id > after)
        return OnlinePage(
            dict.fromkeys(found[:limit], Presence("online")), found[limit - 1] if len(found) > limit else None
        )

    def connection_count(self, tenant_id: UUID) -> int:
        return len(self.online)
