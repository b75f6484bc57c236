"""The feed comes to an installation whose outbox has rows: they stay, and are numbered in their order."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tenants import feed
from tenants.models import OutboxEvent
from tests.accounts import Account

BEFORE, FIELD, AFTER = "0004_storage_removals", "0005_feed", "0006_feed_indexes"
INDEXES = {"outbox_unnumbered", "outbox_unlogged", "outbox_feed_seq"}


def migrate(name: str) -> None:
    executor = MigrationExecutor(connection)
    executor.migrate([("tenants", name)])


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'public.tenants_outboxevent'::regclass "
            "AND indisvalid"
        )
        return {row[0] for row in cursor.fetchall()}


@pytest.fixture
def _forward_again(committed: None) -> Iterator[None]:
    yield
    migrate(AFTER)


@pytest.mark.usefixtures("_forward_again")
def test_rows_from_before_are_kept_and_numbered(committed_tenant: Account) -> None:
    (user,) = committed_tenant.users(1)
    room = committed_tenant.conversation(user)
    committed_tenant.messages(room, user, 5)
    rows = OutboxEvent.objects.filter(tenant_id=committed_tenant.id).order_by("id")
    ids = list(rows.values_list("id", flat=True))
    migrate(BEFORE)
    assert not INDEXES & indexes()
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM tenants_outboxevent WHERE tenant_id = %s ORDER BY id", [committed_tenant.id])
        assert [row[0] for row in cursor.fetchall()] == ids
    migrate(FIELD)
    with connection.cursor() as cursor:  # what an attempt that was interrupted leaves behind
        cursor.execute("CREATE INDEX outbox_unnumbered ON public.tenants_outboxevent (tenant_id, id)")
    migrate(AFTER)
    assert indexes() >= INDEXES
    assert list(rows.values_list("id", "feed_seq")) == [(id_, None) for id_ in ids]
    assert feed.number(committed_tenant.id) == 5
    assert list(rows.values_list("id", "feed_seq")) == [(ids[0], None), *zip(ids[1:], range(1, 6), strict=True)]
    messages = [item["data"]["message"]["content"]["text"] for item in committed_tenant.api.get("/events").data]
    assert messages == [f"message {number}" for number in range(1, 6)]
