"""Who is online, in Redis: rebuilt by heartbeats whenever it is lost, and unknown until then.

Keys of a tenant share a hash tag, so that they live on one node of a cluster:

    mc:{<tenant>}:online          sorted set: user → until when they count as online
    mc:{<tenant>}:user:<user>     sorted set: connection → until when it counts as alive
    mc:{<tenant>}:connections     sorted set: connection → the same, for counting
    mc:{<tenant>}:seen            hash: user → when last seen (ms)
    mc:presence:since             when the store began to be complete; kept alive by heartbeats

A process that dies leaves entries that run out by themselves: no ghost outlives PRESENCE_LEASE_SECONDS, which
heartbeats renew. A user whose last connection is gone counts as online for PRESENCE_GRACE_SECONDS: not offline at the
first hiccup.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

import redis
from django.conf import settings

from messaging.ports import Presence
from realtime.redis_clients import blocking_client, loop_client

logger = logging.getLogger(__name__)

SWEEP_EVERY_S = 2.0
SWEEP_AT_ONCE = 200
SINCE_LIFETIME_S = 30
TIMEOUT_S = 1.0
MAX_REDIS_CONNECTIONS = 8

# KEYS online, user, connections; ARGV now, until, user, connection. Returns 1 if the user was offline before.
_CONNECT = """
local was = redis.call('ZSCORE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[4])
redis.call('EXPIRE', KEYS[2], 3600)
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[4])
if was and tonumber(was) > tonumber(ARGV[1]) then return 0 end
return 1
"""

# KEYS online, user, connections, seen; ARGV now, until (with grace), user, connection, now in ms.
_DISCONNECT = """
redis.call('ZREM', KEYS[2], ARGV[4])
redis.call('ZREM', KEYS[3], ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
redis.call('HSET', KEYS[4], ARGV[3], ARGV[5])
if redis.call('ZCARD', KEYS[2]) == 0 then redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[3]) end
return 0
"""

# KEYS online, seen, connections; ARGV now, most. Returns the users that are offline from now on: each to one caller.
_SWEEP = """
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, user in ipairs(gone) do
  redis.call('ZREM', KEYS[1], user)
  redis.call('HSETNX', KEYS[2], user, math.floor(ARGV[1] * 1000))
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[1])
return gone
"""


def _key(tenant_id: UUID, name: str) -> str:
    return f"mc:{{{tenant_id.hex}}}:{name}"


_SINCE = "mc:presence:since"


class PresenceStore:
    """The event loop's side: written by the process that holds the connections."""

    def __init__(self) -> None:
        self._client = loop_client(timeout_s=TIMEOUT_S, max_connections=MAX_REDIS_CONNECTIONS)
        self._connect = self._client.register_script(_CONNECT)
        self._disconnect = self._client.register_script(_DISCONNECT)
        self._sweep = self._client.register_script(_SWEEP)

    async def connected(self, tenant_id: UUID, user_id: UUID, connection_id: str) -> bool:
        """Records a connection. True if its user was offline before."""
        now = time.time()
        keys = [_key(tenant_id, "online"), _key(tenant_id, f"user:{user_id.hex}"), _key(tenant_id, "connections")]
        return bool(await self._connect(keys, [now, now + settings.PRESENCE_LEASE_SECONDS, user_id.hex, connection_id]))

    async def disconnected(self, tenant_id: UUID, user_id: UUID, connection_id: str) -> None:
        """Forgets a connection. If it was its user's last, they go offline after the grace, when `sweep` finds them."""
        now = time.time()
        keys = [
            _key(tenant_id, "online"),
            _key(tenant_id, f"user:{user_id.hex}"),
            _key(tenant_id, "connections"),
            _key(tenant_id, "seen"),
        ]
        await self._disconnect(
            keys, [now, now + settings.PRESENCE_GRACE_SECONDS, user_id.hex, connection_id, int(now * 1000)]
        )

    async def heartbeat(self, connections: Sequence[tuple[UUID, UUID, str]]) -> None:
        """Renews the leases of (tenant, user, connection)s and says that the store is being kept."""
        now = time.time()
        until = now + settings.PRESENCE_LEASE_SECONDS
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(_SINCE, now, nx=True, ex=SINCE_LIFETIME_S)
        pipeline.expire(_SINCE, SINCE_LIFETIME_S)
        for tenant_id, user_id, connection_id in connections:
            pipeline.zadd(_key(tenant_id, "online"), {user_id.hex: until}, gt=True)
            pipeline.zadd(_key(tenant_id, f"user:{user_id.hex}"), {connection_id: until})
            pipeline.expire(_key(tenant_id, f"user:{user_id.hex}"), 3600)
            pipeline.zadd(_key(tenant_id, "connections"), {connection_id: until})
        await pipeline.execute()

    async def sweep(self, tenant_id: UUID) -> list[UUID]:
        """The users whose time ran out; whoever gets them here is the only one who does."""
        keys = [_key(tenant_id, "online"), _key(tenant_id, "seen"), _key(tenant_id, "connections")]
        gone = await self._sweep(keys, [time.time(), SWEEP_AT_ONCE])
        return [UUID(user.decode()) for user in gone]

    async def online_among(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> set[UUID]:
        if not user_ids:
            return set()
        now = time.time()
        scores = await self._client.zmscore(_key(tenant_id, "online"), [user_id.hex for user_id in user_ids])
        return {user_id for user_id, score in zip(user_ids, scores, strict=True) if score is not None and score > now}

    async def close(self) -> None:
        await self._client.aclose()


class RedisPresenceReader:
    """Messaging's PresenceReader port: for request threads and workers. Any number of users costs one round trip."""

    def presence_of(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> Mapping[UUID, Presence]:
        if not user_ids:
            return {}
        now = time.time()
        members = [user_id.hex for user_id in user_ids]
        try:
            pipeline = _client().pipeline(transaction=False)
            pipeline.zmscore(_key(tenant_id, "online"), members)
            pipeline.hmget(_key(tenant_id, "seen"), members)
            pipeline.get(_SINCE)
            scores, seen, since = pipeline.execute()
        except (redis.RedisError, OSError):
            logger.warning("presence is not known: Redis does not answer")
            return dict.fromkeys(user_ids, Presence("unknown"))
        complete = since is not None and now - float(since) > settings.PRESENCE_SETTLE_SECONDS
        return {
            user_id: _presence(score, last, now, complete=complete)
            for user_id, score, last in zip(user_ids, scores, seen, strict=True)
        }

    def connection_count(self, tenant_id: UUID) -> int:
        try:
            return int(_client().zcount(_key(tenant_id, "connections"), time.time(), "+inf"))
        except (redis.RedisError, OSError):
            return 0


def _presence(score: float | None, last_seen_ms: bytes | None, now: float, *, complete: bool) -> Presence:
    seen_at = None if last_seen_ms is None else datetime.fromtimestamp(int(last_seen_ms) / 1000, UTC)
    if score is not None and score > now:
        return Presence("online", seen_at)
    return Presence("offline" if complete else "unknown", seen_at)


@cache
def _client() -> redis.Redis:
    return blocking_client(timeout_s=TIMEOUT_S)
