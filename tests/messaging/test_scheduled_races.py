"""Scheduled messages while several are at it: workers, cancellations, changes, deletions; and what they cost."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging.models import Message, ScheduledMessage
from messaging.tasks import send_scheduled
from tenants.models import Timer
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.scheduling import body, later, schedule, texts, time_comes, waiting
from tests.threads import at_once, times


class TestAtOnce:
    """On threads with connections of their own, committing."""

    @pytest.fixture
    def room(self, committed_tenant: Account) -> tuple[Any, Any]:
        ada = committed_tenant.user()
        return committed_tenant.conversation(ada), ada

    def test_workers_send_each_once_and_in_order(self, committed_tenant: Account, room: Any) -> None:
        conversation, ada = room
        for number in range(12):
            schedule(committed_tenant, conversation, ada, str(number), sendAt=later(20 + number))
        time_comes(committed_tenant)
        sent = times(3, lambda _: send_scheduled())
        sent.append(send_scheduled())
        assert sum(sent) == 12
        assert texts(committed_tenant, conversation) == [str(number) for number in range(12)]
        assert waiting(committed_tenant) == 0
        assert committed_tenant.api.get("/usage").data["messages"]["current"] == 12

    def test_cancelling_while_it_is_sent_is_one_of_both(self, committed_tenant: Account, room: Any) -> None:
        conversation, ada = room
        for _ in range(6):
            kept = schedule(committed_tenant, conversation, ada).data
            time_comes(committed_tenant)
            path = f"/messages/scheduled/{kept['id']}"
            count, answer = at_once(send_scheduled, lambda path=path: committed_tenant.api.delete(path))
            status = committed_tenant.api.get(path).data["status"]
            assert (status, count, answer.status) in {("sent", 1, 409), ("cancelled", 0, 200)}
        with tenant_scope(committed_tenant):
            assert Message.objects.count() == ScheduledMessage.objects.filter(status="sent").count()
        assert waiting(committed_tenant) == 0

    def test_changing_while_it_is_sent_is_one_of_both(self, committed_tenant: Account, room: Any) -> None:
        conversation, ada = room
        outcomes = []
        for number in range(6):
            kept = schedule(committed_tenant, conversation, ada, f"old {number}").data
            time_comes(committed_tenant)
            path = f"/messages/scheduled/{kept['id']}"
            change = {"content": {"text": f"new {number}"}, "sendAt": later(1000)}
            answer: Any
            count, answer = at_once(
                send_scheduled, lambda path=path, change=change: committed_tenant.api.patch(path, change)
            )
            status = committed_tenant.api.get(path).data["status"]
            assert (status, count, answer.status) in {("sent", 1, 409), ("scheduled", 0, 200)}
            outcomes.append(f"old {number}" if status == "sent" else None)
            committed_tenant.api.delete(path)
        assert texts(committed_tenant, conversation) == [text for text in outcomes if text]

    def test_the_same_request_six_times_at_once(self, committed_tenant: Account) -> None:
        ada = committed_tenant.user()
        room = committed_tenant.conversation(ada)
        said = body(room, ada, clientMessageId="c-1")
        answers = times(6, lambda _: committed_tenant.api.post("/messages/scheduled", said))
        assert len({answer.data["id"] for answer in answers}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
        assert waiting(committed_tenant) == 1

    @pytest.mark.parametrize("going", ["user", "conversation"])
    def test_what_it_hangs_on_goes_while_it_is_sent(self, committed_tenant: Account, room: Any, going: str) -> None:
        _, ada = room
        for _ in range(4):
            eve = committed_tenant.user()
            place = committed_tenant.conversation(ada, eve)
            for text in ("1", "2"):
                schedule(committed_tenant, place, eve, text)
            time_comes(committed_tenant)
            path = f"/users/{eve['id']}" if going == "user" else f"/conversations/{place['id']}"
            query = {"messages": "erase"} if going == "user" else None
            delete: Callable[[], Any] = lambda path=path, query=query: committed_tenant.api.delete(path, query)  # noqa: E731
            _, answer = at_once(send_scheduled, delete)
            assert answer.status == 200
            send_scheduled()
            assert waiting(committed_tenant) == 0
            with tenant_scope(committed_tenant):
                assert ScheduledMessage.objects.count() == 0
                assert not Message.objects.exclude(content={}).exists()


def statements(run: Callable[[], Any]) -> list[str]:
    run()
    with CaptureQueriesContext(connection) as captured:
        run()
    return [query["sql"] for query in captured.captured_queries]


def test_a_run_that_finds_nothing_is_one_look(committed_tenant: Account) -> None:
    ada = committed_tenant.user()
    schedule(committed_tenant, committed_tenant.conversation(ada), ada)
    assert len(statements(send_scheduled)) == 1


def test_sending_costs_the_send_and_five_statements(committed_tenant: Account) -> None:
    ada = committed_tenant.user()
    room = committed_tenant.conversation(ada)

    def run() -> None:
        assert send_scheduled() == 1

    for number in range(2):
        schedule(committed_tenant, room, ada, str(number), sendAt=later(30 + 600 * number))
    time_comes(committed_tenant)
    Timer.objects.filter(
        tenant_id=committed_tenant.id, due_at__gt=timezone.now() - timedelta(days=400) + timedelta(seconds=300)
    ).update(due_at=timezone.now() + timedelta(seconds=0.2))
    run()
    connection.cursor().execute("SELECT pg_sleep(0.3)")
    with CaptureQueriesContext(connection) as captured:
        run()
    made = [query["sql"] for query in captured.captured_queries]
    # the look; the tenant, the timer, the row; six of the send; the mark, the timer's end; and the transaction's own
    own = [sql for sql in made if not sql.startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"))]
    assert len(own) == 12, own


def test_a_list_costs_the_same_whatever_its_length(committed_tenant: Account) -> None:
    ada, bob = committed_tenant.users(2)
    room = committed_tenant.conversation(ada, bob)
    schedule(committed_tenant, room, ada)

    def cost() -> int:
        return len(statements(lambda: committed_tenant.api.get("/messages/scheduled", {"limit": 100})))

    one = cost()
    for sender in (ada, bob, ada, bob):
        schedule(committed_tenant, room, sender)
        schedule(committed_tenant, committed_tenant.conversation(sender), sender)
    assert cost() == one == 3


def test_scheduling_is_a_fixed_number_of_statements(committed_tenant: Account) -> None:
    ada, *others = committed_tenant.users(12)
    room = committed_tenant.conversation(ada, *others)
    few = statements(lambda: schedule(committed_tenant, room, ada, mentions=[others[0]["id"]]))
    many = statements(lambda: schedule(committed_tenant, room, ada, mentions=[one["id"] for one in others]))
    assert len(few) == len(many) <= 14, many
