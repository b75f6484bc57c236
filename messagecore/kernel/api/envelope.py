"""`{"success": …}`: how every answer under /api looks, the refused and the broken ones included."""

import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions as drf
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.response import Response

from messagecore.kernel import catalogue, context, wire
from messagecore.kernel.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Refusal,
    ServiceUnavailable,
    UnsupportedMediaType,
)

logger = logging.getLogger(__name__)


class EnvelopeRenderer(BaseRenderer):
    """Writes the already enveloped value as JSON."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else wire.dumps(data)


class AlwaysJson(BaseContentNegotiation):
    """The API speaks JSON whatever `Accept` says; clients in the field send anything."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        return parsers[0] if content_type == "application/json" else None

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class JsonParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            raw = stream.body if hasattr(stream, "body") else stream.read()
        except RequestDataTooBig:
            raise PayloadTooLarge from None
        return wire.loads(raw)


def success(data: Any, pagination: Any = None) -> dict[str, Any]:
    body: dict[str, Any] = {"success": True, "data": data}
    if pagination is not None:
        body["pagination"] = pagination
    return body


def failure(code: str, message: str, *, retryable: bool, details: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "success": False,
        "error": {
            "code": code,
            "message": message,
            "details": details or {},
            "requestId": context.request_id.get(),
            "retryable": retryable,
        },
    }


def refusal_body(refusal: Refusal) -> dict[str, Any]:
    return failure(refusal.code, refusal.message, retryable=refusal.retryable, details=refusal.details)


def plain_failure(code: str) -> HttpResponse:
    """The envelope for what fails outside a view: an unknown path, a broken middleware."""
    entry = catalogue.error(code)
    body = failure(code, entry.title, retryable=entry.retryable)
    return HttpResponse(wire.dumps(body), status=entry.status, content_type="application/json")


def _as_refusal(error: Exception) -> Refusal | None:
    refusal: Refusal | None = None
    match error:
        case Refusal():
            refusal = error
        case Http404() | drf.NotFound():
            refusal = NotFound()
        case drf.MethodNotAllowed():
            refusal = MethodNotAllowed()
        case drf.UnsupportedMediaType():
            refusal = UnsupportedMediaType()
        case RequestDataTooBig():
            refusal = PayloadTooLarge()
        case SuspiciousOperation():
            refusal = BadRequest()
        case OperationalError() | InterfaceError():
            # A restart, a broken connection, a deadlock: the caller tries again, and the next request connects anew.
            logger.warning("the database did not do it: %s", error)
            refusal = ServiceUnavailable()
    return refusal


def render_exception(error: Exception, view_context: dict[str, Any]) -> Response:
    """DRF's exception handler. A Refusal is answered as it says; anything else is logged with its trace and
    answered as `internal_error`, which tells the caller the request id and nothing more."""
    refusal = _as_refusal(error)
    if refusal is None:
        logger.error("unhandled error in %s", type(view_context["view"]).__name__, exc_info=error)
        entry = catalogue.error("internal_error")
        return Response(failure(entry.code, entry.title, retryable=entry.retryable), status=entry.status)
    return Response(refusal_body(refusal), status=refusal.status, headers=refusal.headers)
