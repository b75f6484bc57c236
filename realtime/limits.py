"""How much one connection, user, tenant or address may ask of a process."""

import time
from collections import Counter
from uuid import UUID

from cachetools import TTLCache
from django.conf import settings

from messagecore.kernel.errors import Refusal

REMEMBERED_ADDRESSES = 50_000


class TooManyConnections(Refusal):
    code = "too_many_connections"


class ConnectionQuotaExceeded(Refusal):
    code = "connection_quota_exceeded"


class TokenBucket:
    """`rate` a second on average, `burst` at once."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()

    @property
    def is_empty(self) -> bool:
        self._refill()
        return self._tokens < 1

    def take(self) -> bool:
        if self.is_empty:
            return False
        self._tokens -= 1
        return True

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Door:
    """Who may come in, in one process. Lives on the event loop.

    Before they authenticate, sockets are counted by their address, and refused handshakes cost no more than their
    bytes. An address whose credentials are refused again and again is not let to the database for a while.
    """

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._refused: TTLCache[str, TokenBucket] = TTLCache(REMEMBERED_ADDRESSES, 600)
        self._elsewhere: dict[UUID, int] = {}

    def knock(self, address: str) -> bool:
        """Whether one more socket of this address may wait to be authenticated; if so, `leave` follows."""
        if (
            self._waiting.total() >= settings.SOCKET_MAX_WAITING
            or self._waiting[address] >= settings.SOCKET_MAX_WAITING_PER_ADDRESS
        ):
            return False
        bucket = self._refused.get(address)
        if bucket is not None and bucket.is_empty:
            return False
        self._waiting[address] += 1
        return True

    def leave(self, address: str, *, refused: bool = False) -> None:
        """A socket that waited does so no longer: it was authenticated, refused, or is gone."""
        self._waiting[address] -= 1
        if self._waiting[address] <= 0:
            del self._waiting[address]
        if refused:
            bucket = self._refused.get(address)
            if bucket is None:
                bucket = TokenBucket(rate=settings.SOCKET_REFUSALS_PER_SECOND, burst=settings.SOCKET_REFUSALS_BURST)
            bucket.take()
            self._refused[address] = bucket

    def check_room(self, tenant_id: UUID, *, of_user: int, of_tenant: int, limit: int) -> None:
        """Raises TooManyConnections, ConnectionQuotaExceeded where a user or a tenant with so many connections here may
        have no more. `limit` is the plan's. What other processes hold is some seconds old.
        """
        if of_user >= settings.SOCKET_MAX_CONNECTIONS_PER_USER:
            raise TooManyConnections
        if of_tenant + self._elsewhere.get(tenant_id, 0) >= limit:
            raise ConnectionQuotaExceeded(details={"limit": limit})

    def hear_elsewhere(self, counts: dict[UUID, int]) -> None:
        """How many connections the tenants of this process have in the others."""
        self._elsewhere = counts


def command_buckets() -> tuple[TokenBucket, TokenBucket]:
    """For a connection: commands that are done, and commands beyond them that are answered with an error."""
    rate = settings.SOCKET_COMMANDS_PER_SECOND
    return (
        TokenBucket(rate=rate, burst=settings.SOCKET_COMMANDS_BURST),
        TokenBucket(rate=rate, burst=settings.SOCKET_MAX_REFUSED_COMMANDS),
    )


def user_bucket() -> TokenBucket:
    """For the commands of all of a user's connections here."""
    rate = settings.SOCKET_COMMANDS_PER_SECOND_OF_USER
    return TokenBucket(rate=rate, burst=4 * rate)


def tenant_bucket() -> TokenBucket:
    """For the commands of all of a tenant's connections here."""
    rate = settings.SOCKET_COMMANDS_PER_SECOND_OF_TENANT
    return TokenBucket(rate=rate, burst=2 * rate)
