"""Celery tasks of messaging."""

import logging

from celery import shared_task
from django.utils import timezone

from messaging.services.notifications import PresenceUnavailable, handle_outbox_rows
from tenants import outbox

logger = logging.getLogger(__name__)

SWEEP_ROWS = 500
SWEEP_ROUNDS = 40


@shared_task(ignore_result=True)
def sweep_outbox() -> int:
    """Does what committed transactions promised, oldest first, until nothing waits or SWEEP_ROUNDS are done.

    Any number may run at once. Started every second; a run that finds nothing costs one index look.
    """
    handled = 0
    for _ in range(SWEEP_ROUNDS):
        now = timezone.now()
        try:
            count = outbox.drain(lambda rows: handle_outbox_rows(rows, now=now), limit=SWEEP_ROWS, now=now)  # noqa: B023 - called before the next round
        except PresenceUnavailable:
            logger.warning("presence is not known; the outbox waits")
            break
        handled += count
        if count < SWEEP_ROWS:
            break
    return handled
