"""Celery tasks of metering."""

from celery import shared_task
from django.utils import timezone

from quotas.services import usage


@shared_task(ignore_result=True)
def mirror_usage() -> None:
    """Keeps Redis' copy of the month's counts within 5 s of the truth."""
    usage.mirror_usage(now=timezone.now())
