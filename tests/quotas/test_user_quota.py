"""Active users: exact under any concurrency, all of a batch or none."""

from collections import Counter

import pytest

from messaging.models import User
from quotas.models import StandingUsage
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Api
from tests.snapshots import contents
from tests.threads import times

pytestmark = pytest.mark.core


def allow(account: Account, users: int) -> None:
    change_plan(tenant=account.tenant, overrides={"max_users": users})
    forget_cached_limits()


def test_beyond_the_limit_nobody_is_made(tenant: Account, api: Api) -> None:
    allow(tenant, 2)
    tenant.user("ada")
    tenant.user("bob")
    before = contents(tenant)
    answer = api.post("/users", {"externalUserId": "eve"})
    answer.refuses(429, "user_quota_exceeded")
    assert answer.error["retryable"] is False
    assert contents(tenant) == before
    assert api.post("/users", {"externalUserId": "ada", "displayName": "A"}).status == 200, "who is there may change"


def test_a_batch_is_all_or_none(tenant: Account, api: Api) -> None:
    allow(tenant, 3)
    tenant.user("ada")
    before = contents(tenant)
    names = ["ada", "bob", "cat", "dan"]
    batch = {"users": [{"externalUserId": name, "displayName": "x"} for name in names]}
    api.post("/users/batch", batch).refuses(429, "user_quota_exceeded")
    assert contents(tenant) == before
    batch["users"].pop()
    assert api.post("/users/batch", batch).status == 200, "those who are there are not counted again"


@pytest.mark.parametrize("left", [0, 1, 13])
def test_many_at_once_get_exactly_what_is_left(committed_tenant: Account, left: int) -> None:
    committed_tenant.user("ada")
    allow(committed_tenant, 1 + left)
    api = committed_tenant.api
    answers = times(20, lambda number: api.post("/users", {"externalUserId": f"user {number}"}))
    assert Counter(answer.status for answer in answers) == Counter({201: left, 429: 20 - left})
    with tenant_scope(committed_tenant):
        assert User.objects.count() == 1 + left
    assert StandingUsage.objects.get(tenant_id=committed_tenant.id).active_users == 1 + left


def test_batches_at_once_are_each_all_or_none(committed_tenant: Account) -> None:
    allow(committed_tenant, 25)
    api = committed_tenant.api
    batches = [{"users": [{"externalUserId": f"{number}-{place}"} for place in range(10)]} for number in range(4)]
    answers = times(4, lambda number: api.post("/users/batch", batches[number]))
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429]
    assert api.get("/usage").data["users"] == {"current": 20, "limit": 25, "percentage": 80.0}
