"""Celery: what runs behind the requests. Nothing here is a promise by itself; the outbox re-drives it."""

from messagecore.settings.env import env

CELERY_BROKER_URL = env.broker_url
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": "mc:celery:"}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TIMEZONE = "UTC"
# A tick that finds the queue full adds nothing, so each tick expires before the next but one.
CELERY_BEAT_SCHEDULE = {
    "sweep-outbox": {"task": "messaging.tasks.sweep_outbox", "schedule": 1.0, "options": {"expires": 2.0}},
    "index-messages": {"task": "messaging.tasks.index_messages", "schedule": 1.0, "options": {"expires": 2.0}},
    "number-feeds": {"task": "messaging.tasks.number_feeds", "schedule": 1.0, "options": {"expires": 2.0}},
    "send-scheduled": {"task": "messaging.tasks.send_scheduled", "schedule": 1.0, "options": {"expires": 2.0}},
    "sweep-removals": {"task": "messaging.tasks.sweep_removals", "schedule": 5.0, "options": {"expires": 10.0}},
    "purge-expired": {"task": "messaging.tasks.purge_expired", "schedule": 3600.0, "options": {"expires": 3600.0}},
    "mirror-usage": {"task": "quotas.tasks.mirror_usage", "schedule": 2.0, "options": {"expires": 4.0}},
}
