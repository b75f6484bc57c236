"""The law of the feed: as sets it is all conversations' logs together, in order within each, without a hole, and what a
reader has passed never changes behind them; whoever writes, numbers and reads at the same time, and whatever dies."""

import contextlib
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from messaging.models import Conversation, ConversationEvent, Message
from messaging.tasks import number_feeds
from tenants import feed
from tenants.models import Feed, OutboxEvent
from tenants.postgresql.base import DatabaseWrapper
from tenants.scope import tenant_scope
from tests.accounts import Account, draft, drop_account, open_test_account
from tests.e2e.client import SOAK
from tests.threads import at_once

SEEDS = range(max(3, int(3 * SOAK)))

Place = tuple[str, int, str]


def whole_log(account: Account) -> dict[str, list[tuple[int, str]]]:
    """Every conversation's log from its tables, in order of seq."""
    found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    with tenant_scope(account):
        for conversation_id, seq in Message.objects.values_list("conversation_id", "seq"):
            found[str(conversation_id)].append((seq, "new_message"))
        for conversation_id, seq, type_ in ConversationEvent.objects.values_list("conversation_id", "seq", "type"):
            found[str(conversation_id)].append((seq, type_))
        last = dict(Conversation.objects.values_list("id", "last_seq"))
    logs = {name: sorted(log) for name, log in found.items()}
    for conversation_id, last_seq in last.items():
        assert [seq for seq, _ in logs.get(str(conversation_id), [])] == list(range(1, last_seq + 1))
    return logs


def read_on(account: Account, cursor: str | None, limit: int) -> tuple[list[Place], str]:
    query: dict[str, Any] = {"limit": limit} if cursor is None else {"limit": limit, "after": cursor}
    answer = account.api.get("/events", query)
    items = [(item["conversationId"], item["data"]["seq"], item["type"]) for item in answer.data]
    return items, answer.pagination["nextCursor"]


def read_all(account: Account, cursor: str | None = None) -> list[Place]:
    seen: list[Place] = []
    while True:
        items, cursor = read_on(account, cursor, 200)
        seen += items
        if not items:
            return seen


def the_law_holds(account: Account, seen: list[Place]) -> None:
    by_conversation: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for conversation, seq, type_ in seen:
        by_conversation[conversation].append((seq, type_))
    assert by_conversation == whole_log(account)
    numbers = OutboxEvent.objects.filter(tenant_id=account.id, seq__isnull=False).order_by("feed_seq")
    assert list(numbers.values_list("feed_seq", flat=True)) == list(range(1, len(seen) + 1))
    assert Feed.objects.get(pk=account.id).last_seq == len(seen)


def rename(account: Account, room: Any, title: str) -> None:
    """Unlike a send it takes nothing that writers in other rooms need: the month's quota is one row."""
    answer = account.api.patch(f"/conversations/{room['id']}", {"title": title})
    assert answer.status == 200, answer.body


class Writer:
    """Does things in rooms that others write in as well, by a seed."""

    def __init__(self, account: Account, rooms: list[Any], users: list[Any], seed: int, steps: int) -> None:
        self.account, self.rooms, self.users, self.steps = account, rooms, users, steps
        self.random = random.Random(seed)
        self.done = 0

    def run(self) -> None:
        for _ in range(self.steps):
            room, user = self.random.choice(self.rooms), self.random.choice(self.users)
            act = self.random.choice([self.say, self.say, self.say, self.rename, self.react, self.come_and_go])
            with contextlib.suppress(_Died):
                act(room, user)
            self.done += 1

    def say(self, room: Any, user: Any) -> Any:
        answer = self.account.api.post("/messages/send", draft(room, user, str(self.random.random())))
        assert answer.status == 200, answer.body
        return answer.data

    def rename(self, room: Any, _user: Any) -> None:
        rename(self.account, room, str(self.random.random()))

    def react(self, room: Any, user: Any) -> None:
        message = self.say(room, user)
        answer = self.account.api.acting_as(user["id"]).post(f"/messages/{message['id']}/reactions", {"name": "👍"})
        assert answer.status in {200, 201}

    def come_and_go(self, room: Any, _user: Any) -> None:
        guest = self.account.user()
        path = f"/conversations/{room['id']}/participants"
        assert self.account.api.post(path, {"participantIds": [guest["id"]]}).status == 200
        assert self.account.api.delete(f"{path}/{guest['id']}").status in {200, 204}


