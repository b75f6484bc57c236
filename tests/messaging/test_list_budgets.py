"""What every list costs the database: an exact number of statements, the same for one row as for many, however many are
in the conversations that they are of. The lists come from the operations: a new one fails until it has its budget, and
something in it, here.

Counted as in `test_query_budgets.py`: BEGIN and COMMIT included, credentials and limits remembered.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from messaging.models import User
from messaging.tasks import index_messages, sweep_outbox
from tenants.scope import tenant_scope
from tests.accounts import Account, draft, drop_account, open_test_account, platform_api
from tests.api import Api
from tests.isolation.test_routes import ROUTES, Route
from tests.messaging.test_query_budgets import statements
from tests.ports import FixedPresence
from tests.scheduling import schedule

FEW, MANY = 1, 20


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant in which everything that is listed has `size` rows at least."""

    size: int
    account: Account
    ids: Mapping[str, str]
    reader: Api


def _fill(account: Account, size: int) -> Scene:
    api = account.api
    ada, *others = account.users(size + 1)
    room = account.conversation(ada, *others)
    first = account.message(room, ada, mentions=[others[0]["id"]])
    for number, other in enumerate(others):
        account.message(room, other, replyToId=first["id"])
        api.acting_as(other["id"]).post(f"/messages/{first['id']}/reactions", {"name": "👍"})
        api.patch(f"/messages/{first['id']}", {"content": {"text": f"edited {number}"}})
        pinned = account.message(room, ada)
        assert api.put(f"/messages/{pinned['id']}/pin").status == 200
        account.message(account.conversation(ada, other), other)
        assert schedule(account, room, ada).status == 201
    sweep_outbox()
    for stranger in account.users(size):
        assert api.post(f"/users/{ada['id']}/blocks", {"userId": stranger["id"]}).status == 201
    imports = [api.post("/imports", {"name": f"import {number}"}).data["id"] for number in range(size)]
    lines = b"{}\n" * size
    taken = api.raw(
        "POST", f"/imports/{imports[0]}/chunks", lines, content_type="application/x-ndjson", query={"position": 0}
    )
    assert taken.data["failed"] == size
    _moderate(account, room, first, ada, others)
    index_messages()
    ids = {
        "conversationId": room["id"],
        "userId": ada["id"],
        "messageId": first["id"],
        "importId": imports[0],
    }
    return Scene(size, account, ids, account.user_api(ada))


def _moderate(account: Account, room: Any, message: Any, ada: Any, others: list[Any]) -> None:
    api = account.api
    for number, (other, stranger) in enumerate(zip(others, account.users(len(others)), strict=True)):
        words = {"name": str(number), "kind": "words", "patterns": [f"held {number}"], "action": "hold"}
        assert api.post("/moderation/filters", words).status == 201
        assert api.post("/messages/send", draft(room, ada, f"held {number}")).code == "message_held"
        report = api.acting_as(other["id"]).post(f"/messages/{message['id']}/report", {"reason": "spam"})
        assert report.status == 201
        for path in ("/bans", f"/conversations/{room['id']}/bans"):
            assert api.post(path, {"userId": stranger["id"]}).status == 201


