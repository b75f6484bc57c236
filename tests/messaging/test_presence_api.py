"""`/presence`: users by either id, and who is online; against the store itself."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis

from messagecore.kernel.errors import ServiceUnavailable
from messaging import ports
from messaging.ports import UnknownPresence
from realtime.presence import reader as reader_module
from tests.accounts import Account
from tests.api import Api
from tests.messaging.test_query_budgets import statements
from tests.ports import FixedPresence
from tests.presence import connect

pytestmark = pytest.mark.core


@pytest.fixture(autouse=True)
def _real_store(settings: Any) -> Iterator[None]:
    settings.MESSAGECORE_PRESENCE = "realtime.presence.reader.RedisPresenceReader"
    ports.presence_reader.cache_clear()
    reader_module._client.cache_clear()
    reader_module._client().flushdb()  # the tenants are the same for every test, and Redis is not rolled back
    yield
    reader_module._client().close()
    reader_module._client.cache_clear()


def _ids(users: list[Any]) -> list[UUID]:
    return [UUID(user["id"]) for user in users]


def _online(api: Api, **query: Any) -> list[tuple[str, str]]:
    return [(shown["externalUserId"], shown["status"]) for shown in api.get("/presence/online", query).data]


def test_users_are_named_by_either_id_and_answered_in_that_order(tenant: Account) -> None:
    ada, bob, eve = (tenant.user(name) for name in ("ada", "bob, the builder", "eve"))
    connect(tenant.id, _ids([ada]))
    connect(tenant.id, _ids([bob]), status="A")
    body = {"userIds": ["eve", bob["id"], "nobody", str(uuid4()), "ada", eve["id"], "bob, the builder"]}
    for caller in (tenant.api, tenant.user_api(eve)):
        answer = caller.post("/presence/query", body)
        assert answer.status == 200
        assert [(shown["userId"], shown["externalUserId"], shown["status"]) for shown in answer.data] == [
            (eve["id"], "eve", answer.data[0]["status"]),
            (bob["id"], "bob, the builder", "away"),
            (ada["id"], "ada", "online"),
        ]
        assert answer.data[0]["status"] in {"offline", "unknown"}
        assert answer.data[1]["lastSeen"] is not None


def test_others_people_are_nobody(tenant: Account, other_tenant: Account) -> None:
    theirs = other_tenant.user("theirs")
    connect(other_tenant.id, _ids([theirs]))
    assert tenant.api.post("/presence/query", {"userIds": [theirs["id"], "theirs"]}).data == []
    assert _online(tenant.api, limit=100) == []
    assert _online(other_tenant.api) == [("theirs", "online")]
    # Whose id the store has of another tenant is nobody here, whatever it says.
    connect(tenant.id, _ids([theirs]))
    assert _online(tenant.api) == []


def test_the_online_are_listed_in_pages(tenant: Account) -> None:
    people = sorted(tenant.users(5), key=lambda user: str(user["id"]))
    connect(tenant.id, _ids(people[:4]))
    connect(tenant.id, _ids(people[4:]), status="A")
    assert _online(tenant.user_api(people[0])) == [
        *((person["externalUserId"], "online") for person in people[:4]),
        (people[4]["externalUserId"], "away"),
    ]
    seen, cursor = [], None
    while True:
        answer = tenant.api.get("/presence/online", {"limit": 2} | ({"cursor": cursor} if cursor else {}))
        seen.append([shown["user"]["id"] for shown in answer.data])
        if not answer.body["pagination"]["hasMore"]:
            break
        cursor = answer.body["pagination"]["nextCursor"]
    assert seen == [[person["id"] for person in people[start : start + 2]] for start in (0, 2, 4)]


@pytest.mark.parametrize("size", [1, 100])
def test_a_query_costs_two_statements_and_one_round_trip(
    tenant: Account, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [person for _ in range(0, size, 50) for person in tenant.users(min(size, 50))]
    connect(tenant.id, _ids(people))
    body = {"userIds": [person["id"] for person in people]}
    assert len(tenant.api.post("/presence/query", body).data) == size
    trips: list[int] = []
    execute = redis.client.Pipeline.execute

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.connection_pool is reader_module._client().connection_pool:
            trips.append(1)
        return execute(self, *args, **kwargs)

    monkeypatch.setattr(redis.client.Pipeline, "execute", counted)
    tenant.api.post("/presence/query", body)
    assert len(trips) == 1
    made = statements(lambda: tenant.api.post("/presence/query", body))
    assert len(made) == 4, made


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"userIds": []}, "/userIds"),
        ({"userIds": "ada"}, "/userIds"),
        ({"userIds": [f"u{number}" for number in range(101)]}, "/userIds"),
        ({"userIds": [7]}, "/userIds/0"),
        ({"userIds": ["\0"]}, None),
        ({"userIds": ["ada"], "status": "online"}, ""),
    ],
)
def test_a_bad_query_is_refused(tenant: Account, body: Any, pointer: str | None) -> None:
    answer = tenant.api.post("/presence/query", body)
    answer.refuses(422, "validation_failed")
    if pointer is not None:
        assert next(field["pointer"] for field in answer.error["details"]["fields"]).startswith(pointer)


@pytest.mark.parametrize("cursor", ["x", "WzFd", "WyJ4Il0", "W10"])
def test_a_bad_cursor_is_refused(tenant: Account, cursor: str) -> None:
    tenant.api.get("/presence/online", {"cursor": cursor}).refuses(422, "invalid_cursor")


def test_who_asks_has_to_be_somebody(tenant: Account) -> None:
    eve = tenant.user("eve")
    nobody = Api({"X-API-Key": tenant.publishable_key})
    nobody.post("/presence/query", {"userIds": ["eve"]}).refuses(401, "token_required")
    nobody.get("/presence/online").refuses(401, "token_required")
    tenant.api.post("/users/eve/deactivate")
    tenant.user_api(eve).post("/presence/query", {"userIds": ["eve"]}).refuses(403, "user_inactive")
    tenant.user_api(eve).get("/presence/online").refuses(403, "user_inactive")


def test_while_nobody_can_say_a_query_says_unknown_and_a_list_says_so(
    tenant: Account, presence: FixedPresence, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = tenant.user("ada")
    presence.online.add(UUID(ada["id"]))
    assert _online(tenant.api) == [("ada", "online")]
    monkeypatch.setattr(ports, "presence_reader", UnknownPresence)
    monkeypatch.setattr(UnknownPresence, "cache_clear", lambda: None, raising=False)
    (shown,) = tenant.api.post("/presence/query", {"userIds": ["ada"]}).data
    assert (shown["status"], shown["lastSeen"]) == ("unknown", None)
    answer = tenant.api.get("/presence/online")
    answer.refuses(503, "service_unavailable")
    assert answer.error["retryable"] is True
    with pytest.raises(ServiceUnavailable):
        UnknownPresence().online_after(tenant.id, None, limit=1)
