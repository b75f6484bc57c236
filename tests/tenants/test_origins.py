"""CORS and the tenant's list of origins; request ids."""

import pytest

from tenants.models import Tenant
from tenants.services.authentication import forget_cached_credentials
from tests.accounts import Account, draft
from tests.api import Api
from tests.snapshots import contents

SHOP = "https://shop.example.com"


@pytest.fixture
def listed(tenant: Account) -> Account:
    Tenant.objects.filter(pk=tenant.id).update(allowed_origins=[SHOP, "http://localhost:3000"])
    forget_cached_credentials()
    return tenant


@pytest.mark.parametrize("origin", [SHOP, "https://evil.example", "null"])
@pytest.mark.parametrize("path", ["/messages/send", "/users/ada/tokens", "/admin/tenants"])
def test_a_preflight_is_answered_for_any_origin_without_credentials(listed: Account, origin: str, path: str) -> None:
    answer = Api({"Origin": origin, "Access-Control-Request-Method": "POST"}).request("OPTIONS", path)
    assert (answer.status, answer.body) == (204, None)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert {"POST", "PATCH", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    allowed = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(", ")}
    assert {"authorization", "content-type", "x-api-key", "x-acting-user", "x-request-id"} <= allowed


def test_a_preflight_of_nothing_is_not_found(db: None) -> None:
    caller = Api({"Origin": SHOP, "Access-Control-Request-Method": "POST"})
    caller.request("OPTIONS", "/nope").refuses(404, "not_found")


def test_a_tenant_without_a_list_lets_every_origin_in(tenant: Account) -> None:
    answer = tenant.api.with_headers(Origin="https://anywhere.example").get("/users")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("origin", [SHOP, "http://localhost:3000", None])
def test_a_listed_origin_is_let_in_and_so_is_none(listed: Account, origin: str | None) -> None:
    caller = listed.api if origin is None else listed.api.with_headers(Origin=origin)
    assert caller.get("/users").status == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://shop.example.com", f"{SHOP}:8443", f"{SHOP}.evil.example", "null", f"{SHOP}/", ""],
)
def test_another_origin_is_refused_and_changes_nothing(listed: Account, origin: str) -> None:
    ada = listed.user()
    room = listed.conversation(ada)
    before = contents(listed)
    for caller in (listed.api, listed.user_api(ada)):
        answer = caller.with_headers(Origin=origin).post("/messages/send", draft(room, None))
        answer.refuses(403, "origin_not_allowed")
        assert answer.headers["Access-Control-Allow-Origin"] == "*", "so that the page can read why"
    assert contents(listed) == before


def test_refusals_can_be_read_by_the_page_too(db: None) -> None:
    answer = Api({"Origin": SHOP}).get("/users")
    answer.refuses(401, "api_key_required")
    exposed = {name.lower() for name in answer.headers["Access-Control-Expose-Headers"].split(", ")}
    assert exposed >= {
        "x-request-id",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
        "idempotent-replayed",
    }


@pytest.mark.parametrize("given", ["a", "req-8f14e45f", "A.b_c:d/e+f=@", "x" * 128])
def test_a_sane_request_id_is_kept(tenant: Account, given: str) -> None:
    answer = tenant.api.with_headers(X_Request_Id=given).get("/users/nobody")
    assert answer.headers["X-Request-Id"] == given
    assert answer.error["requestId"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\r\nSet-Cookie: x=1", "é", "<script>", "a\0", "a;b"])
def test_another_request_id_is_replaced(tenant: Account, given: str) -> None:
    answer = tenant.api.with_headers(X_Request_Id=given).get("/users/nobody")
    assert answer.headers["X-Request-Id"] not in {given, ""}
    assert len(answer.headers["X-Request-Id"]) == 36


def test_request_ids_differ(tenant: Account) -> None:
    assert len({tenant.api.get("/users").headers["X-Request-Id"] for _ in range(5)}) == 5
