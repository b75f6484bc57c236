"""What happens around every HTTP request: its id, its metrics, CORS."""

import re
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve

from messagecore.kernel import context, ids, metrics
from messagecore.kernel.api.later import LaterResponse

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

# Whoever calls can make methods up; a metric for each would fill the memory.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

EXPOSED_HEADERS = (
    "X-Request-Id, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, Idempotent-Replayed"
)

Handler = Callable[[HttpRequest], HttpResponse]


def choose_request_id(given: str | None) -> str:
    """The caller's id if it is sane (128 plain characters at most), a new one otherwise."""
    return given if given and _SANE_REQUEST_ID.fullmatch(given) else str(ids.new_id())


class RequestContextMiddleware:
    """Names the request in logs, errors and the answer; counts and times it by route."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = choose_request_id(request.headers.get("X-Request-Id"))
        id_token = context.request_id.set(request_id)
        tenant_token = context.tenant.set("-")
        started = time.perf_counter()
        try:
            response = self.get_response(request)
        finally:
            context.tenant.reset(tenant_token)
            context.request_id.reset(id_token)
        route = _route(request)
        method = request.method if request.method in _METHODS else "other"
        if isinstance(response, LaterResponse):
            response.counted_as = (method, route)  # when it is answered; how long that takes is no latency
        else:
            metrics.REQUESTS.labels(method, route, str(response.status_code)).inc()
            metrics.REQUEST_SECONDS.labels(method, route).observe(time.perf_counter() - started)
        response["X-Request-Id"] = request_id
        return response


def _route(request: HttpRequest) -> str:
    match = request.resolver_match
    if match is not None:
        return match.route or "/"
    return "static" if request.path.startswith("/static/") else "unmatched"


class CorsMiddleware:
    """CORS for the API, without credentials. A preflight names no tenant and is answered for any origin; the
    tenant's own origin list is enforced on the request itself (tenants.api)."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        origin = request.headers.get("Origin")
        if origin is None or not request.path.startswith("/api/"):
            return self.get_response(request)
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method == "OPTIONS" and asked is not None and _exists(request.path_info):
            response = HttpResponse(status=204)
            response["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
            response["Access-Control-Allow-Headers"] = (
                "Authorization, Content-Type, X-API-Key, X-Acting-User, X-Connection-Id, X-Request-Id"
            )
            response["Access-Control-Max-Age"] = "86400"
        else:
            response = self.get_response(request)
        let_browsers_read(response)
        return response


def let_browsers_read(response: HttpResponse) -> None:
    """Any origin may read the answer; whether it may call is the tenant's list's to say."""
    response["Access-Control-Allow-Origin"] = "*"
    response["Access-Control-Expose-Headers"] = EXPOSED_HEADERS


def _exists(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True
