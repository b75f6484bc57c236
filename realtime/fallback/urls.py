"""Routes of the fallbacks, below /api/v1/realtime."""

from django.urls import path

from realtime.fallback import api

urlpatterns = [
    path("sse", api.EventStream.as_view()),
    path("poll", api.Polling.as_view()),
    path("commands", api.Commands.as_view()),
]
