"""`/health`, `/ready`, `/metrics`: what those who run the service can rely on."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client, override_settings

from messagecore import operations
from messagecore.kernel import catalogue
from tests.accounts import Account
from tests.api import fits

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _unknown_whether_migrated() -> Iterator[None]:
    operations._migrated = False
    yield
    operations._migrated = False


def ask(path: str, **headers: str) -> HttpResponse:
    return Client(raise_request_exception=False, headers=headers).get(path)


def test_health_asks_nobody() -> None:
    """No database is allowed here: it would fail."""
    response = ask("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["X-Request-Id"]


@pytest.mark.core
def test_ready_says_so(db: None) -> None:
    response = ask("/ready")
    assert (response.status_code, response.json()["status"]) == (200, "ready")
    assert set(response.json()["checks"].values()) == {"ok"}


def test_without_redis_it_is_degraded_and_ready(db: None) -> None:
    with override_settings(REDIS_URL=NOWHERE):
        response = ask("/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["checks"] == {"database": "ok", "migrations": "ok", "redis": "failed"}


def test_with_a_migration_missing_it_is_unavailable(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'quotas' AND name = '0002_plans'")
    response = ask("/ready")
    assert (response.status_code, response.json()["checks"]["migrations"]) == (503, "failed")


def test_without_a_database_it_is_unavailable(committed: None) -> None:
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = "no_such_database"
    try:
        response = ask("/ready")
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
    assert (response.status_code, response.json()["status"]) == (503, "unavailable")
    assert response.json()["checks"] == {"database": "failed", "migrations": "failed", "redis": "ok"}


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_nothing_can_be_posted_there(db: None, path: str) -> None:
    assert Client().post(path).status_code == 405


# --- metrics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "1.2.3.4"}, {"Forwarded": "for=1.2.3.4"}])
def test_metrics_are_not_open_to_the_world(db: None, headers: dict[str, str]) -> None:
    assert ask("/metrics").status_code == 200
    assert ask("/metrics", **headers).status_code == 404
    elsewhere = Client(REMOTE_ADDR="192.0.2.1").get("/metrics")
    assert elsewhere.status_code == 404
    fits("Failure", elsewhere.json())


def test_metrics_are_for_the_holder_of_the_token(db: None) -> None:
    with override_settings(METRICS_TOKEN="let-me-see"):
        assert ask("/metrics").status_code == 404
        assert ask("/metrics", Authorization="Bearer wrong").status_code == 404
        assert ask("/metrics", Authorization="Bearer let-me-see").status_code == 200


def test_metrics_count_and_name_nobody(tenant: Account) -> None:
    ada = tenant.user("ada-the-user")
    room = tenant.conversation(ada, externalId="the-room")
    tenant.message(room, ada)
    tenant.api.get("/users/nobody-at-all").refuses(404, "user_not_found")
    text = ask("/metrics").content.decode()
    for needed in (
        "messagecore_http_requests_total",
        "messagecore_http_request_seconds_bucket",
        "messagecore_messages_sent_total",
        "messagecore_deliveries_total",
        "messagecore_socket_connections",
        "messagecore_send_queue_length",
        "messagecore_commit_pool_busy",
        "messagecore_send_batch_size",
        "messagecore_outbox_backlog",
    ):
        assert needed in text
    assert 'route="api/v1/users/<id:userId>",status="404"' in text
    for word in (
        str(tenant.id),
        tenant.schema_name,
        "standing",
        ada["id"],
        "ada-the-user",
        "the-room",
        "nobody-at-all",
    ):
        assert word not in text


def test_made_up_methods_and_paths_make_no_metrics(db: None) -> None:
    client: Any = Client(raise_request_exception=False)
    for number in range(5):
        client.generic(f"METHOD{number}", f"/api/v1/nowhere/{number}")
    text = ask("/metrics").content.decode()
    assert 'method="other",route="unmatched"' in text
    assert "METHOD" not in text
    assert "nowhere" not in text


def test_an_unknown_page_outside_the_api_is_a_page(db: None) -> None:
    response = ask("/nowhere")
    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.logs_errors
def test_a_fault_of_ours_tells_the_request_id_and_nothing_else(
    tenant: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("postgresql://user:password@host")

    monkeypatch.setattr("messaging.queries.users.list_users", fail)
    response = Client(raise_request_exception=False, headers=tenant.api.headers).get("/api/v1/users")
    assert response.status_code == 500
    fits("Failure", response.json())
    error = response.json()["error"]
    assert (error["code"], error["message"], error["details"]) == (
        "internal_error",
        catalogue.error("internal_error").title,
        {},
    )
    assert error["requestId"] == response.headers["X-Request-Id"]
    assert "password" not in response.content.decode()
    (record,) = (record for record in caplog.records if record.name == "messagecore.kernel.api.envelope")
    assert record.exc_info is not None
