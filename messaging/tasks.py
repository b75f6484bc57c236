"""Celery tasks of messaging."""

import logging

from celery import shared_task
from django.utils import timezone

from messaging.services.files import remove_bytes
from messaging.services.notifications import PresenceUnavailable, handle_outbox_rows
from tenants import outbox, removals

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


REMOVED_TOGETHER = 50


@shared_task(ignore_result=True)
def sweep_removals() -> int:
    """Removes the bytes of files that are deleted, and of uploads that never came to an end, until none is due.

    Any number may run at once. Started every few seconds; a run that finds nothing costs one index look.
    """
    removed = 0
    for _ in range(SWEEP_ROUNDS):
        count = removals.sweep(remove_bytes, limit=REMOVED_TOGETHER, now=timezone.now())
        removed += count
        if count < REMOVED_TOGETHER:
            break
    return removed
