"""Structured logs: one JSON object a line, with request id and tenant, without message content or secrets."""

from typing import Any

from messagecore.settings.env import env

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "context": {"()": "messagecore.kernel.context.ContextFilter"},
        "unexpected": {"()": "messagecore.kernel.context.UnexpectedFilter"},
    },
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s %(tenant)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
        "text": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s [%(request_id)s %(tenant)s]"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "text" if env.log_format == "text" else "json",
            "filters": ["context"],
        }
    },
    "root": {"level": env.log_level, "handlers": ["stderr"]},
    "loggers": {
        # Refused requests are answered, counted and traced by id; Django's own line for each says nothing more.
        "django.request": {"level": "ERROR", "filters": ["unexpected"]},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        # A line for every socket that opens and closes is noise; the metrics count them.
        "uvicorn.error": {"level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
