"""Celery tasks of messaging."""

import logging

from celery import shared_task
from django.utils import timezone

from messaging.services import retention, scheduling
from messaging.services.files import remove_bytes
from messaging.services.indexing import index_outbox_rows
from messaging.services.notifications import PresenceUnavailable, handle_outbox_rows
from quotas.models import Subscription
from tenants import feed, outbox, removals, timers
from tenants.models import Tenant

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


@shared_task(ignore_result=True)
def index_messages() -> int:
    """Lets search know of what was sent, edited and deleted, oldest first, until nothing waits or SWEEP_ROUNDS are
    done.

    Any number may run at once, beside `sweep_outbox`, which has a mark of its own. Started every second; a run that
    finds nothing costs one index look.
    """
    indexed = 0
    for _ in range(SWEEP_ROUNDS):
        count = outbox.drain(index_outbox_rows, limit=SWEEP_ROWS, now=timezone.now(), mark=outbox.Mark.INDEXED)
        indexed += count
        if count < SWEEP_ROWS:
            break
    return indexed


NUMBER_SECONDS = 5.0


@shared_task(ignore_result=True)
def number_feeds() -> int:
    """Gives committed events their places in their tenants' feeds, for NUMBER_SECONDS at most.

    Any number may run at once. Started every second; a run that finds nothing costs one index look. Who reads a feed
    numbers it, too: this is for the feeds that nobody reads, so that they are short when somebody does and retention
    can take their beginnings away.
    """
    return feed.number_waiting(budget_s=NUMBER_SECONDS)


SEND_SECONDS = 5.0
"""The next tick goes on; so a worker that has much to send does everything else as well."""


@shared_task(ignore_result=True)
def send_scheduled() -> int:
    """Sends the scheduled messages whose time has come, for SEND_SECONDS at most, in the order of their times.

    Any number may run at once. Started every second; a run that finds nothing costs one index look.
    """
    return timers.run_due(scheduling.TIMER, scheduling.send_due, budget_s=SEND_SECONDS)


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


PURGE_SECONDS = 200.0
"""A task has to end within CELERY_TASK_TIME_LIMIT; what is left then is another task's."""


@shared_task(ignore_result=True)
def purge_expired() -> None:
    """Starts a purge for every tenant that has a plan, hourly."""
    for tenant_id in Subscription.objects.order_by("tenant_id").values_list("tenant_id", flat=True):
        purge_tenant.apply_async([str(tenant_id)], expires=3600)


@shared_task(ignore_result=True)
def purge_tenant(tenant_id: str) -> None:
    """Takes away what is older than the tenant's plan keeps; goes on in another task where PURGE_SECONDS do not do."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        return
    now = timezone.now()
    purged = retention.purge(tenant, cutoff=retention.cutoff_of(tenant.id, now), now=now, budget_s=PURGE_SECONDS)
    if purged.conversations or purged.skipped:
        logger.info(
            "retention took %d messages, %d events and %d contents of %s",
            purged.messages,
            purged.events,
            purged.contents,
            tenant.schema_name,
        )
    if not purged.is_done:
        purge_tenant.apply_async([tenant_id], expires=3600)
