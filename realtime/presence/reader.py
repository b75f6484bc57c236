"""Messaging's PresenceReader port over Redis: for request threads and workers."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

import redis
from django.conf import settings

from messagecore.kernel.errors import ServiceUnavailable
from messaging.ports import OnlinePage, Presence
from realtime.presence import scripts
from realtime.presence.scripts import Run
from realtime.presence.store import SINCE, STATUSES, TIMEOUT_S, Clock
from realtime.redis_clients import blocking_client

logger = logging.getLogger(__name__)

USERS_IN_A_SCRIPT = 500
"""So that asking for thousands, as the sweep of notifications does, does not hold up everybody else in Redis."""


class RedisPresenceReader:
    """Any number of users costs one round trip."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock

    def presence_of(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> Mapping[UUID, Presence]:
        if not user_ids:
            return {}
        parts = [user_ids[start : start + USERS_IN_A_SCRIPT] for start in range(0, len(user_ids), USERS_IN_A_SCRIPT)]
        runs = [Run(scripts.READ, tenant_id, (self._now(), *(one.hex for one in part))) for part in parts]
        try:
            *answers, since = scripts.run_blocking(_client(), runs, also_get=SINCE)
        except (redis.RedisError, OSError):
            logger.warning("presence is not known: Redis does not answer")
            return dict.fromkeys(user_ids, Presence("unknown"))
        return {
            user_id: presence
            for part, answer in zip(parts, answers, strict=True)
            for user_id, presence in zip(part, _read(answer, since), strict=True)
        }

    def online_after(self, tenant_id: UUID, after: UUID | None, *, limit: int) -> OnlinePage:
        arguments = (self._now(), "" if after is None else after.hex, limit)
        try:
            ((last, *rest),) = scripts.run_blocking(_client(), [Run(scripts.PAGE, tenant_id, arguments)])
        except (redis.RedisError, OSError):
            logger.warning("who is online is not known: Redis does not answer")
            raise ServiceUnavailable("Who is online is not known at the moment.") from None
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        return OnlinePage(
            {UUID(user.decode()): Presence(STATUSES[status.decode()], _time(seen)) for user, status, seen in triples},
            UUID(last.decode()) if last else None,
        )

    def connection_count(self, tenant_id: UUID) -> int:
        try:
            return int(scripts.run_blocking(_client(), [Run(scripts.COUNT, tenant_id, (self._now(),))])[0])
        except (redis.RedisError, OSError):
            return 0

    def _now(self) -> float | str:
        return "" if self._clock is None else repr(self._clock())


def _read(answer: Sequence[bytes], since: bytes | None) -> Iterator[Presence]:
    """Who is not in the store is offline only when it has been kept for long enough to have everybody."""
    now, _, *rest = answer
    is_complete = since is not None and float(now) - float(since) > settings.PRESENCE_SETTLE_SECONDS
    for letter, seen in zip(rest[::3], rest[1::3], strict=True):
        status = STATUSES[letter.decode()]
        yield Presence(status if is_complete or status != "offline" else "unknown", _time(seen))


def _time(milliseconds: bytes) -> datetime | None:
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC) if milliseconds else None


@cache
def _client() -> redis.Redis:
    return blocking_client(timeout_s=TIMEOUT_S)
