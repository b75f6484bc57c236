"""The month's messages: exact under any concurrency, and counted in the send's own transaction."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from messaging.models import Message
from messaging.services.sending import Draft, Sent, send_messages
from quotas.models import MonthlyUsage
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from quotas.services.metering import take_messages
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Api
from tests.snapshots import contents
from tests.threads import times

pytestmark = pytest.mark.core


def allow(account: Account, messages: int) -> None:
    change_plan(tenant=account.tenant, overrides={"max_messages": messages})
    forget_cached_limits()


def used(account: Account) -> int:
    current: int = account.api.get("/usage").data["messages"]["current"]
    return current


def test_beyond_the_limit_nothing_is_sent(tenant: Account, api: Api) -> None:
    allow(tenant, 2)
    ada = tenant.user()
    room = tenant.conversation(ada)
    tenant.messages(room, ada, 2)
    before = contents(tenant)
    answer = api.post("/messages/send", draft(room, ada))
    answer.refuses(429, "message_quota_exceeded")
    assert answer.error["retryable"] is False
    now = datetime.now(UTC)
    following = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    assert answer.error["details"]["resetAt"] == following.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert contents(tenant) == before
    allow(tenant, 3)
    assert tenant.message(room, ada)["seq"] == 3, "a refused message takes no seq"


@pytest.mark.parametrize("left", [0, 1, 7, 49, 50])
def test_50_senders_at_once_get_exactly_what_is_left(committed_tenant: Account, left: int) -> None:
    users = committed_tenant.users(50)
    rooms = [committed_tenant.conversation(*users) for _ in range(5)]
    committed_tenant.messages(rooms[0], users[0], 2)
    allow(committed_tenant, 2 + left)
    api = committed_tenant.api
    answers = times(50, lambda number: api.post("/messages/send", draft(rooms[number % 5], users[number])))
    counted = Counter(answer.status for answer in answers)
    assert counted == Counter({200: left, 429: 50 - left})
    assert {answer.code for answer in answers if answer.status == 429} <= {"message_quota_exceeded"}
    assert used(committed_tenant) == 2 + left
    with tenant_scope(committed_tenant):
        assert Message.objects.count() == 2 + left
        for room in rooms:
            seqs = list(
                Message.objects.filter(conversation_id=room["id"]).order_by("seq").values_list("seq", flat=True)
            )
            assert seqs == list(range(1, len(seqs) + 1)), "no seq was lost to a refusal"


def test_a_batch_gets_what_is_left_in_order(tenant: Account) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    allow(tenant, 3)
    drafts = [Draft(room["id"], ada["id"], "text", {"text": str(number)}) for number in range(5)]
    with tenant_scope(tenant):
        outcomes = send_messages(tenant_id=tenant.id, drafts=drafts, via="test")
    assert [isinstance(outcome, Sent) for outcome in outcomes] == [True, True, True, False, False]
    assert used(tenant) == 3


def test_refused_sends_cost_nothing(tenant: Account, api: Api) -> None:
    ada, eve = tenant.user(), tenant.user()
    room = tenant.conversation(ada)
    tenant.message(room, ada, clientMessageId="c-1")
    for body in (
        draft(room, eve),
        draft(room, ada, clientMessageId="c-1", text="other"),
        draft(room, ada, mentions=["nobody"]),
        draft({"id": "nowhere"}, ada),
        draft(room, ada, clientMessageId="c-1"),
    ):
        api.post("/messages/send", body)
    assert used(tenant) == 1


def test_a_send_that_is_rolled_back_costs_nothing(committed_tenant: Account) -> None:
    ada = committed_tenant.user()
    room = committed_tenant.conversation(ada)
    with pytest.raises(ZeroDivisionError):
        _send_and_fail(committed_tenant, Draft(room["id"], ada["id"], "text", {"text": "lost"}))
    assert used(committed_tenant) == 0


def _send_and_fail(account: Account, lost: Draft) -> None:
    with tenant_scope(account):
        send_messages(tenant_id=account.id, drafts=[lost], via="test")
        raise ZeroDivisionError


def test_what_is_deleted_stays_counted(tenant: Account) -> None:
    ada = tenant.user()
    tenant.messages(tenant.conversation(ada), ada, 3)
    with tenant_scope(tenant):
        Message.objects.all().delete()
    assert used(tenant) == 3


def test_each_month_begins_anew_in_utc(tenant: Account) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    allow(tenant, 1)
    last, first = datetime(2031, 12, 31, 23, 59, 59, 999999, UTC), datetime(2032, 1, 1, tzinfo=UTC)
    outcomes = []
    with tenant_scope(tenant):
        for at in (last, last, first, first):
            one = Draft(room["id"], ada["id"], "text", {"text": "x"})
            outcomes += send_messages(tenant_id=tenant.id, drafts=[one], via="test", clock=lambda at=at: at)
    assert [isinstance(outcome, Sent) for outcome in outcomes] == [True, False, True, False]
    months = MonthlyUsage.objects.filter(tenant_id=tenant.id).order_by("month").values_list("month", "messages")
    assert [(str(month), messages) for month, messages in months] == [("2031-12-01", 1), ("2032-01-01", 1)]


def test_the_first_messages_of_a_month_race_fairly(committed_tenant: Account) -> None:
    at = datetime(2031, 5, 1, tzinfo=UTC)

    def take(_: int) -> int:
        with tenant_scope(committed_tenant):
            return take_messages(committed_tenant.id, 3, limit=20, now=at)

    taken = times(10, take)
    assert sorted(taken, reverse=True) == [3] * 6 + [2, 0, 0, 0]


def test_tenants_do_not_spend_each_others_messages(tenant: Account, other_tenant: Account) -> None:
    allow(tenant, 0)
    ada = other_tenant.user()
    other_tenant.message(other_tenant.conversation(ada), ada)
    assert (used(tenant), used(other_tenant)) == (0, 1)


def test_a_lowered_limit_stops_sends_and_keeps_what_is_there(tenant: Account, api: Api) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    tenant.messages(room, ada, 3)
    allow(tenant, 1)
    api.post("/messages/send", draft(room, ada)).refuses(429, "message_quota_exceeded")
    assert api.get("/usage").data["messages"]["percentage"] == 300.0
    assert len(api.get(f"/messages/conversations/{room['id']}").data["messages"]) == 3
