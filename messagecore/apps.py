"""Django's registration of the composition root, for its management commands."""

from django.apps import AppConfig
from django.conf import settings

from messagecore.translations import compile_catalogues


class MessageCoreConfig(AppConfig):
    name = "messagecore"

    def ready(self) -> None:
        compile_catalogues(settings.LOCALE_PATHS)
