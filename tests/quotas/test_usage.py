"""Usage as it is shown, and its mirror in Redis."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis
from django.conf import settings
from django.utils import timezone

from quotas.models import MonthlyUsage
from quotas.services import limits
from quotas.services.accounts import change_plan
from quotas.services.usage import mirror_usage
from quotas.tasks import mirror_usage as mirror_task
from tests.accounts import Account
from tests.api import Api


@pytest.fixture
def store() -> Iterator["redis.Redis[bytes]"]:
    """This worker's Redis, empty."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def test_usage_is_set_against_the_plan(tenant: Account, api: Api) -> None:
    ada = tenant.user()
    tenant.messages(tenant.conversation(ada), ada, 3)
    now = datetime.now(UTC)
    usage = api.get("/usage").data
    assert usage["users"] == {"current": 1, "limit": 100, "percentage": 1.0}
    assert {name: usage["messages"][name] for name in ("current", "limit", "percentage", "month")} == {
        "current": 3,
        "limit": 10_000,
        "percentage": 0.03,
        "month": f"{now:%Y-%m}",
    }
    assert usage["storage"]["current"] == 0
    assert usage["connections"]["current"] == 0


@pytest.mark.parametrize(
    ("plan", "users", "messages"), [("basic", 100, 10_000), ("pro", 1_000, 100_000), ("enterprise", 10_000, 1_000_000)]
)
@pytest.mark.core
def test_the_plans_are_the_contracts(tenant: Account, api: Api, plan: str, users: int, messages: int) -> None:
    change_plan(tenant=tenant.tenant, plan_type=plan)
    usage = api.get("/usage").data
    assert (usage["users"]["limit"], usage["messages"]["limit"]) == (users, messages)


def test_a_limit_of_nothing_is_used_up(tenant: Account, api: Api) -> None:
    change_plan(tenant=tenant.tenant, overrides={"max_messages": 0})
    assert api.get("/usage").data["messages"]["percentage"] == 100.0


# --- the mirror -----------------------------------------------------------------------------------------------------


def mirrored(store: "redis.Redis[bytes]", account: Account) -> int | None:
    value = store.get(f"quota:messages:{account.id}:{datetime.now(UTC):%Y-%m}")
    return None if value is None else int(value)


def send(account: Account, count: int) -> None:
    user = account.user()
    account.messages(account.conversation(user), user, count)


@pytest.mark.core
def test_the_mirror_follows_and_lives_32_days(tenant: Account, store: "redis.Redis[bytes]") -> None:
    send(tenant, 2)
    mirror_task()
    assert mirrored(store, tenant) == 2
    key = f"quota:messages:{tenant.id}:{datetime.now(UTC):%Y-%m}"
    assert 32 * 86_400 - 60 < store.ttl(key) <= 32 * 86_400
    send(tenant, 1)
    mirror_task()
    assert mirrored(store, tenant) == 3


@pytest.mark.core
def test_a_flushed_redis_is_right_again_after_the_next_run(
    tenant: Account, other_tenant: Account, store: "redis.Redis[bytes]"
) -> None:
    send(tenant, 2)
    send(other_tenant, 1)
    mirror_task()
    MonthlyUsage.objects.update(updated_at=timezone.now() - timedelta(hours=3))
    store.flushdb()
    send(tenant, 1)
    assert mirrored(store, tenant) is None
    mirror_task()
    assert (mirrored(store, tenant), mirrored(store, other_tenant)) == (3, 1)


def test_what_changed_while_nobody_mirrored_is_mirrored_afterwards(
    tenant: Account, store: "redis.Redis[bytes]"
) -> None:
    """The worker stood still for ten minutes; a tenant sent in the first of them and never again."""
    now = timezone.now()
    mirror_usage(now=now - timedelta(minutes=10))
    send(tenant, 4)
    MonthlyUsage.objects.filter(tenant_id=tenant.id).update(updated_at=now - timedelta(minutes=9))
    mirror_usage(now=now)
    assert mirrored(store, tenant) == 4


def test_a_run_writes_what_changed_alone(tenant: Account, other_tenant: Account, store: "redis.Redis[bytes]") -> None:
    send(tenant, 1)
    send(other_tenant, 1)
    now = timezone.now()
    assert mirror_usage(now=now) == 2
    MonthlyUsage.objects.update(updated_at=now - timedelta(hours=1))
    assert mirror_usage(now=now + timedelta(seconds=2)) == 0
    send(tenant, 1)
    assert mirror_usage(now=timezone.now() + timedelta(seconds=4)) == 1


def test_nobody_asks_the_mirror_for_permission(tenant: Account, store: "redis.Redis[bytes]") -> None:
    store.set(f"quota:messages:{tenant.id}:{datetime.now(UTC):%Y-%m}", 10**9)
    send(tenant, 1)
    assert tenant.api.get("/usage").data["messages"]["current"] == 1


def test_limits_change_within_5_seconds(tenant: Account, api: Api) -> None:
    assert limits.CACHE_SECONDS <= 5
    assert limits.get_limits(tenant.id).max_messages == 10_000
    change_plan(tenant=tenant.tenant, plan_type="pro")
    assert limits.read_limits(tenant.id).max_messages == 100_000
