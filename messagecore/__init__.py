"""Composition root: settings, URLs, entry points. Wiring only; the apps may import nothing of it but `kernel`."""

from messagecore.celery import app as celery_app

__all__ = ["celery_app"]
