"""`clientMessageId`: a repeat is harmless, and says so."""

from typing import Any

import pytest

from messaging.models import Message
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Api
from tests.snapshots import contents
from tests.threads import at_once, times

pytestmark = pytest.mark.core


@pytest.fixture
def ada(tenant: Account) -> Any:
    return tenant.user("ada")


@pytest.fixture
def room(tenant: Account, ada: Any) -> Any:
    return tenant.conversation(ada, externalId="room")


def test_a_repeat_answers_with_the_first_message(tenant: Account, api: Api, room: Any, ada: Any) -> None:
    body = draft(room, ada, "once", clientMessageId="c-1", metadata={"b": 1, "a": 2}, mentions=["ada"])
    first = api.post("/messages/send", body)
    before = contents(tenant)
    second = api.post("/messages/send", body)
    assert (second.status, second.data) == (200, first.data)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert contents(tenant) == before


def test_the_same_message_said_differently_is_a_repeat(tenant: Account, api: Api, room: Any, ada: Any) -> None:
    body = draft(room, ada, clientMessageId="c-1", metadata={"b": 1, "a": 2}, mentions=["ada"])
    first = api.post("/messages/send", body)
    other = {
        "conversationId": "room",
        "senderId": "ada",
        "mentions": [ada["id"]],
        "metadata": {"a": 2, "b": 1},
        "silent": None,
        "replyToId": None,
    }
    assert api.post("/messages/send", body | other).data == first.data
    assert tenant.user_api(ada).post("/messages/send", body).data == first.data


@pytest.mark.parametrize(
    "change",
    [
        {"content": {"text": "other"}},
        {"content": {"text": "hello", "more": 1}},
        {"type": "custom"},
        {"metadata": {"a": 1}},
        {"silent": True},
        {"mentions": ["ada"]},
    ],
)
def test_the_same_id_for_another_message_is_a_conflict(
    tenant: Account, api: Api, room: Any, ada: Any, change: Any
) -> None:
    body = draft(room, ada, clientMessageId="c-1")
    api.post("/messages/send", body)
    before = contents(tenant)
    api.post("/messages/send", body | change).refuses(409, "idempotency_conflict")
    assert contents(tenant) == before


def test_the_same_id_in_another_conversation_is_a_conflict(tenant: Account, api: Api, room: Any, ada: Any) -> None:
    api.post("/messages/send", draft(room, ada, clientMessageId="c-1"))
    elsewhere = tenant.conversation(ada)
    before = contents(tenant)
    api.post("/messages/send", draft(elsewhere, ada, clientMessageId="c-1")).refuses(409, "idempotency_conflict")
    assert contents(tenant) == before


def test_ids_are_each_senders_own(tenant: Account, api: Api, room: Any, ada: Any) -> None:
    bob = tenant.user("bob")
    api.post(f"/conversations/{room['id']}/participants", {"participantIds": ["bob"]})
    first = api.post("/messages/send", draft(room, ada, clientMessageId="c-1"))
    second = api.post("/messages/send", draft(room, bob, clientMessageId="c-1"))
    assert first.data["id"] != second.data["id"]
    assert "Idempotent-Replayed" not in second.headers


@pytest.mark.parametrize("client_id", ["x" * 255, "😀" * 255, " ", "a\tb", "'; --"])
def test_any_words_make_an_id(tenant: Account, api: Api, room: Any, ada: Any, client_id: str) -> None:
    body = draft(room, ada, clientMessageId=client_id)
    assert api.post("/messages/send", body).data["clientMessageId"] == client_id
    assert api.post("/messages/send", body).headers["Idempotent-Replayed"] == "true"


def test_a_repeat_is_answered_when_the_quota_is_spent(tenant: Account, api: Api, room: Any, ada: Any) -> None:
    change_plan(tenant=tenant.tenant, overrides={"max_messages": 1})
    forget_cached_limits()
    body = draft(room, ada, clientMessageId="c-1")
    first = api.post("/messages/send", body)
    api.post("/messages/send", draft(room, ada)).refuses(429, "message_quota_exceeded")
    assert api.post("/messages/send", body).data == first.data


def test_a_refused_send_does_not_use_up_its_id(tenant: Account, api: Api, room: Any, ada: Any) -> None:
    change_plan(tenant=tenant.tenant, overrides={"max_messages": 0})
    forget_cached_limits()
    body = draft(room, ada, clientMessageId="c-1")
    api.post("/messages/send", body).refuses(429, "message_quota_exceeded")
    change_plan(tenant=tenant.tenant, overrides={"max_messages": 1})
    forget_cached_limits()
    assert "Idempotent-Replayed" not in api.post("/messages/send", body).headers


def test_a_repeat_shows_what_is_there_now(tenant: Account, api: Api, room: Any, ada: Any) -> None:
    body = draft(room, ada, clientMessageId="c-1")
    first = api.post("/messages/send", body).data
    with tenant_scope(tenant):
        Message.objects.filter(pk=first["id"]).update(content={}, deleted_at=first["createdAt"])
    again = api.post("/messages/send", body)
    assert (again.data["content"], again.data["deletedAt"]) == ({}, first["createdAt"])
    api.post("/messages/send", body | {"content": {"text": "new"}}).refuses(409, "idempotency_conflict")


# --- at the same moment ---------------------------------------------------------------------------------------------


def test_repeats_at_the_same_moment_leave_one_message(committed_tenant: Account) -> None:
    ada = committed_tenant.user()
    room = committed_tenant.conversation(ada)
    api, body = committed_tenant.api, draft(room, ada, clientMessageId="c-1")
    answers = times(10, lambda _: api.post("/messages/send", body))
    assert {answer.data["id"] for answer in answers} == {answers[0].data["id"]}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 9
    after = api.get(f"/messages/conversations/{room['id']}").data
    assert [message["seq"] for message in after["messages"]] == [1]
    assert api.get("/usage").data["messages"]["current"] == 1


def test_one_id_in_two_conversations_at_the_same_moment_is_one_message_and_a_conflict(
    committed_tenant: Account,
) -> None:
    ada = committed_tenant.user()
    api = committed_tenant.api
    for attempt in range(8):
        rooms = [committed_tenant.conversation(ada) for _ in range(2)]
        bodies = [draft(room, ada, clientMessageId=f"c-{attempt}") for room in rooms]
        answers = at_once(*(lambda body=body: api.post("/messages/send", body) for body in bodies))
        assert sorted(answer.status for answer in answers) == [200, 409]
        (refused,) = (answer for answer in answers if answer.status == 409)
        assert refused.code == "idempotency_conflict"
    assert api.get("/usage").data["messages"]["current"] == 8, "the refused ones cost nothing"
