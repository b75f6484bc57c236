"""The platform's routes: tenants, plans, figures, for staff and their scripts alone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging.models import User
from quotas.services import accounts
from quotas.services.accounts import PlanNotFound
from tenants import secrets
from tenants.models import ApiKey, KeyKind, PlatformToken, Tenant
from tenants.scope import tenant_scope
from tenants.services.authentication import forget_cached_credentials
from tenants.services.keys import create_platform_token, revoke_platform_token
from tests.accounts import Account, draft, platform_api
from tests.api import Answer, Api
from tests.snapshots import contents

NEW = {"name": "金色商城", "subdomain": "gold-mall", "planType": "pro"}


def create(platform: Api, **changes: Any) -> Answer:
    return platform.post("/admin/tenants", NEW | changes)


@pytest.mark.core
def test_a_tenant_is_made_and_works_at_once(platform: Api) -> None:
    answer = create(platform)
    assert answer.status == 201
    made = answer.data
    assert (made["name"], made["subdomain"], made["status"], made["planType"]) == (
        "金色商城",
        "gold-mall",
        "active",
        "pro",
    )
    assert made["settings"]["maxMessages"] == 100_000
    api = Api({"X-API-Key": made["apiKey"], "Host": "gold-mall.localhost"})
    account = Account(Tenant.objects.get(pk=made["id"]), made["apiKey"], made["publishableKey"], made["tokenSecret"])
    ada = account.user("ada")
    room = account.conversation(ada)
    assert account.user_api(ada).post("/messages/send", draft(room, None)).status == 200
    assert api.get("/users").data[0]["id"] == ada["id"]


@pytest.mark.core
def test_credentials_are_shown_this_once(platform: Api) -> None:
    made = create(platform).data
    for name in (made["id"], "gold-mall"):
        read = platform.get(f"/admin/tenants/{name}")
        assert read.data["apiKey"] == made["apiKey"][:12] + "…"
        for secret in ("apiKey", "publishableKey", "tokenSecret"):
            assert made[secret] not in str(read.body)
    listed = platform.get("/admin/tenants", {"search": "gold"})
    assert made["apiKey"] not in str(listed.body)


def test_the_masked_key_is_the_newest_that_works(platform: Api, tenant: Account) -> None:
    def shown() -> str | None:
        masked: str | None = platform.get(f"/admin/tenants/{tenant.id}").data["apiKey"]
        return masked

    second = tenant.key()
    tenant.key(kind=KeyKind.PUBLISHABLE)
    tenant.key(expires_at=timezone.now() - timedelta(days=1))
    assert shown() == second[:12] + "…"
    ApiKey.objects.filter(prefix=second[:12]).update(revoked_at=timezone.now())
    assert shown() == tenant.secret_key[:12] + "…"
    ApiKey.objects.filter(tenant_id=tenant.id).update(revoked_at=timezone.now())
    assert shown() is None


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "taken": ({"subdomain": "standing"}, 409, "subdomain_taken"),
    "reserved": ({"subdomain": "admin"}, 409, "subdomain_taken"),
    "punycode": ({"subdomain": "xn--a"}, 409, "subdomain_taken"),
    "upper case": ({"subdomain": "Gold"}, 422, "validation_failed"),
    "two labels": ({"subdomain": "a.b"}, 422, "validation_failed"),
    "edge hyphen": ({"subdomain": "-a"}, 422, "validation_failed"),
    "line break": ({"subdomain": "a\n"}, 422, "validation_failed"),
    "too long": ({"subdomain": "a" * 64}, 422, "validation_failed"),
    "empty": ({"subdomain": ""}, 422, "validation_failed"),
    "no plan of that name": ({"planType": "gold"}, 422, "plan_not_found"),
    "name too long": ({"name": "x" * 256}, 422, "validation_failed"),
    "name empty": ({"name": ""}, 422, "validation_failed"),
    "unknown field": ({"colour": "red"}, 422, "validation_failed"),
}


@pytest.mark.parametrize(("changes", "status", "code"), WRONG.values(), ids=WRONG.keys())
def test_a_sign_up_that_is_refused_makes_nothing(
    platform: Api, tenant: Account, changes: Any, status: int, code: str
) -> None:
    before = contents(tenant), Tenant.objects.count()
    create(platform, **changes).refuses(status, code)
    assert (contents(tenant), Tenant.objects.count()) == before


def test_names_and_subdomains_may_be_as_long_as_it_is_said(platform: Api) -> None:
    made = create(platform, name="名" * 255, subdomain="a" * 63).data
    assert platform.get(f"/admin/tenants/{made['id']}").data["name"] == "名" * 255


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_the_list_is_newest_first_and_misses_nothing(platform: Api, limit: int) -> None:
    made = [create(platform, subdomain=f"gold-{number}").data["id"] for number in range(4)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        answer = platform.get("/admin/tenants", query)
        found += [tenant["id"] for tenant in answer.data]
        if answer.pagination["nextCursor"] is None:
            break
        query["cursor"] = answer.pagination["nextCursor"]
    assert found[:4] == made[::-1]
    assert len(found) == len(set(found)) == Tenant.objects.count()


def test_the_list_can_be_searched_and_filtered(platform: Api) -> None:
    made = create(platform).data
    platform.post(f"/admin/tenants/{made['id']}/suspend")

    def names(**query: str) -> list[str]:
        return [tenant["subdomain"] for tenant in platform.get("/admin/tenants", query).data]

    assert names(search="商城") == ["gold-mall"]
    assert names(search="GOLD-M") == ["gold-mall"]
    assert names(search="%") == []
    assert names(status="suspended") == ["gold-mall"]
    assert "gold-mall" not in names(status="active")
    platform.get("/admin/tenants", {"status": "sleeping"}).refuses(422, "validation_failed", "/status")


@pytest.mark.core
def test_a_tenant_is_read_with_its_users_and_last_ten_conversations(platform: Api, tenant: Account) -> None:
    ada = tenant.user("ada", email="ada@example.com")
    rooms = [tenant.conversation(ada) for _ in range(12)]
    tenant.message(rooms[0], ada)
    read = platform.get(f"/admin/tenants/{tenant.id}").data
    assert [(user["externalUserId"], user["email"]) for user in read["users"]] == [("ada", "ada@example.com")]
    shown = [room["id"] for room in read["conversations"]]
    assert len(shown) == 10
    assert shown[:2] == [rooms[0]["id"], rooms[11]["id"]]
    assert read["conversations"][0]["lastMessage"]["content"] == {"text": "hello"}


def test_of_many_users_the_newest_100_are_shown(platform: Api, tenant: Account) -> None:
    platform.patch(f"/admin/tenants/{tenant.id}", {"planType": "pro"})
    old = tenant.user("old")
    tenant.users(99)
    new = tenant.user("new")
    shown = [user["id"] for user in platform.get(f"/admin/tenants/{tenant.id}").data["users"]]
    assert len(shown) == 100
    assert shown[0] == new["id"]
    assert old["id"] not in shown


def test_a_tenant_is_changed_in_part(platform: Api, tenant: Account) -> None:
    path = f"/admin/tenants/{tenant.id}"
    before = platform.get(path).data
    changed = platform.patch(
        path, {"name": "New", "settings": {"maxUsers": 5, "allowedOrigins": ["https://a.example"]}}
    )
    assert (changed.data["name"], changed.data["planType"]) == ("New", "basic")
    assert changed.data["settings"] == before["settings"] | {"maxUsers": 5, "allowedOrigins": ["https://a.example"]}
    nulls = {"name": None, "planType": None, "settings": None}
    assert platform.patch(path, nulls).data["settings"]["maxUsers"] == 5
    back = platform.patch(path, {"settings": {"maxUsers": None, "allowedOrigins": None}})
    assert back.data["settings"] == before["settings"]
    assert platform.patch(path, {"planType": "enterprise"}).data["settings"]["maxUsers"] == 10_000


def test_a_change_that_is_refused_changes_nothing(platform: Api, tenant: Account) -> None:
    path = f"/admin/tenants/{tenant.id}"
    before = contents(tenant)
    platform.patch(path, {"name": "New", "planType": "gold"}).refuses(422, "plan_not_found")
    platform.patch(path, {"settings": {"maxUsers": -1}}).refuses(422, "validation_failed", "/settings/maxUsers")
    platform.patch(path, {"settings": {"maxFun": 1}}).refuses(422, "validation_failed", "/settings/maxFun")
    wrong = {"settings": {"allowedOrigins": ["https://a.example/path"]}}
    platform.patch(path, wrong).refuses(422, "validation_failed", "/settings/allowedOrigins/0")
    assert contents(tenant) == before


def test_a_name_and_a_limit_change_together_or_not_at_all(
    platform: Api, tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**fields: Any) -> None:
        raise PlanNotFound

    monkeypatch.setattr(accounts, "update_tenant", refuse)
    before = contents(tenant)
    body = {"name": "New", "settings": {"maxUsers": 5}}
    platform.patch(f"/admin/tenants/{tenant.id}", body).refuses(422, "plan_not_found")
    assert contents(tenant) == before


# --- a tenant's life ------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_suspended_tenant_stands_still_and_wakes_again(
    platform: Api, tenant: Account, seconds_pass: Callable[[float], None]
) -> None:
    ada = tenant.user("ada")
    room = tenant.conversation(ada)
    browser = tenant.user_api(ada)
    assert browser.get("/conversations").status == 200
    assert platform.post(f"/admin/tenants/{tenant.id}/suspend").data["status"] == "suspended"
    seconds_pass(5)
    before = contents(tenant)
    for caller in (tenant.api, browser):
        caller.get("/conversations").refuses(403, "tenant_inactive")
        caller.post("/messages/send", draft(room, None)).refuses(403, "tenant_inactive")
    assert contents(tenant) == before
    assert platform.post(f"/admin/tenants/{tenant.id}/suspend").status == 200, "asking twice changes nothing"
    assert platform.get(f"/admin/tenants/{tenant.id}").data["conversations"][0]["id"] == room["id"], "staff still look"
    assert platform.post(f"/admin/tenants/{tenant.id}/reactivate").data["status"] == "active"
    seconds_pass(5)
    assert browser.post("/messages/send", draft(room, None)).status == 200


def test_a_closed_tenant_stays_closed(platform: Api, tenant: Account) -> None:
    assert platform.post(f"/admin/tenants/{tenant.id}/close").data["status"] == "closed"
    before = contents(tenant)
    platform.post(f"/admin/tenants/{tenant.id}/reactivate").refuses(409, "conflict")
    platform.post(f"/admin/tenants/{tenant.id}/suspend").refuses(409, "conflict")
    assert contents(tenant) == before
    tenant.api.get("/users").refuses(403, "tenant_inactive")


@pytest.mark.parametrize("name", ["019a2f53-b8f0-7d26-b3a9-1e5c7d904f62", "nowhere", "😀", "STANDING"])
def test_an_unknown_tenant_is_not_found(platform: Api, tenant: Account, name: str) -> None:
    for answer in (
        platform.get(f"/admin/tenants/{name}"),
        platform.patch(f"/admin/tenants/{name}", {}),
        platform.post(f"/admin/tenants/{name}/suspend"),
        platform.post(f"/admin/tenants/{name}/reactivate"),
        platform.post(f"/admin/tenants/{name}/close"),
        platform.get(f"/admin/tenants/{name}/usage"),
    ):
        answer.refuses(404, "tenant_not_found")


# --- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_staff_see_the_usage_that_the_tenant_sees(platform: Api, tenant: Account) -> None:
    ada = tenant.user()
    tenant.messages(tenant.conversation(ada), ada, 2)
    assert platform.get(f"/admin/tenants/{tenant.id}/usage").data == tenant.api.get("/usage").data


def test_plans_are_listed_in_order(platform: Api, tenant: Account) -> None:
    plans = platform.get("/admin/plans").data
    assert [(plan["planType"], plan["maxUsers"], plan["maxMessages"], plan["retentionDays"]) for plan in plans] == [
        ("basic", 100, 10_000, 30),
        ("pro", 1_000, 100_000, 90),
        ("enterprise", 10_000, 1_000_000, 365),
    ]


@pytest.mark.core
def test_the_figures_of_today(platform: Api, tenant: Account, other_tenant: Account) -> None:
    before = platform.get("/admin/stats").data
    ada, bob = tenant.user(), tenant.user()
    room = tenant.conversation(ada, bob)
    tenant.messages(room, ada, 2)
    carol = other_tenant.user()
    other_tenant.message(other_tenant.conversation(carol), carol)
    after = platform.get("/admin/stats").data
    assert {name: after[name] - before[name] for name in after} == {
        "totalTenants": 0,
        "activeUsers": 3,
        "dailyActiveUsers": 2,
        "todayMessages": 3,
        "connections": 0,
    }
    with tenant_scope(tenant):
        assert User.objects.count() == 2


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_only_a_platform_token_opens_the_platform(tenant: Account) -> None:
    ada = tenant.user("ada")
    Api().get("/admin/tenants").refuses(401, "platform_token_required")
    tenant.api.get("/admin/tenants").refuses(401, "platform_token_required")
    for token in (
        "x",
        tenant.secret_key,
        tenant.publishable_key,
        tenant.token_secret,
        tenant.token("ada"),
        secrets.new_credential("mc_pt_"),
        "mc_pt_" + "0" * 38,
        "a\0b",
    ):
        Api({"Authorization": f"Bearer {token}"}).get("/admin/tenants").refuses(401, "invalid_platform_token")
    tenant.user_api(ada).get("/admin/stats").refuses(401, "invalid_platform_token")


def test_a_platform_token_opens_no_tenant(platform: Api, tenant: Account) -> None:
    platform.get("/users").refuses(401, "api_key_required")
    token = platform.headers["Authorization"].removeprefix("Bearer ")
    Api({"X-API-Key": token}).get("/users").refuses(401, "invalid_api_key")
    Api({"X-API-Key": tenant.secret_key, **platform.headers}).get("/users").refuses(401, "invalid_token")


def test_scopes_bound_a_token(db: None, tenant: Account) -> None:
    reader = platform_api(["tenants:read"])
    assert reader.get("/admin/tenants").status == 200
    answer = reader.post(f"/admin/tenants/{tenant.id}/suspend")
    answer.refuses(403, "scope_missing")
    assert answer.error["details"]["scope"] == "tenants:write"
    reader.get("/admin/stats").refuses(403, "scope_missing")
    reader.get("/admin/plans").refuses(403, "scope_missing")
    assert Tenant.objects.get(pk=tenant.id).status == "active"


def test_a_token_ends_when_it_expires_or_is_revoked(tenant: Account, seconds_pass: Callable[[float], None]) -> None:
    expired = create_platform_token(name="old", expires_at=timezone.now() - timedelta(seconds=1)).value
    Api({"Authorization": f"Bearer {expired}"}).get("/admin/plans").refuses(401, "invalid_platform_token")
    platform = platform_api()
    assert platform.get("/admin/plans").status == 200
    row = PlatformToken.objects.get(prefix=platform.headers["Authorization"].removeprefix("Bearer ")[:12])
    revoke_platform_token(token=row, now=timezone.now())
    seconds_pass(5)
    platform.get("/admin/plans").refuses(401, "invalid_platform_token")


def test_a_new_token_works_at_once_after_a_wrong_try(platform: Api) -> None:
    forget_cached_credentials()
    assert platform.get("/admin/plans").status == 200
