"""The commit threads: an answer for everyone, acknowledged only what is durable, and no thread is ever lost."""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest
from django.db import connection

from messagecore.kernel.errors import Refusal, ServiceUnavailable
from messaging.services import batching
from messaging.services.batching import SendBatcher, _Waiting
from messaging.services.sending import Draft, Sent
from tenants.services.authentication import tenant_card
from tests.accounts import Account, drop_account, open_test_account


@pytest.fixture
def batcher() -> Iterator[SendBatcher]:
    made = SendBatcher(threads=1)
    yield made
    made.close(timeout_s=10)


@pytest.fixture
def place(committed_tenant: Account) -> tuple[Account, Draft]:
    return committed_tenant, a_draft(committed_tenant)


def a_draft(account: Account) -> Draft:
    (user,) = account.users(1)
    conversation = account.conversation(user)
    return Draft(conversation=conversation["id"], sender=user["id"], type="text", content={"text": "hi"})


def outcome(future: "Future[Sent]") -> Any:
    """`sent`, or the refusal's code."""
    try:
        return "sent" if isinstance(future.result(20), Sent) else "?"
    except Refusal as refusal:
        return refusal.code


def stored(account: Account, draft: Draft) -> int:
    return len(account.api.get(f"/messages/conversations/{draft.conversation}").data["messages"])


def test_everyone_gets_their_own_answer(batcher: SendBatcher, place: tuple[Account, Draft]) -> None:
    account, draft = place
    wrong = Draft(conversation="nowhere", sender=draft.sender, type="text", content={"text": "hi"})
    futures = [
        batcher.submit(tenant_card(account.tenant), one, via="socket") for one in (draft, wrong, draft, wrong, draft)
    ]
    assert [outcome(future) for future in futures] == [
        "sent",
        "conversation_not_found",
        "sent",
        "conversation_not_found",
        "sent",
    ]
    assert stored(account, draft) == 3


def test_what_a_broken_connection_rolled_back_is_not_acknowledged_before_it_is_stored(
    batcher: SendBatcher, place: tuple[Account, Draft], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first tenant's segment is written, the connection breaks in the second's: Django rolls back in silence."""
    account, draft = place
    other = open_test_account()
    accounts = sorted((account, other), key=lambda one: one.id)
    drafts = [draft if one is account else a_draft(other) for one in accounts]
    send_messages, calls = batching.send_messages, []

    def breaking(**options: Any) -> Any:
        calls.append(options["tenant_id"])
        if len(calls) == 2:
            _terminate_own_backend()
        return send_messages(**options)

    monkeypatch.setattr(batching, "send_messages", breaking)
    batch = [_Waiting(tenant_card(one.tenant), item, "socket") for one, item in zip(accounts, drafts, strict=True)]
    for waiting in batch:
        waiting.outcome.set_running_or_notify_cancel()
    batcher._commit(batch)
    assert [outcome(waiting.outcome) for waiting in batch] == ["sent", "sent"]
    assert [stored(one, item) for one, item in zip(accounts, drafts, strict=True)] == [1, 1]
    assert calls == [one.id for one in accounts] * 2
    drop_account(other)


def _terminate_own_backend() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        row = cursor.fetchone()
    parameters = connection.get_connection_params()
    parameters = {
        name: parameters[name] for name in ("dbname", "user", "password", "host", "port") if name in parameters
    }
    assert row is not None
    with psycopg.connect(**parameters, autocommit=True) as another:
        another.execute("SELECT pg_terminate_backend(%s)", [row[0]])


def test_a_failing_segment_harms_no_other(
    batcher: SendBatcher, place: tuple[Account, Draft], monkeypatch: pytest.MonkeyPatch
) -> None:
    account, draft = place
    other = open_test_account()
    other_draft = a_draft(other)
    send_messages = batching.send_messages

    def failing(**options: Any) -> Any:
        if options["tenant_id"] == other.id:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
        return send_messages(**options)

    monkeypatch.setattr(batching, "send_messages", failing)
    futures = [
        batcher.submit(tenant_card(one.tenant), item, via="socket")
        for one, item in ((account, draft), (other, other_draft), (account, draft))
    ]
    assert [outcome(future) for future in futures] == ["sent", "service_unavailable", "sent"]
    assert (stored(account, draft), stored(other, other_draft)) == (2, 0)
    drop_account(other)


@pytest.mark.logs_errors
def test_a_thread_outlives_a_bug(
    batcher: SendBatcher, place: tuple[Account, Draft], monkeypatch: pytest.MonkeyPatch
) -> None:
    account, draft = place
    card = tenant_card(account.tenant)

    def broken(batch: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(batcher, "_commit", broken)
        assert outcome(batcher.submit(card, draft, via="socket")) == "service_unavailable"
    assert outcome(batcher.submit(card, draft, via="socket")) == "sent"


def test_a_sender_who_gave_up_in_time_sends_nothing(place: tuple[Account, Draft]) -> None:
    account, draft = place
    idle = SendBatcher(threads=0)
    futures = [idle.submit(tenant_card(account.tenant), draft, via="socket") for _ in range(2)]
    assert futures[0].cancel()
    batch, closing = idle._gather()
    assert ([waiting.outcome for waiting in batch], closing) == ([futures[1]], False)


def test_closing_finishes_what_waits_and_refuses_the_rest(
    place: tuple[Account, Draft], monkeypatch: pytest.MonkeyPatch
) -> None:
    account, draft = place
    card = tenant_card(account.tenant)
    working = SendBatcher(threads=2)
    futures = [working.submit(card, draft, via="socket") for _ in range(20)]
    working.close(timeout_s=20)
    assert [outcome(future) for future in futures] == ["sent"] * 20
    with pytest.raises(ServiceUnavailable):
        working.submit(card, draft, via="socket")

    monkeypatch.setattr(batching, "MAX_WAITING", 3)
    stuck = SendBatcher(threads=0)
    futures = [stuck.submit(card, draft, via="socket") for _ in range(3)]
    with pytest.raises(ServiceUnavailable):
        stuck.submit(card, draft, via="socket")
    stuck.close(timeout_s=0.1)
    assert [outcome(future) for future in futures] == ["service_unavailable"] * 3
    assert stored(account, draft) == 20
