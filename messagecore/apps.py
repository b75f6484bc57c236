"""Django's registration of the composition root, for its management commands."""

from django.apps import AppConfig


class MessageCoreConfig(AppConfig):
    name = "messagecore"
