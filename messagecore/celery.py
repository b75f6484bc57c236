"""The Celery application: `celery -A messagecore worker`, `celery -A messagecore beat`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messagecore.settings")

app = Celery("messagecore")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
