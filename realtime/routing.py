"""Where sockets are served: `/ws`, and `/` for clients in the field that connect to a bare host."""

from django.urls import path

from realtime.consumer import SocketConsumer

websocket_urlpatterns = [
    path("ws", SocketConsumer.as_asgi()),
    path("", SocketConsumer.as_asgi()),
]
