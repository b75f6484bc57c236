"""Pages for those who run the service: alive, ready, metrics; and the demo page."""

import ipaddress
import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import jwt
import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from messagecore.kernel.api.envelope import plain_failure
from realtime.redis_clients import blocking_client
from tenants import feed, outbox
from tenants.api.authentication import bearer

REDIS_TIMEOUT_S = 1.0


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Alive: the process answers. Asks nobody else."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """503 without the database or with migrations missing; 200 `degraded` without Redis, since sends go on."""
    database = _database_answers()
    checks = {
        "database": "ok" if database else "failed",
        "migrations": "ok" if database and _is_migrated() else "failed",
        "redis": "ok" if _redis_answers() else "failed",
    }
    if "failed" in {checks["database"], checks["migrations"]}:
        return JsonResponse({"status": "unavailable", "checks": checks}, status=503)
    status = "ready" if checks["redis"] == "ok" else "degraded"
    return JsonResponse({"status": status, "checks": checks})


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


_migrated = False


def _is_migrated() -> bool:
    """Whether the public schema has every migration of this code. Once true it stays so: migrations only go on."""
    global _migrated  # noqa: PLW0603 - a process-wide fact
    if not _migrated:
        try:
            executor = MigrationExecutor(connection)
            _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError:
            return False
    return _migrated


def _redis_answers() -> bool:
    client = blocking_client(timeout_s=REDIS_TIMEOUT_S)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """What browsers ask for whether a page names it or not."""
    return redirect(static("demo/icon.svg"))


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics of the web processes on this port and of the queues: for METRICS_TOKEN's holder, or, where
    none is set, for this machine alone."""
    if not _may_read_metrics(request):
        return plain_failure("not_found")
    queues = CollectorRegistry()
    queues.register(_Queues())
    return HttpResponse(generate_latest(_process_metrics()) + generate_latest(queues), content_type=CONTENT_TYPE_LATEST)


class _Queues(Collector):
    """What waits outside of the processes, asked for at every scrape."""

    def collect(self) -> Iterator[Metric]:
        with suppress(DatabaseError):
            backlog = outbox.backlog()
            yield GaugeMetricFamily("messagecore_outbox_backlog", "Outbox rows that wait to be handled", value=backlog)
            unindexed = outbox.backlog(outbox.Mark.INDEXED)
            yield GaugeMetricFamily("messagecore_search_backlog", "Outbox rows that search waits for", value=unindexed)
            unnumbered = feed.backlog()
            yield GaugeMetricFamily(
                "messagecore_feed_backlog", "Outbox rows that wait for their place in a feed", value=unnumbered
            )
        waiting = _queue_length()
        if waiting is not None:
            tasks = GaugeMetricFamily("messagecore_task_queue_length", "Celery tasks waiting", labels=["queue"])
            tasks.add_metric([settings.CELERY_TASK_DEFAULT_QUEUE], waiting)
            yield tasks


def _process_metrics() -> CollectorRegistry:
    """This process's metrics, or the sum over the processes that share the port (messagecore.server)."""
    if settings.WEB_PROCESSES == 1:
        return PROCESS_REGISTRY
    together = CollectorRegistry()
    MultiProcessCollector(together)
    return together


def _queue_length() -> int | None:
    prefix = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]
    try:
        with redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=REDIS_TIMEOUT_S) as client:
            return int(client.llen(f"{prefix}{settings.CELERY_TASK_DEFAULT_QUEUE}"))
    except (redis.RedisError, ValueError):  # it does not answer, or it is not Redis (`amqp://`)
        return None


def _may_read_metrics(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        given = bearer(request.headers.get("Authorization")) or ""
        return secrets.compare_digest(given.encode(), settings.METRICS_TOKEN.encode())
    # A forwarded request came from elsewhere, whatever the peer's address says.
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


DEMO_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: http: https:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DEMO_TOKENS_LIVE = timedelta(days=1)


@require_safe
def demo(request: HttpRequest) -> HttpResponse:
    """The demo chat. Only where demo mode is on: it hands the demo users' tokens to whoever opens it."""
    account = _demo_account(timezone.now())
    if account is None:
        response = render(request, "demo/waiting.html", status=503)
        response["Retry-After"] = "3"
    else:
        response = render(request, "demo/chat.html", {"account": account})
    response["Content-Security-Policy"] = DEMO_POLICY
    response["Cache-Control"] = "no-store"
    return response


def _demo_account(now: datetime) -> dict[str, Any] | None:
    """What a browser may hold of demo.json, with fresh user tokens. None while the file is not there or not whole.

    The tokens are signed as an integrator's back end signs them, with the tenant's token secret: those in the file
    are as old as the last start.
    """
    try:
        written = json.loads((settings.HOME / "demo.json").read_text(encoding="utf-8"))
        times = {"iat": int(now.timestamp()), "exp": int((now + DEMO_TOKENS_LIVE).timestamp())}
        users = [
            {
                "id": user["id"],
                "externalUserId": user["externalUserId"],
                "displayName": user["displayName"],
                "token": jwt.encode(
                    {"iss": written["tenant"]["id"], "sub": user["externalUserId"], **times}, written["tokenSecret"]
                ),
            }
            for user in written["users"]
        ]
        return {**{name: written[name] for name in ("publishableKey", "conversationId", "tenant")}, "users": users}
    except (OSError, ValueError, KeyError, TypeError):
        return None
