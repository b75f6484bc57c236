"""API keys: which are taken, from where, for what, and how soon they end."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from tenants import secrets
from tenants.models import ApiKey, Domain, KeyKind
from tenants.services.authentication import InvalidApiKey, authenticate_key
from tenants.services.keys import revoke_api_key
from tests.accounts import Account, draft
from tests.api import Api

EVERYWHERE_WITHIN_S = 5.0


def with_key(key: str, **headers: str) -> Api:
    return Api({"X-API-Key": key}).with_headers(**headers)


@pytest.mark.core
def test_without_a_key_nothing_goes(db: None) -> None:
    Api().get("/users").refuses(401, "api_key_required")
    Api({"X-API-Key": ""}).get("/users").refuses(401, "api_key_required")
    Api({"Authorization": "Bearer x"}).get("/users").refuses(401, "api_key_required")


@pytest.mark.core
@pytest.mark.parametrize(
    "key",
    [
        "x",
        "mc_sk_",
        "mc_sk_" + "0" * 38,
        secrets.new_credential("mc_sk_"),
        secrets.new_credential("mc_pk_"),
        secrets.new_credential("mc_pt_"),
        secrets.new_credential("mc_ts_"),
        "mc_sk_" + "é" * 38,
        "a\0b",
        "x" * 10_000,
    ],
    ids=lambda key: f"{len(key)} characters from {key[:6]!a}",  # new credentials differ from process to process
)
def test_a_wrong_key_is_refused(tenant: Account, key: str) -> None:
    with_key(key).get("/users").refuses(401, "invalid_api_key")


def test_a_key_with_one_character_changed_is_refused(tenant: Account) -> None:
    for place in (6, 20, 37, 43):
        letter = "A" if tenant.secret_key[place] != "A" else "B"
        key = tenant.secret_key[:place] + letter + tenant.secret_key[place + 1 :]
        with_key(key).get("/users").refuses(401, "invalid_api_key")


def test_a_made_up_key_costs_no_look_up(tenant: Account, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        with_key("mc_sk_" + "0" * 38).get("/users").refuses(401, "invalid_api_key")


def test_only_a_hash_and_a_prefix_are_stored(tenant: Account) -> None:
    for key in (tenant.secret_key, tenant.publishable_key):
        row = ApiKey.objects.get(tenant_id=tenant.id, prefix=key[:12])
        stored = repr([getattr(row, field.name) for field in row._meta.fields])
        assert key not in stored
        assert key[12:] not in stored
        assert len(row.digest) == 32


def test_a_revoked_key_ends_within_5_seconds(tenant: Account, seconds_pass: Callable[[float], None]) -> None:
    key = tenant.key()
    assert with_key(key).get("/users").status == 200
    row = ApiKey.objects.get(prefix=key[:12])
    revoke_api_key(key=row, now=timezone.now())
    seconds_pass(EVERYWHERE_WITHIN_S)
    with_key(key).get("/users").refuses(401, "invalid_api_key")
    assert tenant.api.get("/users").status == 200, "the others go on"


def test_a_key_is_read_once_while_it_is_remembered(
    tenant: Account, seconds_pass: Callable[[float], None], django_assert_num_queries: Any
) -> None:
    api = tenant.api
    api.get("/users")
    with django_assert_num_queries(0):
        api.request("POST", "/messages/send", body={}).refuses(422, "validation_failed")
    seconds_pass(EVERYWHERE_WITHIN_S)
    with django_assert_num_queries(2):  # the key with its tenant, the host; last_used_at is a minute's business
        api.request("POST", "/messages/send", body={}).refuses(422, "validation_failed")


def test_an_expired_key_is_refused_though_it_is_remembered(tenant: Account) -> None:
    now = timezone.now()
    key = tenant.key(expires_at=now + timedelta(seconds=60))
    assert with_key(key).get("/users").status == 200
    here = {"host": "localhost", "address": None, "origin": None}
    assert authenticate_key(key, now=now + timedelta(seconds=59), **here).tenant.id == tenant.id
    with pytest.raises(InvalidApiKey):
        authenticate_key(key, now=now + timedelta(seconds=60), **here)


def test_an_expired_key_is_refused(tenant: Account) -> None:
    key = tenant.key(expires_at=timezone.now() - timedelta(seconds=1))
    with_key(key).get("/users").refuses(401, "invalid_api_key")


def test_a_new_key_works_at_once(tenant: Account) -> None:
    assert with_key(tenant.key()).get("/users").status == 200


def test_last_use_is_noted(tenant: Account) -> None:
    key = tenant.key()
    with_key(key).get("/users")
    assert ApiKey.objects.get(prefix=key[:12]).last_used_at is not None


# --- what for -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scopes", [[], ["*"], ["users:read"], ["users:*"], ["messages:write", "users:read"]])
def test_a_scope_lets_through(tenant: Account, scopes: list[str]) -> None:
    assert with_key(tenant.key(scopes=scopes)).get("/users").status == 200


@pytest.mark.parametrize("scopes", [["users:write"], ["messages:*"], ["user:read"], ["users:rea"], ["users"]])
def test_a_missing_scope_is_named(tenant: Account, scopes: list[str]) -> None:
    answer = with_key(tenant.key(scopes=scopes)).get("/users")
    answer.refuses(403, "scope_missing")
    assert answer.error["details"]["scope"] == "users:read"


def test_a_scope_is_asked_before_anything_is_looked_up(tenant: Account) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    reader = with_key(tenant.key(scopes=["messages:read"]))
    reader.post("/messages/send", draft(room, ada)).refuses(403, "scope_missing")
    assert reader.get(f"/messages/conversations/{room['id']}").data["messages"] == []


# --- from where -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["10.1.2.3", "192.0.2.7", "2001:db8::5", "::ffff:10.1.2.3"])
def test_an_allowed_address_is_let_in(tenant: Account, address: str) -> None:
    key = tenant.key(allowed_networks=["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
    assert with_key(key).from_address(address).get("/users").status == 200


@pytest.mark.parametrize("address", ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::1", "", "unix:", "::ffff:11.0.0.1"])
def test_another_address_is_refused_as_if_the_key_did_not_exist(tenant: Account, address: str) -> None:
    key = tenant.key(allowed_networks=["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
    with_key(key).from_address(address).get("/users").refuses(401, "invalid_api_key")


def test_a_forwarded_address_is_believed_from_our_own_proxies_alone(tenant: Account) -> None:
    caller = with_key(tenant.key(allowed_networks=["10.0.0.0/8"])).from_address("192.0.2.1")
    caller.with_headers(X_Forwarded_For="10.0.0.1").get("/users").refuses(401, "invalid_api_key")
    with override_settings(TRUSTED_PROXIES=1):
        assert caller.with_headers(X_Forwarded_For="10.0.0.1").get("/users").status == 200
        assert caller.with_headers(X_Forwarded_For="1.2.3.4, 10.0.0.1").get("/users").status == 200
        spoofed = caller.with_headers(X_Forwarded_For="10.0.0.1, 1.2.3.4")
        spoofed.get("/users").refuses(401, "invalid_api_key")
        caller.with_headers(X_Forwarded_For="nonsense").get("/users").refuses(401, "invalid_api_key")
    with override_settings(TRUSTED_PROXIES=2):
        assert caller.with_headers(X_Forwarded_For="10.0.0.1, 1.2.3.4").get("/users").status == 200


def test_a_key_works_on_its_own_host_and_on_the_platforms(tenant: Account) -> None:
    for host in ("standing.localhost", "STANDING.localhost:8000", "standing.localhost.", "localhost", "127.0.0.1:80"):
        assert tenant.api.with_headers(Host=host).get("/users").status == 200, host


def test_a_key_is_refused_on_another_tenants_host(tenant: Account, other_tenant: Account) -> None:
    Domain.objects.create(tenant=other_tenant.tenant, domain="chat.example.com", is_primary=False)
    for host in ("other.localhost", "Other.Localhost:8000", "other.localhost.", "chat.example.com", "[::1]:80"):
        answer = tenant.api.with_headers(Host=host).get("/users")
        if host.startswith("["):
            assert answer.status == 200
        else:
            answer.refuses(401, "invalid_api_key")
        publishable = with_key(tenant.publishable_key, Host=host).get("/users")
        assert publishable.status == 401


def test_a_publishable_key_needs_a_token(tenant: Account) -> None:
    with_key(tenant.publishable_key).get("/users").refuses(401, "token_required")
    for header in ("", "Bearer", "Bearer ", "Basic abc", "Token x"):
        with_key(tenant.publishable_key, Authorization=header).get("/users").refuses(401, "token_required")


def test_kinds_are_told_apart_by_the_database_not_by_the_prefix(tenant: Account) -> None:
    key = tenant.key(kind=KeyKind.PUBLISHABLE)
    ApiKey.objects.filter(prefix=key[:12]).update(kind=KeyKind.SECRET)
    assert with_key(key).get("/users").status == 200
