"""Sockets: the channel layer for control messages, limits of a connection, ports that realtime fills."""

from messagecore.settings.env import env

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # Who receives waits in Redis for 5 s at a time: redis-py's own patience is no longer than that.
        "CONFIG": {"hosts": [{"address": env.redis_url, "socket_timeout": 15}], "prefix": "mc:layer"},
    }
}

# Implementations of messaging's ports (messaging/ports.py).
MESSAGECORE_ANNOUNCER = "realtime.announcer.RedisAnnouncer"
MESSAGECORE_PRESENCE = "realtime.presence.reader.RedisPresenceReader"

COMMIT_THREADS = env.commit_threads
WEB_PROCESSES = env.web_processes
WEB_THREADS = env.web_threads

SOCKET_AUTHENTICATE_SECONDS = env.socket_authenticate_seconds
SOCKET_HEARTBEAT_SECONDS = 25
# A `resume` that names 10,000 conversations has its place in a frame.
# A frame above the first is refused with 4013; above the second the server library refuses to read it.
SOCKET_MAX_FRAME_BYTES = 512 * 1024
SOCKET_MAX_READ_BYTES = 2 * 1024 * 1024
SOCKET_MAX_MALFORMED_FRAMES = 20
# Commands of one connection: sustained a second, and burst.
SOCKET_COMMANDS_PER_SECOND = 50
SOCKET_COMMANDS_BURST = 200
# Commands above the rate that are answered with an error before the connection is closed; forgiven at the rate that a
# connection may keep up.
SOCKET_MAX_REFUSED_COMMANDS = 500
# Of all connections of a user, and of a tenant, in one process; so many seconds' worth at once: 4 and 2.
SOCKET_COMMANDS_PER_SECOND_OF_USER = 150
SOCKET_COMMANDS_PER_SECOND_OF_TENANT = env.socket_commands_of_tenant
# In one process, streams and polls that wait together, and how often one user may open them; ten times as many at once.
FALLBACK_MAX_AT_ONCE = env.fallback_max_at_once
FALLBACK_OPENINGS_PER_SECOND = 10
# In one process. A tenant's are limited by its plan, over all processes.
SOCKET_MAX_CONNECTIONS_PER_USER = 50
# Sockets that have not authenticated yet, in one process: together, and of one address.
SOCKET_MAX_WAITING = 8000
SOCKET_MAX_WAITING_PER_ADDRESS = env.socket_waiting_per_address
# Refused credentials of one address: beyond them its handshakes are refused.
SOCKET_REFUSALS_PER_SECOND = 1
SOCKET_REFUSALS_BURST = 100
SOCKET_MAX_QUEUED_FRAMES = 2048
SOCKET_MAX_QUEUED_BYTES = 4 * 1024 * 1024
# In all queues of a process; beyond it each connection may have a 32nd part of the above.
SOCKET_MAX_QUEUED_BYTES_TOGETHER = env.socket_queues_mib * 1024 * 1024

# How long after a fresh or restarted Redis somebody without a connection there counts as unknown, not as offline.
PRESENCE_SETTLE_SECONDS = env.presence_settle_seconds
# How long a connection counts as alive without a heartbeat of its process, which renews it three times in that time.
PRESENCE_LEASE_SECONDS = env.presence_lease_seconds
# How long a user whose last connection is gone still counts as online.
PRESENCE_GRACE_SECONDS = env.presence_grace_seconds
