"""What the hot routes cost the database: exact numbers of statements, the same whatever the size.

Counted on a connection of its own with real transactions, BEGIN and COMMIT included; the one `SET LOCAL search_path`
of each transaction is sent beside Django's counting and comes on top.
"""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from messaging.services.sending import Draft, send_messages
from messaging.tasks import sweep_outbox
from quotas.services.limits import get_limits
from tenants.scope import tenant_scope
from tests.accounts import Account, draft


def statements(run: Callable[[], Any]) -> list[str]:
    """The statements of a warm run: credentials and limits are remembered."""
    run()
    with CaptureQueriesContext(connection) as captured:
        run()
    return [query["sql"] for query in captured.captured_queries]


@pytest.fixture
def room(committed_tenant: Account) -> tuple[Any, Any]:
    ada, *others = committed_tenant.users(10)
    return committed_tenant.conversation(ada, *others), ada


def test_a_send_is_eight_statements(committed_tenant: Account, room: Any) -> None:
    conversation, ada = room
    api = committed_tenant.api
    api.post("/messages/send", draft(conversation, ada))
    made = statements(lambda: api.post("/messages/send", draft(conversation, ada)))
    assert made[0] == "BEGIN"
    assert made[-1] == "COMMIT"
    # the conversation, the people, the lock, the check, the quota, the write
    assert len(made) == 8, made


def test_a_batch_costs_what_one_costs(committed_tenant: Account, room: Any) -> None:
    conversation, ada = room
    other = committed_tenant.conversation(ada)

    def send(count: int) -> Callable[[], Any]:
        def run() -> Any:
            drafts = [
                Draft((conversation, other)[number % 2]["id"], ada["id"], "text", {"text": str(number)})
                for number in range(count)
            ]
            get_limits(committed_tenant.id)
            with tenant_scope(committed_tenant):
                return send_messages(tenant_id=committed_tenant.id, drafts=drafts, via="test")

        return run

    assert len(statements(send(1))) == len(statements(send(2))) == len(statements(send(200))) == 8


def test_a_repeat_writes_nothing(committed_tenant: Account, room: Any) -> None:
    conversation, ada = room
    body = draft(conversation, ada, clientMessageId="c-1")
    made = statements(lambda: committed_tenant.api.post("/messages/send", body))
    assert not [statement for statement in made if statement.lstrip().startswith(("INSERT", "UPDATE", "WITH"))]


def test_history_costs_the_same_for_any_page(committed_tenant: Account, room: Any) -> None:
    conversation, ada = room
    committed_tenant.messages(conversation, ada, 30)
    api, path = committed_tenant.api, f"/messages/conversations/{conversation['id']}"
    for query, expected in (
        ({"limit": 1}, 4),
        ({"limit": 30}, 4),
        ({"page": 10, "limit": 3}, 4),
        ({"beforeSeq": 5}, 4),
        ({"afterSeq": 20}, 5),
        ({"around": 15}, 5),
    ):
        made = statements(lambda query=query: api.get(path, query))
        assert len(made) == expected, made
    reader = committed_tenant.user_api(ada)
    assert len(statements(lambda: reader.get(path))) == 6, "and who asks, and their place"


def test_the_users_list_does_not_grow_with_its_users(committed_tenant: Account) -> None:
    committed_tenant.users(2)
    api = committed_tenant.api
    few = len(statements(lambda: api.get("/users")))
    committed_tenant.users(60)
    assert len(statements(lambda: api.get("/users", {"limit": 100}))) == few == 3


def test_the_conversation_list_does_not_grow_with_page_or_membership(committed_tenant: Account) -> None:
    ada, *others = committed_tenant.users(20)
    reader = committed_tenant.user_api(ada)

    def cost() -> int:
        return len(statements(lambda: reader.get("/conversations", {"limit": 100})))

    committed_tenant.message(committed_tenant.conversation(ada), ada)
    one = cost()
    for number in range(15):
        room = committed_tenant.conversation(ada, *others[: number + 1])
        committed_tenant.message(room, others[0])
    assert cost() == one
    assert one == 8
    integrators = statements(lambda: committed_tenant.api.get("/conversations", {"limit": 100}))
    assert len(integrators) <= one


def test_making_a_group_does_not_grow_with_its_people(committed_tenant: Account) -> None:
    users = committed_tenant.users(60)
    api = committed_tenant.api

    def make(count: int) -> Callable[[], Any]:
        body = {"type": "group", "participantIds": [user["id"] for user in users[:count]]}
        return lambda: api.post("/conversations", body)

    assert len(statements(make(60))) == len(statements(make(2))) == 9


def test_notifications_cost_the_same_for_any_number(committed_tenant: Account, room: Any) -> None:
    conversation, ada = room
    api = committed_tenant.api
    bob = conversation["participants"][1]["externalUserId"]
    few = len(statements(lambda: api.get(f"/users/{bob}/notifications")))
    committed_tenant.messages(conversation, ada, 10)
    sweep_outbox()
    path = f"/users/{bob}/notifications"
    assert len(api.get(path).data) == 10
    assert len(statements(lambda: api.get(path))) == few
