"""Every path that HTTP serves."""

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, register_converter
from django.views.defaults import bad_request, page_not_found, server_error
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from messagecore import operations
from messagecore.asyncapi import AsyncApiView
from messagecore.kernel.api.envelope import plain_failure
from messagecore.kernel.api.paths import IdConverter

register_converter(IdConverter, "id")

urlpatterns = [
    path("health", operations.health),
    path("ready", operations.ready),
    path("metrics", operations.metrics),
    path("favicon.ico", operations.favicon),
    path("api/schema/", SpectacularJSONAPIView.as_view(), name="schema"),
    path("api/asyncapi/", AsyncApiView.as_view(), name="asyncapi"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include("messaging.api.urls")),
    path("api/v1/realtime/", include("realtime.fallback.urls")),
    path("i18n/", set_language, name="set_language"),
    path("admin/", admin.site.urls),
]
if settings.DEMO:
    urlpatterns.append(path("demo/", operations.demo, name="demo"))


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """JSON under /api, Django's page elsewhere."""
    return plain_failure("bad_request") if request.path.startswith("/api/") else bad_request(request, exception)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """JSON under /api, Django's page elsewhere."""
    return plain_failure("not_found") if request.path.startswith("/api/") else page_not_found(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    return plain_failure("internal_error") if request.path.startswith("/api/") else server_error(request)
