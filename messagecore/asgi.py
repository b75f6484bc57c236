"""The ASGI application: HTTP to Django's views, WebSockets to Channels' consumer."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messagecore.settings")

import django

django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - the apps must be loaded first

from messagecore import (  # noqa: E402
    transport,
    urls,  # noqa: F401 - a second of imports that the first request need not wait for
)
from messagecore.http import ThreadedHandler  # noqa: E402
from messagecore.waiting import waiting_room  # noqa: E402
from realtime.fallback.house import house  # noqa: E402
from realtime.lifespan import Lifespan  # noqa: E402
from realtime.routing import websocket_urlpatterns  # noqa: E402

transport.before_shutdown(waiting_room().close)
transport.before_shutdown(house().close)

application = ProtocolTypeRouter(
    {
        "http": ThreadedHandler(),
        "websocket": URLRouter(websocket_urlpatterns),
        "lifespan": Lifespan(),
    }
)
