"""What messaging asks of the outside: announcing what was committed, knowing who is connected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from messagecore.kernel.errors import ServiceUnavailable
from messaging.events import Announcement


class Announcer(Protocol):
    """Tells every process of something committed. A hint: it may be lost, the database is the truth."""

    def announce(self, tenant_id: UUID, announcements: Sequence[Announcement]) -> None:
        """Returns at once and never raises; the work happens elsewhere."""


class NullAnnouncer:
    """Announces nothing: for commands and imports whose listeners catch up from the database."""

    def announce(self, tenant_id: UUID, announcements: Sequence[Announcement]) -> None:
        return


@dataclass(frozen=True, slots=True)
class Presence:
    """`status` is online, away, offline, or unknown when there is nobody to ask."""

    status: str
    last_seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OnlinePage:
    """Users who are online or away, in the order of their ids, and after whom the next page begins, if there is one."""

    users: Mapping[UUID, Presence]
    next_after: UUID | None


class PresenceReader(Protocol):
    def presence_of(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> Mapping[UUID, Presence]:
        """One entry for each id asked; `unknown` where the store cannot answer. Never raises."""

    def online_after(self, tenant_id: UUID, after: UUID | None, *, limit: int) -> OnlinePage:
        """Up to `limit` users behind `after`; a page may have fewer and yet a next one. Raises ServiceUnavailable where
        the store cannot answer: nobody would be a wrong answer."""

    def connection_count(self, tenant_id: UUID) -> int:
        """Live connections of the tenant; 0 where the store cannot answer."""


class UnknownPresence:
    """Knows nothing: for installations without Redis and for tests."""

    def presence_of(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> Mapping[UUID, Presence]:
        return dict.fromkeys(user_ids, Presence("unknown"))

    def online_after(self, tenant_id: UUID, after: UUID | None, *, limit: int) -> OnlinePage:
        raise ServiceUnavailable("Who is online is not known at the moment.")

    def connection_count(self, tenant_id: UUID) -> int:
        return 0


@cache
def announcer() -> Announcer:
    """The implementation that the settings name."""
    made: Announcer = import_string(settings.MESSAGECORE_ANNOUNCER)()
    return made


@cache
def presence_reader() -> PresenceReader:
    made: PresenceReader = import_string(settings.MESSAGECORE_PRESENCE)()
    return made
