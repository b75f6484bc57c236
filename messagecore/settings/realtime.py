"""Sockets: the channel layer for control messages, limits of a connection, ports that realtime fills."""

from messagecore.settings.env import env

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [env.redis_url], "prefix": "mc:layer"},
    }
}

# Implementations of messaging's ports (messaging/ports.py).
MESSAGECORE_ANNOUNCER = "realtime.announcer.RedisAnnouncer"
MESSAGECORE_PRESENCE = "realtime.presence.RedisPresenceReader"

COMMIT_THREADS = env.commit_threads
WEB_PROCESSES = env.web_processes
WEB_THREADS = env.web_threads

SOCKET_AUTHENTICATE_SECONDS = env.socket_authenticate_seconds
SOCKET_HEARTBEAT_SECONDS = 25
# A frame above the first is refused with 4013; above the second the server library refuses to read it.
SOCKET_MAX_FRAME_BYTES = 128 * 1024
SOCKET_MAX_READ_BYTES = 2 * 1024 * 1024
SOCKET_MAX_MALFORMED_FRAMES = 20
# Commands of one connection: sustained a second, and burst.
SOCKET_COMMANDS_PER_SECOND = 50
SOCKET_COMMANDS_BURST = 200
SOCKET_MAX_QUEUED_FRAMES = 2048
SOCKET_MAX_QUEUED_BYTES = 4 * 1024 * 1024

# How long after a fresh or restarted Redis somebody without a connection there counts as unknown, not as offline.
PRESENCE_SETTLE_SECONDS = env.presence_settle_seconds
# How long a connection counts as alive without a heartbeat of its process, which renews it three times in that time.
PRESENCE_LEASE_SECONDS = env.presence_lease_seconds
# How long a user whose last connection is gone still counts as online.
PRESENCE_GRACE_SECONDS = env.presence_grace_seconds
