"""Texts that are made to hurt search, and clocks that hide a change from it."""

import threading
import tracemalloc

import pytest

from messaging.models import Message, SearchEntry
from messaging.queries import indexing as queries
from messaging.queries.indexing import IndexedAs
from messaging.search import vectors, words
from messaging.search.highlights import MAX_SNIPPET, highlights
from messaging.search.words import MAX_CLUSTER, MAX_TEXT, find_all, tokens, wanted
from messaging.services.indexing import index_messages
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.threads import at_once

pytestmark = pytest.mark.core

# Normalising sorts marks by their class, each over all that stand before it.
MARKS = "a" + "\u0301" * (MAX_TEXT // 2) + "\u0327" * (MAX_TEXT // 2 - 1)


def test_no_text_is_normalised_in_more_than_short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0
    folded = words._folded

    def measured(cluster: str) -> object:
        nonlocal longest
        longest = max(longest, len(cluster))
        return folded(cluster)

    monkeypatch.setattr(words, "_folded", measured)
    for text in (MARKS, "\u1100" + "\u1161" * (MAX_TEXT - 1), "\uff76" + "\uff9e" * (MAX_TEXT - 1)):
        longest = 0
        assert list(tokens(text))
        assert longest == MAX_CLUSTER


def test_a_text_of_marks_is_still_found_by_itself() -> None:
    text = f"{MARKS[:150]} word"
    assert find_all(wanted(text), {"text": text}) == {"text": [(0, 150), (151, 155)]}
    assert find_all(wanted("word"), {"text": text}) == {"text": [(151, 155)]}


def test_what_is_remembered_of_texts_stays_small() -> None:
    words._folded.cache_clear()
    tracemalloc.start()
    for number in range(20):
        vectors.vector(["a" + "\u0301" * (MAX_TEXT - 1 - number)], [])
    remembered, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert remembered < 2_000_000


@pytest.mark.parametrize("query", ["哈", "哈" * 200])
def test_a_snippet_is_short_where_a_match_is_not(query: str) -> None:
    (one,) = highlights(wanted(query), {"text": "好" * 100 + "哈" * (MAX_TEXT - 100)}) or []
    assert one.text == "好" * 40 + "哈" * (max(160, min(MAX_SNIPPET, MAX_TEXT)) - 40)
    assert one.ranges == ((40, len(one.text) - 40),)


def test_a_change_is_noticed_although_its_time_is_the_same(committed_tenant: Account) -> None:
    """The log's time never goes back: it stands still while the clock of this server is behind the last one's."""
    account = committed_tenant
    ada = account.user()
    sent = account.message(account.conversation(ada), ada, "canary")
    with tenant_scope(account):
        (read,) = queries.read_messages([sent["id"]])
    with tenant_scope(account):
        changed = Message.objects.filter(pk=sent["id"])
        at = changed.get().updated_at
        changed.update(content={}, deleted_at=at, updated_at=at)
    with tenant_scope(account):
        assert queries.write_entries([IndexedAs(read.id, read.version, "'canary'")]) == set()
        assert SearchEntry.objects.count() == 0
        assert index_messages([sent["id"]]) == set()
        assert SearchEntry.objects.count() == 0


def test_a_change_that_commits_while_the_indexer_waits_to_write_is_noticed(committed_tenant: Account) -> None:
    account = committed_tenant
    ada = account.user()
    room = account.conversation(ada)
    sent = account.message(room, ada, "canary")
    read_it, changed_it = threading.Event(), threading.Event()

    def index() -> None:
        with tenant_scope(account):
            (read,) = queries.read_messages([sent["id"]])
            read_it.set()
            assert changed_it.wait(10)
            assert queries.write_entries([IndexedAs(read.id, read.version, "'canary'")]) == set()

    def delete() -> None:
        assert read_it.wait(10)
        assert account.api.delete(f"/messages/{sent['id']}").status == 200
        changed_it.set()

    at_once(index, delete)
    with tenant_scope(account):
        assert SearchEntry.objects.count() == 0
