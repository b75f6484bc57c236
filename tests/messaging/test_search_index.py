"""The index of words against PostgreSQL itself: whatever the text, and whatever else happens to the message."""

import random
import threading
from collections import Counter
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.models import Message, SearchEntry
from messaging.ports import UnknownPresence
from messaging.search import vectors
from messaging.search.words import MAX_TEXT, find_all, wanted
from messaging.services.indexing import index_messages as index_now
from messaging.tasks import index_messages, sweep_outbox
from tenants import outbox
from tenants.models import OutboxEvent
from tenants.outbox import Mark
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.laws import examples
from tests.ports import FixedPresence
from tests.threads import at_once, times

pytestmark = pytest.mark.core

ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=120)
# Few different characters, so that pairs repeat and runs meet in many ways.
REPETITIVE = st.text("中文字 a，", max_size=600)


def matches(vector: str, query: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::tsvector @@ %s::tsquery", [vector, query])
        return bool(cursor.fetchone()[0])


@pytest.mark.usefixtures("tenant")
@given(ANY)
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_vector_that_its_own_query_finds(ran: Counter[str], text: str) -> None:
    ran["texts given to tsvector"] += 1
    vector = vectors.vector([text], ["\x01t"])
    asked = wanted(text)
    assert (vector is None) is (not asked)
    if vector is not None:
        assert matches(vector, vectors.query(asked, ["\x01t", "\x01other"]))
        assert not matches(vector, vectors.query(asked, ["\x01other"]))


@pytest.mark.usefixtures("tenant")
@given(REPETITIVE, st.text("中文字", min_size=1, max_size=6))
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_index_finds_just_what_the_text_holds(ran: Counter[str], text: str, run: str) -> None:
    ran["runs looked for"] += 1
    vector = vectors.vector([text], [])
    if vector is None:
        return
    found = matches(vector, vectors.query(wanted(run)))
    if "'\x01p'" in vector:
        assert found or run not in text, "too much may be found then, too little never"
    else:
        assert found is (run in text)


@pytest.mark.usefixtures("tenant")
def test_the_longest_and_worst_texts_fit() -> None:
    random.seed(3)
    worst = [
        "".join(chr(random.randrange(0x20000, 0x2A6DF)) for _ in range(MAX_TEXT)),
        "".join(chr(random.randrange(0x4E00, 0x9FA5)) for _ in range(MAX_TEXT)),
        "中" * MAX_TEXT,
        "文字" * (MAX_TEXT // 2),
        "\ufdfa" * MAX_TEXT,
        "㌀㌁" * (MAX_TEXT // 2),
        "a" * MAX_TEXT,
        "\U0001d400" * MAX_TEXT,
        " ".join(str(number) for number in range(4_000)),
        "'\\" * (MAX_TEXT // 2) + "x",
    ]
    for text in worst:
        vector = vectors.vector([text], [])
        assert vector is not None
        for end in (text[-3:], text[:3], text[9_000:9_009]):
            if wanted(end):
                held = find_all(wanted(end), {"text": text}) is not None
                assert matches(vector, vectors.query(wanted(end))) or not held


def test_the_index_of_words_keeps_a_short_list_of_pending_entries(tenant: Account) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.reloptions FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = 'search_by_terms'",
            [tenant.schema_name],
        )
        ((options,),) = cursor.fetchall()
    assert set(options) == {"fastupdate=on", "gin_pending_list_limit=512"}


# --- the sweep ------------------------------------------------------------------------------------------------------


def entries(tenant: Account) -> set[str]:
    with tenant_scope(tenant):
        return {str(one) for one in SearchEntry.objects.values_list("message_id", flat=True)}


def test_search_does_not_wait_for_presence_nor_notifications_for_search(
    tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = tenant.users(2)
    sent = tenant.message(tenant.conversation(ada, bob), ada, "words")
    with monkeypatch.context() as patched:
        patched.setattr(FixedPresence, "presence_of", UnknownPresence.presence_of)
        assert sweep_outbox() == 0
        assert outbox.backlog(Mark.INDEXED) == outbox.backlog() == 2
        assert index_messages() == 2
    assert entries(tenant) == {sent["id"]}
    assert (outbox.backlog(Mark.INDEXED), outbox.backlog()) == (0, 2)
    assert sweep_outbox() == 2
    assert index_messages() == 0


def test_an_entry_holds_what_decides_who_finds_it(tenant: Account) -> None:
    ada = tenant.user()
    sent = tenant.message(tenant.conversation(ada), ada, "words")
    index_messages()
    with tenant_scope(tenant):
        (entry,) = SearchEntry.objects.all()
        message = Message.objects.get(pk=sent["id"])
        assert (entry.conversation_id, entry.seq, entry.sender_id, entry.created_at) == (
            message.conversation_id,
            message.seq,
            message.sender_id,
            message.created_at,
        )


def test_what_fails_is_done_again(tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = tenant.user()
    sent = tenant.message(tenant.conversation(ada), ada, "words")

    def fail(*_: Any) -> str:
        raise RuntimeError("crash")

    with monkeypatch.context() as patched:
        patched.setattr(vectors, "vector", fail)
        with pytest.raises(RuntimeError):
            index_messages()
    assert entries(tenant) == set()
    assert index_messages() == 2
    assert entries(tenant) == {sent["id"]}
    OutboxEvent.objects.filter(tenant_id=tenant.id).update(indexed_at=None)
    assert index_messages() == 2, "doing it twice changes nothing"
    assert entries(tenant) == {sent["id"]}


def test_an_edit_to_nothing_searchable_removes_the_entry(tenant: Account) -> None:
    ada = tenant.user()
    sent = tenant.message(tenant.conversation(ada), ada, "words")
    index_messages()
    tenant.api.patch(f"/messages/{sent['id']}", {"content": {"text": "🎉"}})
    index_messages()
    assert entries(tenant) == set()
    tenant.api.patch(f"/messages/{sent['id']}", {"content": {"text": "again"}})
    index_messages()
    assert entries(tenant) == {sent["id"]}


def test_a_deleted_conversation_leaves_no_entry(tenant: Account) -> None:
    ada = tenant.user()
    gone, kept = tenant.conversation(ada), tenant.conversation(ada)
    tenant.message(gone, ada)
    sent = tenant.message(kept, ada)
    index_messages()
    assert tenant.api.delete(f"/conversations/{gone['id']}").status == 200
    assert entries(tenant) == {sent["id"]}
    OutboxEvent.objects.filter(tenant_id=tenant.id).update(indexed_at=None)
    index_messages()
    assert entries(tenant) == {sent["id"]}


# --- at the same moment ---------------------------------------------------------------------------------------------

GONE = {
    "message": lambda account, scene: account.api.delete(f"/messages/{scene[2]['id']}"),
    "erasure": lambda account, scene: account.api.delete(f"/users/{scene[0]['id']}", {"messages": "erase"}),
    "conversation": lambda account, scene: account.api.delete(f"/conversations/{scene[1]['id']}"),
}


def _scene(account: Account) -> tuple[Any, Any, Any]:
    ada = account.user()
    room = account.conversation(ada)
    return ada, room, account.message(room, ada, "canary")


@pytest.mark.parametrize("how", GONE)
def test_who_deletes_waits_for_the_indexer_and_takes_its_entry_along(committed_tenant: Account, how: str) -> None:
    account = committed_tenant
    scene = _scene(account)
    written, gone = threading.Event(), threading.Event()

    def index() -> None:
        with tenant_scope(account):
            assert index_now([scene[2]["id"]]) == set()
            assert SearchEntry.objects.count() == 1
            written.set()
            assert not gone.wait(1), "the deletion overtook the indexer"

    def delete() -> None:
        assert written.wait(10)
        assert GONE[how](account, scene).status == 200
        gone.set()

    at_once(index, delete)
    assert gone.is_set()
    assert entries(account) == set()


@pytest.mark.parametrize("how", GONE)
def test_the_indexer_passes_by_what_is_being_deleted(committed_tenant: Account, how: str) -> None:
    account = committed_tenant
    scene = _scene(account)
    deleted, indexed = threading.Event(), threading.Event()

    def delete() -> None:
        with transaction.atomic():
            assert GONE[how](account, scene).status == 200
            deleted.set()
            assert indexed.wait(10)

    def index() -> None:
        assert deleted.wait(10)
        index_messages()
        with transaction.atomic():
            mine = OutboxEvent.objects.filter(tenant_id=account.id, indexed_at=None)
            assert [row.type for row in mine] == ["new_message"], "it is not done with it"
        indexed.set()

    at_once(index, delete)
    index_messages()
    assert entries(account) == set()
    assert not OutboxEvent.objects.filter(tenant_id=account.id, indexed_at=None).exists()


def test_many_indexers_and_editors_end_with_the_last_words(committed_tenant: Account) -> None:
    account = committed_tenant
    ada = account.user()
    room = account.conversation(ada)
    sent = account.messages(room, ada, 20)

    def act(number: int) -> None:
        if number % 2:
            for _ in range(10):
                index_messages()
            return
        for round_ in range(3):
            for message in sent[number // 2 :: 3]:
                changed = account.api.patch(
                    f"/messages/{message['id']}", {"content": {"text": f"word{round_} by{number}"}}
                )
                assert changed.status == 200

    times(6, act)
    while index_messages():
        pass
    with tenant_scope(account):
        for message in Message.objects.all():
            entry = SearchEntry.objects.get(pk=message.pk)
            assert all(f"'{word}'" in entry.terms for word in message.content["text"].split())
            assert "'message'" not in entry.terms