class _Died(Exception):
    """A process ended in the middle of a transaction."""


@pytest.fixture
def slow_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions that wrote last do not commit last: each waits for a random time between its last statement and its
    commit."""
    waits = random.Random(1)
    committed = DatabaseWrapper.commit

    def slowly(self: DatabaseWrapper) -> None:
        time.sleep(waits.random() * 0.03)
        committed(self)

    monkeypatch.setattr(DatabaseWrapper, "commit", slowly)


@pytest.mark.usefixtures("slow_commits")
@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_writes_numbers_and_reads_at_once(committed_tenant: Account, seed: int) -> None:
    account = committed_tenant
    users = account.users(3)
    rooms = [account.conversation(*users) for _ in range(3)]
    writers = [Writer(account, rooms, users, seed * 100 + number, steps=12) for number in range(4)]
    written = threading.Event()
    views: list[list[Place]] = [[], []]

    def sequence() -> None:
        while not written.is_set():
            number_feeds()

    def read(view: list[Place], limit: int) -> None:
        cursor: str | None = None
        while True:
            last = written.is_set()
            items, cursor = read_on(account, cursor, limit)
            view += items
            if last and not items:
                return

    def write_all() -> None:
        try:
            at_once(*[writer.run for writer in writers], within_s=120)
        finally:
            written.set()

    at_once(
        write_all,
        sequence,
        sequence,
        lambda: read(views[0], 1 + seed % 7),
        lambda: read(views[1], 200),
        within_s=180,
    )
    assert [writer.done for writer in writers] == [12] * 4
    final = read_all(account)
    the_law_holds(account, final)
    assert views == [final, final], "nobody who read along saw a hole, or anything moved"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_commit_out_of_order_is_not_missed(committed_tenant: Account, seed: int) -> None:
    """Writers in rooms of their own take ids in one order and commit in another; a reader reads between all of it."""
    account, dice = committed_tenant, random.Random(seed)
    users = account.users(1)
    rooms = [account.conversation(*users) for _ in range(6)]
    turns = [threading.Event() for _ in rooms]
    written, committed_now = threading.Semaphore(0), threading.Semaphore(0)
    order = dice.sample(range(len(rooms)), len(rooms))

    def write(number: int) -> None:
        with transaction.atomic():
            rename(account, rooms[number], str(number))
            written.release()
            assert turns[number].wait(60)
        committed_now.release()

    views: list[list[Place]] = []

    def conduct() -> None:
        cursor: str | None = None
        for _ in rooms:
            assert written.acquire(timeout=60)
        seen: list[Place] = []
        for number in order:
            turns[number].set()
            assert committed_now.acquire(timeout=60)
            items, cursor = read_on(account, cursor, dice.choice([1, 3, 200]))
            assert [item[0] for item in items] == [rooms[number]["id"]], "at once, and behind what was read before"
            seen += items
        views.append(seen)

    at_once(conduct, *[lambda number=number: write(number) for number in range(len(rooms))], within_s=90)
    assert views == [read_all(account)]
    the_law_holds(account, views[0])
    ids = dict(OutboxEvent.objects.filter(tenant_id=account.id).values_list("conversation_id", "id"))
    in_the_feed = [ids[UUID(place[0])] for place in views[0]]
    assert in_the_feed == [ids[UUID(rooms[number]["id"])] for number in order]


def test_who_is_in_the_middle_of_writing_holds_up_nobody_else(committed_tenant: Account) -> None:
    account = committed_tenant
    (user,) = account.users(1)
    slow, quick = account.conversation(user), account.conversation(user)
    written, go_on = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with transaction.atomic():
            rename(account, slow, "slow")
            written.set()
            assert go_on.wait(60)

    def write_and_read() -> list[Place]:
        try:
            assert written.wait(60)
            account.message(quick, user, "quick")
            return read_all(account)
        finally:
            go_on.set()

    _, seen = at_once(write_slowly, write_and_read)
    assert seen == [(quick["id"], 1, "new_message")]
    assert read_all(account) == [*seen, (slow["id"], 1, "conversation_updated")]


def test_a_sequencer_that_dies_before_its_commit_leaves_nothing(committed_tenant: Account) -> None:
    account = committed_tenant
    (user,) = account.users(1)
    room = account.conversation(user)
    account.messages(room, user, 5)

    def die() -> None:
        with contextlib.suppress(_Died), transaction.atomic():
            assert feed.number(account.id, limit=3) == 3
            raise _Died

    at_once(die)
    assert not OutboxEvent.objects.filter(tenant_id=account.id, feed_seq__isnull=False).exists()
    assert not Feed.objects.filter(pk=account.id).exists()
    account.messages(room, user, 5)
    assert number_feeds() == 10, "what was committed while no sequencer lived"
    the_law_holds(account, read_all(account))


def test_a_backend_that_is_killed_in_the_middle_is_no_loss(committed_tenant: Account) -> None:
    """The connection of a sequencer is ended by the server while it holds the lock and has numbered."""
    account = committed_tenant
    (user,) = account.users(1)
    room = account.conversation(user)
    account.messages(room, user, 4)
    numbered, killed = threading.Event(), threading.Event()
    backend: list[int] = []

    def sequence() -> str:
        try:
            with transaction.atomic():
                feed.number(account.id, limit=2)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    backend.append(cursor.fetchone()[0])
                numbered.set()
                assert killed.wait(30)
        except Exception as error:
            return type(error).__name__
        return "committed"

    def kill() -> str:
        assert numbered.wait(30)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend[0]])
        killed.set()
        return ""

    outcome, _ = at_once(sequence, kill)
    assert outcome in {"OperationalError", "InterfaceError"}
    seen = read_all(account)
    assert [seq for _, seq, _ in seen] == [1, 2, 3, 4]
    the_law_holds(account, seen)


def test_rows_from_before_the_feed_are_numbered_in_batches(
    committed_tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = committed_tenant
    (user,) = account.users(1)
    rooms = [account.conversation(user) for _ in range(2)]
    for number in range(20):
        account.message(rooms[number % 2], user)
    monkeypatch.setattr(feed, "NUMBERED_AT_ONCE", 7)
    assert number_feeds() == 20
    the_law_holds(account, read_all(account))


def test_many_sequencers_number_each_row_once(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account = committed_tenant
    (user,) = account.users(1)
    room = account.conversation(user)
    account.messages(room, user, 30)
    monkeypatch.setattr(feed, "NUMBERED_AT_ONCE", 4)
    counts = at_once(*[number_feeds] * 4, *[lambda: feed.number(account.id, limit=5)] * 3)
    assert sum(counts) + number_feeds() == 30
    the_law_holds(account, read_all(account))


@pytest.fixture
def second_tenant(committed: None) -> Iterator[Account]:
    account = open_test_account()
    yield account
    drop_account(account)


def test_the_duty_sees_to_every_tenant_and_passes_over_the_busy(
    committed_tenant: Account, second_tenant: Account
) -> None:
    for account in (committed_tenant, second_tenant):
        (user,) = account.users(1)
        account.messages(account.conversation(user), user, 3)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            assert feed.number(committed_tenant.id, limit=1) == 1
            held.set()
            assert done.wait(30)

    def sweep() -> int:
        assert held.wait(30)
        try:
            return number_feeds()
        finally:
            done.set()

    _, numbered = at_once(hold, sweep)
    assert numbered == 3, "the other tenant's; it does not wait"
    assert number_feeds() == 2
    for account in (committed_tenant, second_tenant):
        the_law_holds(account, read_all(account))


def test_the_duty_stops_when_its_time_is_over(committed_tenant: Account) -> None:
    (user,) = committed_tenant.users(1)
    committed_tenant.messages(committed_tenant.conversation(user), user, 3)
    assert feed.number_waiting(budget_s=0) == 0
    assert feed.backlog() == 3
    assert feed.number_waiting(budget_s=5) == 3
    assert feed.backlog() == 0