@pytest.fixture(scope="module")
def scenes(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[tuple[Scene, Scene]]:
    with django_db_blocker.unblock():
        made = _fill(open_test_account(), FEW), _fill(open_test_account(), MANY)
        yield made
        for scene in made:
            drop_account(scene.account)
        connection.close()


@pytest.fixture(autouse=True)
def _may_use_the_database(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture(autouse=True)
def _some_are_online(_may_use_the_database: None, scenes: tuple[Scene, Scene], presence: FixedPresence) -> None:
    for scene in scenes:
        with tenant_scope(scene.account):
            presence.online.update(User.objects.values_list("id", flat=True)[: scene.size])


@dataclass(frozen=True, slots=True)
class Budget:
    """The statements of one page for the integrator and for a user (None: no user may ask), and what to ask for.

    `rows` finds the rows in the answer's data, which have to be more where there are more.
    """

    integrator: int
    user: int | None
    query: Mapping[str, Any] | None = None
    rows: Callable[[Any], list[Any]] = list


PLATFORM = {
    "listTenants": Budget(3, None, {"limit": 100}),
    "listPlans": Budget(1, None),
}

BUDGETS: dict[str, Budget] = {
    "listUsers": Budget(3, 4, {"limit": 100}),
    "listConversations": Budget(6, 8, {"limit": 100}),
    "listUserConversations": Budget(8, 9, {"limit": 100}),
    "listParticipants": Budget(4, 6, {"limit": 100}),
    "searchMessages": Budget(4, 6, {"q": "hello", "limit": 50}),
    "listPinnedMessages": Budget(5, 7),
    "listReactions": Budget(5, 8, {"limit": 100}),
    "listMessageRevisions": Budget(5, 8, {"limit": 100}),
    "listBlocks": Budget(4, 5, {"limit": 100}),
    "listUserNotifications": Budget(5, 6, {"limit": 100}),
    "listReceipts": Budget(5, 8),
    "listScheduledMessages": Budget(3, 4, {"limit": 100}),
    "listBans": Budget(3, None, {"limit": 100}),
    "listConversationBans": Budget(4, None, {"limit": 100}),
    "listFilters": Budget(3, None, {"limit": 100}),
    "listHeldMessages": Budget(3, None, {"limit": 100}),
    "listOnlineUsers": Budget(3, 4, {"limit": 100}),
    "listReports": Budget(6, None, {"limit": 100}),
    "listImports": Budget(3, None, {"limit": 100}),
    "listImportFailures": Budget(4, None, {"limit": 100}),
    "listConversationEvents": Budget(11, 14, {"limit": 200}),
    "listEvents": Budget(14, None, {"limit": 200}),
}

# What holds several rows without being declared a list.
HOLDING: dict[str, Budget] = {
    "listMessages": Budget(5, 7, {"limit": 100}, rows=lambda data: data["messages"]),
    "getThread": Budget(9, 12, {"limit": 100}, rows=lambda data: data["replies"]),
    "getConversation": Budget(5, 8, rows=lambda data: data["participants"]),
}

MAKING = {"upsertUsers", "queryPresence"}
"""Lists that answer a body: what they cost stands in `test_query_budgets.py` and `test_presence_api.py`."""

BY_ID = {route.operation.operation_id: route for route in ROUTES}


def test_every_list_has_a_budget() -> None:
    lists = {name for name, route in BY_ID.items() if route.operation.many or route.operation.listed}
    budgets = BUDGETS.keys() | PLATFORM.keys() | MAKING
    assert lists == budgets, "say in this file what a list may cost"
    assert set(HOLDING) <= BY_ID.keys()


def _path(route: Route, scene: Scene) -> str:
    assert set(route.names) <= set(scene.ids), f"say in this file which ids fit {route.names}"
    return route.template.format(**{name: quote(scene.ids[name], safe="") for name in route.names})


def _cost(api: Api, route: Route, scene: Scene, budget: Budget) -> tuple[int, int]:
    """How many statements, and how many rows they brought."""
    path = _path(route, scene)
    answer = api.get(path, dict(budget.query or {}))
    made = statements(lambda: api.get(path, dict(budget.query or {})))
    return len(made), len(budget.rows(answer.data))


@pytest.mark.parametrize("name", BUDGETS | HOLDING)
def test_a_list_costs_its_budget_whatever_its_size(name: str, scenes: tuple[Scene, Scene]) -> None:
    budget, route = (BUDGETS | HOLDING)[name], BY_ID[name]
    few, many = ([_cost(api, route, scene, budget) for api in _callers(scene, budget)] for scene in scenes)
    expected = [budget.integrator] if budget.user is None else [budget.integrator, budget.user]
    assert [cost for cost, _ in few] == [cost for cost, _ in many] == expected
    for (_, rows_of_few), (_, rows_of_many) in zip(few, many, strict=True):
        assert 0 < rows_of_few < rows_of_many, "there has to be something in it"


def _callers(scene: Scene, budget: Budget) -> list[Api]:
    return [scene.account.api] if budget.user is None else [scene.account.api, scene.reader]


@pytest.mark.parametrize("name", PLATFORM)
def test_a_list_of_the_platform_costs_its_budget(name: str, scenes: tuple[Scene, Scene]) -> None:
    budget, route = PLATFORM[name], BY_ID[name]
    api = platform_api()
    made = statements(lambda: api.get(route.template, dict(budget.query or {})))
    assert len(made) == budget.integrator, made
    if budget.query:
        one = statements(lambda: api.get(route.template, {"limit": 1}))
        assert len(one) == budget.integrator, one
        assert len(api.get(route.template, dict(budget.query)).data) > 1


# --- what is done to one message or one place, however many are in the conversation ---------------------------------

HOT: dict[str, tuple[int, Callable[[Scene, Api], Any]]] = {
    "getMessage": (9, lambda scene, api: api.get(f"/messages/{scene.ids['messageId']}")),
    "editMessage": (
        19,
        lambda scene, api: api.patch(f"/messages/{scene.ids['messageId']}", {"content": {"text": "edited"}}),
    ),
    "markRead": (10, lambda scene, api: api.post(f"/conversations/{scene.ids['conversationId']}/read", {"seq": 1})),
    "getUnreadTotal": (5, lambda scene, api: api.get(f"/users/{scene.ids['userId']}/unread")),
    "addReaction": (
        14,
        lambda scene, api: api.post(f"/messages/{scene.ids['messageId']}/reactions", {"name": "🎉"}),
    ),
    "sendMessage": (
        9,
        lambda scene, api: api.post(
            "/messages/send",
            {"conversationId": scene.ids["conversationId"], "type": "text", "content": {"text": "hot"}},
        ),
    ),
    "updateMembership": (
        11,
        lambda scene, api: api.patch(f"/conversations/{scene.ids['conversationId']}/membership", {"pinned": True}),
    ),
}


@pytest.mark.parametrize("name", HOT)
def test_a_hot_call_costs_the_same_in_any_company(name: str, scenes: tuple[Scene, Scene]) -> None:
    expected, call = HOT[name]
    costs = []
    for scene in scenes:
        made = statements(lambda scene=scene: call(scene, scene.reader))
        assert call(scene, scene.reader).status in {200, 201}
        costs.append(len(made))
    assert costs == [expected, expected]
