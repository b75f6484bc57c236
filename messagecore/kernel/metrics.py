"""Prometheus metrics. Labels stay bounded: routes, types and outcomes; never ids, never a tenant."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("messagecore_http_requests_total", "HTTP requests", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("messagecore_http_request_seconds", "Time to answer an HTTP request", ["method", "route"])
MESSAGES_SENT = Counter("messagecore_messages_sent_total", "Messages committed, by way in", ["via"])
SENDS_REFUSED = Counter("messagecore_sends_refused_total", "Drafts refused, by error code", ["code"])
SEND_BATCH_SIZE = Histogram(
    "messagecore_send_batch_size", "Drafts that shared one commit", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
COMMIT_SECONDS = Histogram("messagecore_commit_seconds", "Time of one send transaction, commit included")
SEND_QUEUE_LENGTH = Gauge("messagecore_send_queue_length", "Drafts waiting for a commit", multiprocess_mode="livesum")
COMMIT_POOL = Gauge(
    "messagecore_commit_pool_busy", "Commit threads that are in a transaction", multiprocess_mode="livesum"
)
CONNECTIONS = Gauge("messagecore_socket_connections", "Authenticated sockets", multiprocess_mode="livesum")
FALLBACK_CONNECTIONS = Gauge(
    "messagecore_fallback_connections", "Event streams and polls that are open", multiprocess_mode="livesum"
)
FRAMES_IN = Counter("messagecore_socket_frames_received_total", "Frames received, by command", ["type"])
DELIVERIES = Counter("messagecore_deliveries_total", "Frames handed to sockets, by event", ["type"])
FRAMES_DROPPED = Counter("messagecore_frames_dropped_total", "Ephemeral frames dropped for slow readers")
GAPS_CLOSED = Counter("messagecore_gaps_closed_total", "Events that were read from the database because no hint came")
HINTS_PUBLISHED = Counter("messagecore_hints_published_total", "Announcements handed to Redis")
HINTS_LOST = Counter("messagecore_hints_lost_total", "Announcements that Redis did not take")
PRESENCE_ANNOUNCED = Counter("messagecore_presence_announced_total", "Users whose presence watchers were told of")
PRESENCE_REBUILDS = Counter(
    "messagecore_presence_rebuilds_total", "Times that a tenant's presence was written anew because the store lost it"
)
PRESENCE_REAPED = Counter("messagecore_presence_reaped_total", "Processes whose users were taken off after their lease")
THREADS_BUSY = Gauge("messagecore_web_threads_busy", "Request threads in use", multiprocess_mode="livesum")
REQUESTS_WAITING = Gauge(
    "messagecore_web_requests_waiting", "Requests waiting for a thread", multiprocess_mode="livesum"
)
REQUESTS_HELD = Gauge(
    "messagecore_web_requests_held",
    "Requests that wait, without a thread, for something to tell",
    multiprocess_mode="livesum",
)
