"""Who and what the running code works for, as log lines and errors name it."""

import logging
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")
tenant: ContextVar[str] = ContextVar("tenant", default="-")


class ContextFilter(logging.Filter):
    """Adds `request_id` and `tenant` to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.tenant = tenant.get()
        return True


class UnexpectedFilter(logging.Filter):
    """Drops Django's line for an answered 503: a probe that finds the service not ready is no error of the service."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != 503
