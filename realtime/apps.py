"""Django's registration of the app."""

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"
