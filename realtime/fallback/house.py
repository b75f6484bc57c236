"""What one process has of streams and polls: their places, and who is in them."""

import itertools
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from uuid import UUID

from cachetools import TTLCache
from django.conf import settings

from messagecore.kernel import ids, metrics
from messagecore.kernel.errors import RateLimited, ServiceUnavailable
from realtime.hub import hub
from realtime.limits import TokenBucket, tenant_bucket
from realtime.protocol.closing import CloseCode
from realtime.visit import Visit

REMEMBERED = 50_000
FORGET_AFTER_S = 60
"""Any bucket is full again by then."""

PROCESS_BITS, NUMBER_BITS = 48, 26
RECONNECTS_PER_SECOND = 500
"""How fast the clients of a process that ends are told to come back to the others."""


class TooManyPolls(RateLimited):
    """Opening streams and polling, by one user."""

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class House:
    """Lives on the event loop. A connection's id says in its last digits which process has it."""

    def __init__(self) -> None:
        self._process = secrets.randbits(PROCESS_BITS)
        self._numbers = itertools.count(secrets.randbits(NUMBER_BITS))
        self._visits: dict[str, Visit] = {}
        self._openings: TTLCache[UUID, TokenBucket] = TTLCache(REMEMBERED, FORGET_AFTER_S)
        self._commands: TTLCache[UUID, TokenBucket] = TTLCache(REMEMBERED, FORGET_AFTER_S)
        self._commands_of_tenants: TTLCache[UUID, TokenBucket] = TTLCache(REMEMBERED, FORGET_AFTER_S)
        self._is_closed = False

    def new_connection_id(self) -> str:
        """A UUIDv7, as every connection's: the time, a number of 26 bits that this process gives once, the process.
        (Those of `new_id` differ in their last digits alone when several are made in one millisecond.)"""
        number = next(self._numbers) % 2**NUMBER_BITS
        upper, lower = number >> 14, number & 0x3FFF
        time_and_version = int(ids.new_id()) >> 76
        return str(UUID(int=time_and_version << 76 | upper << 64 | 0b10 << 62 | lower << 48 | self._process))

    @property
    def process(self) -> str:
        """As it stands at the end of its connections' ids."""
        return f"{self._process:012x}"

    def check_opening(self, user_id: UUID) -> None:
        """Raises RateLimited if the user opens streams or polls faster than a sound client does."""
        rate = settings.FALLBACK_OPENINGS_PER_SECOND
        if not _bucket(self._openings, user_id, lambda: TokenBucket(rate=rate, burst=10 * rate)).take():
            raise TooManyPolls

    def may_ask(self, tenant_id: UUID, user_id: UUID) -> bool:
        """Takes one command from what a user may ask, as much as on one socket, and from what their tenant may ask of
        this process, together with its connections here."""
        rate, burst = settings.SOCKET_COMMANDS_PER_SECOND, settings.SOCKET_COMMANDS_BURST
        if not _bucket(self._commands, user_id, lambda: TokenBucket(rate=rate, burst=burst)).take():
            return False
        local = hub().tenants.get(tenant_id)
        together = _bucket(self._commands_of_tenants, tenant_id, tenant_bucket) if local is None else local.commands
        return together.take()

    @contextmanager
    def place(self, visit: Visit) -> Iterator[None]:
        """Raises ServiceUnavailable when all are taken, or the process ends."""
        if self._is_closed or len(self._visits) >= settings.FALLBACK_MAX_AT_ONCE:
            raise ServiceUnavailable(headers={"Retry-After": "5"})
        assert visit.connection.id not in self._visits
        self._visits[visit.connection.id] = visit
        metrics.FALLBACK_CONNECTIONS.inc()
        try:
            yield
        finally:
            self._visits.pop(visit.connection.id, None)
            metrics.FALLBACK_CONNECTIONS.dec()

    def find(self, connection_id: str, *, tenant_id: UUID, user_id: UUID) -> Visit | None:
        """A stream of this user's that is open here."""
        visit = self._visits.get(connection_id)
        if visit is None or not visit.is_in or visit.connection.is_closing:
            return None
        return visit if (visit.session.tenant.id, visit.session.user_id) == (tenant_id, user_id) else None

    def close(self) -> None:
        """The process ends: streams are told and end, polls are answered, and who comes is sent elsewhere."""
        if self._is_closed:
            return
        self._is_closed = True
        spread_ms = max(1000, 1000 * len(self._visits) // RECONNECTS_PER_SECOND)
        for visit in list(self._visits.values()):
            after_ms = random.randint(0, spread_ms)  # noqa: S311 - to spread clients
            visit.connection.disconnect(
                CloseCode.SERVICE_RESTART, "the server is restarting", reconnect_after_ms=after_ms
            )


def _bucket(buckets: TTLCache[UUID, TokenBucket], id_: UUID, make: Callable[[], TokenBucket]) -> TokenBucket:
    bucket = buckets.get(id_)
    if bucket is None:
        bucket = buckets[id_] = make()
    return bucket


@cache
def house() -> House:
    """This process's."""
    return House()
