"""Where sockets are served: `/ws`, and `/` for clients in the field that connect to a bare host."""

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import path, re_path

from realtime.consumer import SocketConsumer


class Nowhere(AsyncWebsocketConsumer):
    """Refuses the handshake, as HTTP 403; without it an unknown address would be an exception in the log."""

    channel_layer_alias = ""

    async def connect(self) -> None:
        await self.close()


websocket_urlpatterns = [
    path("ws", SocketConsumer.as_asgi()),
    path("", SocketConsumer.as_asgi()),
    re_path("", Nowhere.as_asgi()),
]
