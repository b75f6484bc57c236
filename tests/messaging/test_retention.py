"""Retention: what is too old goes, exactly; what is left behaves as if it had been all there ever was."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from messaging import tasks
from messaging.models import (
    Conversation,
    ConversationEvent,
    File,
    Message,
    MessageFile,
    MessageReport,
    MessageRevision,
    Notification,
    PinnedMessage,
    Reaction,
    SearchEntry,
)
from messaging.queries import retention as queries
from messaging.queries.unread import recount, unread_counts
from messaging.services import retention
from messaging.services.reading import standing
from messaging.services.retention import Purged
from messaging.services.verification import verify_unread
from messaging.tasks import sweep_outbox
from quotas.services.accounts import change_plan
from tenants.cards import TenantCard
from tenants.models import OutboxEvent
from tenants.scope import tenant_scope
from tenants.services.authentication import tenant_card
from tests.accounts import Account, draft
from tests.logs import log_between
from tests.snapshots import contents
from tests.threads import at_once

pytestmark = pytest.mark.core

DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


def card(tenant: Account) -> TenantCard:
    return tenant_card(tenant.tenant)


def age(tenant: Account, room: dict[str, Any], by: timedelta, *, up_to: int = 2**62) -> None:
    """Makes what a conversation's log has up to a seq older: as if `by` had passed since."""
    with tenant_scope(tenant), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE messaging_message SET created_at = created_at - %s, recorded_at = recorded_at - %s "
            "WHERE conversation_id = %s AND seq <= %s",
            [by, by, room["id"], up_to],
        )
        cursor.execute(
            "UPDATE messaging_conversationevent SET recorded_at = recorded_at - %s "
            "WHERE conversation_id = %s AND seq <= %s",
            [by, room["id"], up_to],
        )
        cursor.execute("UPDATE messaging_conversation SET oldest_at = oldest_at - %s WHERE id = %s", [by, room["id"]])


def purge(tenant: Account, days: int = 30) -> Purged:
    at = now()
    return retention.purge(tenant.tenant, cutoff=at - days * DAY, now=at)


def seqs(tenant: Account, room: dict[str, Any]) -> list[int]:
    """What is physically left of the log."""
    with tenant_scope(tenant):
        messages = Message.objects.filter(conversation_id=room["id"]).values_list("seq", flat=True)
        events = ConversationEvent.objects.filter(conversation_id=room["id"]).values_list("seq", flat=True)
        return sorted([*messages, *events])


def row(tenant: Account, room: dict[str, Any]) -> Conversation:
    with tenant_scope(tenant):
        return Conversation.objects.get(pk=room["id"])


def the_unread_law_holds(tenant: Account, room: dict[str, Any]) -> dict[UUID, int]:
    conversation_id = UUID(room["id"])
    with tenant_scope(tenant):
        counted = recount(conversation_id)
        shown = {user: unread_counts(user, [conversation_id])[conversation_id] for user in counted}
    assert shown == counted
    assert [checked.drifts for checked in verify_unread(tenant.tenant, repair=False) if checked.drifts] == []
    return shown


class Scene:
    """A group of three with ten messages (seq 1-10) and a rename between (11), then five messages (12-16)."""

    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.ada, self.bob, self.cyd = tenant.users(3)
        self.room = tenant.conversation(self.ada, self.bob, self.cyd)
        self.path = f"/conversations/{self.room['id']}"
        self.old = tenant.messages(self.room, self.ada, 10)
        tenant.api.patch(self.path, {"title": "renamed"})
        self.new = tenant.messages(self.room, self.bob, 5)

    def as_(self, who: dict[str, Any]) -> Any:
        return self.tenant.api.acting_as(who["id"])

    def expire(self, up_to: int = 11) -> None:
        age(self.tenant, self.room, 31 * DAY, up_to=up_to)


@pytest.fixture
def scene(tenant: Account) -> Scene:
    return Scene(tenant)


# --- what goes ------------------------------------------------------------------------------------------------------


def test_the_prefix_goes_and_the_suffix_stays(tenant: Account, scene: Scene) -> None:
    scene.expire()
    assert purge(tenant) == Purged(conversations=1, messages=10, events=1)
    assert seqs(tenant, scene.room) == [12, 13, 14, 15, 16]
    left = row(tenant, scene.room)
    assert (left.purged_seq, left.purged_count, left.message_count, left.last_seq) == (11, 10, 15, 16)
    assert left.oldest_at > now() - DAY
    shown = tenant.api.get(scene.path).data
    assert (shown["messageCount"], shown["lastSeq"]) == (5, 16)
    assert shown["lastMessage"]["id"] == scene.new[-1]["id"]


def test_nothing_old_means_nothing_done(tenant: Account, scene: Scene) -> None:
    before = contents(tenant)
    assert purge(tenant) == Purged()
    assert contents(tenant) == before


def test_doing_it_twice_does_nothing_more(tenant: Account, scene: Scene) -> None:
    scene.expire()
    purge(tenant)
    before = contents(tenant)
    assert purge(tenant) == Purged()
    assert contents(tenant) == before


def test_the_whole_log_may_go(tenant: Account, scene: Scene) -> None:
    scene.expire(up_to=16)
    assert purge(tenant) == Purged(conversations=1, messages=15, events=1)
    shown = scene.as_(scene.ada).get(scene.path).data
    assert (shown["messageCount"], shown["lastSeq"], shown["lastMessage"]) == (0, 16, None)
    assert shown["lastMessageAt"] is not None
    assert shown["membership"]["unreadCount"] == 0
    assert (shown["membership"]["lastReadSeq"], shown["membership"]["visibleFromSeq"]) == (16, 17)
    sent = tenant.message(scene.room, scene.ada)
    assert (sent["seq"], sent["messageIndex"]) == (17, 16)
    assert scene.as_(scene.bob).get(scene.path).data["membership"]["unreadCount"] == 1
    history = tenant.api.get(f"/messages/conversations/{scene.room['id']}")
    assert [message["seq"] for message in history.data["messages"]] == [17]
    assert (history.data["pagination"]["total"], history.data["pagination"]["hasMore"]) == (1, False)
    the_unread_law_holds(tenant, scene.room)


def test_an_empty_conversation_is_left_alone_until_it_can_be_due(tenant: Account, scene: Scene) -> None:
    scene.expire(up_to=16)
    purge(tenant)
    with tenant_scope(tenant):
        assert [one.id for one in queries.candidates(now() - DAY, after=None, limit=9)] == []


@pytest.mark.parametrize("up_to", range(17))
def test_every_edge(tenant: Account, scene: Scene, up_to: int) -> None:
    if up_to:
        scene.expire(up_to)
    purge(tenant)
    assert seqs(tenant, scene.room) == list(range(up_to + 1, 17))
    the_unread_law_holds(tenant, scene.room)
    log = log_between(card(tenant), UUID(scene.room["id"]), 1, 16)
    assert [entry.seq for entry in log] == list(range(up_to + 1, 17))


def test_what_hangs_on_a_message_goes_with_it(tenant: Account, scene: Scene) -> None:
    first, last = scene.old[0], scene.new[-1]
    for message, author in ((first, scene.ada), (last, scene.bob)):
        upload = scene.as_(author).raw("POST", "/files", b"bytes", content_type="image/png", query={"name": "a.png"})
        linked = tenant.message(scene.room, author, type="image", content={"fileId": upload.data["id"]})
        tenant.api.patch(f"/messages/{message['id']}", {"content": {"text": "edited"}})
        scene.as_(scene.cyd).post(f"/messages/{message['id']}/reactions", {"name": "👍"})
        tenant.api.put(f"/messages/{message['id']}/pin")
        if author is scene.ada:
            boundary = tenant.api.get(scene.path).data["lastSeq"]
        with tenant_scope(tenant):
            MessageReport.objects.create(
                message_id=message["id"], reporter_id=scene.cyd["id"], reason="spam", created_at=now()
            )
            SearchEntry.objects.create(
                message_id=message["id"], conversation_id=scene.room["id"], seq=1, created_at=now(), terms=""
            )
        assert linked is not None
    # The second half is the newer one: put it behind the boundary.
    sweep_outbox()
    age(tenant, scene.room, 31 * DAY, up_to=boundary)
    tables = (Reaction, MessageRevision, PinnedMessage, Notification, MessageReport, SearchEntry, MessageFile)
    with tenant_scope(tenant):
        files = File.objects.count()
        assert all(table.objects.exists() for table in tables)
    purge(tenant)
    with tenant_scope(tenant):
        kept = set(Message.objects.values_list("id", flat=True))
        for table in tables:
            assert set(table.objects.values_list("message_id", flat=True)) <= kept, table
        assert (files, File.objects.count()) == (2, 1)


def test_counts_of_the_month_and_of_others_stay(tenant: Account, scene: Scene) -> None:
    other = tenant.conversation(scene.ada, scene.bob)
    tenant.messages(other, scene.ada, 3)
    scene.expire()
    used = tenant.api.get("/usage").data["messages"]["current"]
    promised = OutboxEvent.objects.filter(tenant_id=tenant.id).count()
    purge(tenant)
    assert tenant.api.get("/usage").data["messages"]["current"] == used == 18
    assert OutboxEvent.objects.filter(tenant_id=tenant.id).count() == promised
    assert seqs(tenant, other) == [1, 2, 3]


# --- what is left ---------------------------------------------------------------------------------------------------


def test_unread_counts_are_those_of_what_is_left(tenant: Account, scene: Scene) -> None:
    scene.as_(scene.cyd).post(f"{scene.path}/read", {"seq": 13})
    own = tenant.message(scene.room, scene.ada)
    scene.as_(scene.ada).post(f"{scene.path}/unread", {"messageId": scene.old[2]["id"]})
    the_unread_law_holds(tenant, scene.room)
    scene.expire()
    purge(tenant)
    counts = the_unread_law_holds(tenant, scene.room)
    # ada had gone back: five of bob's are left, her own does not count; bob has ada's one, cyd those after 13
    assert counts == {UUID(scene.ada["id"]): 5, UUID(scene.bob["id"]): 1, UUID(scene.cyd["id"]): 4}
    assert own["seq"] == 17
    scene.as_(scene.ada).post(f"{scene.path}/unread", {"messageId": scene.new[0]["id"]})
    assert the_unread_law_holds(tenant, scene.room)[UUID(scene.ada["id"])] == 5
    place = scene.as_(scene.ada).get(scene.path).data["membership"]
    assert (place["lastReadSeq"], place["visibleFromSeq"]) == (11, 12)


def test_a_message_that_is_gone_is_not_found(tenant: Account, scene: Scene) -> None:
    reply = tenant.message(scene.room, scene.bob, replyToId=scene.old[0]["id"])
    scene.expire()
    purge(tenant)
    gone, path = scene.old[0]["id"], f"/messages/{scene.old[0]['id']}"
    for caller in (tenant.api, scene.as_(scene.ada)):
        caller.get(path).refuses(404, "message_not_found")
        caller.get(f"{path}/thread").refuses(404, "message_not_found")
    scene.as_(scene.ada).post(f"{path}/reactions", {"name": "👍"}).refuses(404, "message_not_found")
    scene.as_(scene.ada).post(f"{scene.path}/unread", {"messageId": gone}).refuses(404, "message_not_found")
    tenant.api.post("/messages/send", draft(scene.room, scene.ada, replyToId=gone)).refuses(404, "message_not_found")
    kept = tenant.api.get(f"/messages/{reply['id']}").data
    assert (kept["replyToId"], kept["threadId"]) == (gone, gone)
    again = tenant.message(scene.room, scene.ada, replyToId=reply["id"])
    assert again["threadId"] == gone


def test_history_over_the_edge(tenant: Account, scene: Scene) -> None:
    scene.expire()
    purge(tenant)
    path = f"/messages/conversations/{scene.room['id']}"
    for caller in (tenant.api, scene.as_(scene.ada)):
        for query in ({}, {"afterSeq": 0}, {"afterSeq": 5}, {"around": 12}, {"beforeSeq": 17}):
            page = caller.get(path, query).data
            assert [message["seq"] for message in page["messages"]] == [12, 13, 14, 15, 16]
            assert (page["pagination"]["total"], page["pagination"]["hasMore"]) == (5, False)
        assert caller.get(path, {"beforeSeq": 12}).data["messages"] == []
        caller.get(path, {"before": scene.old[3]["id"]}).refuses(404, "message_not_found")


def test_what_is_marked_is_gone_at_once(tenant: Account, scene: Scene) -> None:
    """Between the move of the start and the deletion nobody sees, answers or changes what lies before."""
    tenant.api.put(f"/messages/{scene.old[4]['id']}/pin")
    pinned_at = tenant.api.get(scene.path).data["lastSeq"]
    before = scene.old[0]["id"]
    with tenant_scope(tenant):
        queries.move_start(UUID(scene.room["id"]), queries.Prefix(11, 10))
    assert len(seqs(tenant, scene.room)) == 17
    for path in (f"/messages/{before}", f"/messages/{before}/thread", f"/messages/{before}/revisions"):
        tenant.api.get(path).refuses(404, "message_not_found")
    tenant.api.delete(f"/messages/{before}").refuses(404, "message_not_found")
    tenant.api.patch(f"/messages/{before}", {"content": {"text": "x"}}).refuses(404, "message_not_found")
    tenant.api.post("/messages/send", draft(scene.room, scene.ada, replyToId=before)).refuses(404, "message_not_found")
    assert tenant.api.get(f"{scene.path}/pins").data == []
    history = tenant.api.get(f"/messages/conversations/{scene.room['id']}").data
    assert [message["seq"] for message in history["messages"]] == [12, 13, 14, 15, 16]
    log = log_between(card(tenant), UUID(scene.room["id"]), 1, 17)
    assert [entry.seq for entry in log] == [12, 13, 14, 15, 16, pinned_at]
    assert log[-1].data["message"] is None
    (position,) = standing(card(tenant), UUID(scene.ada["id"])).positions
    assert position.visible_from_seq == 12


def test_the_last_message_is_null_when_it_is_gone(tenant: Account, scene: Scene) -> None:
    tenant.api.patch(scene.path, {"title": "again"})
    scene.expire(up_to=16)
    purge(tenant)
    assert seqs(tenant, scene.room) == [17]
    assert tenant.api.get(scene.path).data["lastMessage"] is None
    (listed,) = scene.as_(scene.bob).get("/conversations").data
    assert (listed["lastMessage"], listed["messageCount"], listed["membership"]["unreadCount"]) == (None, 0, 0)
    assert tenant.api.get(f"/messages/conversations/{scene.room['id']}").data["pagination"]["total"] == 0


# --- plans, commands, tasks -----------------------------------------------------------------------------------------


def run(*options: str) -> list[str]:
    printed = StringIO()
    call_command("purge_messages", *options, stdout=printed)
    return printed.getvalue().splitlines()


def test_the_dry_run_counts_what_a_run_removes(tenant: Account, other_tenant: Account, scene: Scene) -> None:
    scene.expire()
    more = tenant.conversation(scene.ada, scene.bob)
    tenant.messages(more, scene.ada, 4)
    age(tenant, more, 31 * DAY, up_to=3)
    before = contents(tenant, other_tenant)
    expected = "standing: 13 messages, 1 events, 0 contents in 2 conversations"
    nothing = "other: 0 messages, 0 events, 0 contents in 0 conversations"
    said = run("--dry-run")
    assert expected in said
    assert nothing in said
    assert contents(tenant, other_tenant) == before
    assert run("--dry-run", "--tenant", "standing") == [expected]
    assert run("--tenant", "standing") == [expected]
    assert run("--tenant", "standing") == ["standing: 0 messages, 0 events, 0 contents in 0 conversations"]
    with pytest.raises(CommandError, match="no tenant"):
        run("--tenant", "nobody")


def test_each_tenant_keeps_as_long_as_its_plan_says(tenant: Account, other_tenant: Account) -> None:
    rooms = []
    for account in (tenant, other_tenant):
        ada, bob = account.users(2)
        room = account.conversation(ada, bob)
        account.messages(room, ada, 2)
        age(account, room, 40 * DAY, up_to=1)
        rooms.append(room)
    change_plan(tenant=other_tenant.tenant, plan_type="pro")
    tasks.purge_tenant(str(tenant.id))
    tasks.purge_tenant(str(other_tenant.id))
    assert seqs(tenant, rooms[0]) == [2]
    assert seqs(other_tenant, rooms[1]) == [1, 2]
    change_plan(tenant=other_tenant.tenant, overrides={"retention_days": 39})
    tasks.purge_tenant(str(other_tenant.id))
    assert seqs(other_tenant, rooms[1]) == [2]


def test_the_hourly_task_starts_one_for_each_tenant(
    tenant: Account, other_tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(tasks.purge_tenant, "apply_async", lambda arguments, **_: started.extend(arguments))
    tasks.purge_expired()
    assert {str(tenant.id), str(other_tenant.id)} <= set(started)
    assert len(started) == len(set(started))
    tasks.purge_tenant("019a2f53-b8f0-7d26-b3a9-1e5c7d904f62")


def test_a_task_without_time_hands_on(tenant: Account, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.expire()
    started: list[str] = []
    monkeypatch.setattr(tasks.purge_tenant, "apply_async", lambda arguments, **_: started.extend(arguments))
    monkeypatch.setattr(tasks, "PURGE_SECONDS", -1.0)
    tasks.purge_tenant(str(tenant.id))
    assert started == [str(tenant.id)]
    assert len(seqs(tenant, scene.room)) == 16
    monkeypatch.setattr(tasks, "PURGE_SECONDS", 200.0)
    tasks.purge_tenant(str(tenant.id))
    assert (started, seqs(tenant, scene.room)) == ([str(tenant.id)], [12, 13, 14, 15, 16])


def test_a_tenant_is_purged_in_its_own_schema_only(tenant: Account, other_tenant: Account, scene: Scene) -> None:
    ada, bob = other_tenant.users(2)
    room = other_tenant.conversation(ada, bob)
    other_tenant.messages(room, ada, 2)
    age(other_tenant, room, 31 * DAY)
    scene.expire()
    before = contents(other_tenant)
    purge(tenant)
    assert contents(other_tenant) == before


# --- beside others, and killed --------------------------------------------------------------------------------------


class Killed(Exception):
    """The process ends here."""


STEPS = ("move_start", "move_readers", "delete_dependants", "delete_messages", "delete_events", "settle")


@pytest.mark.parametrize("after_calls", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_the_next_run_goes_on(
    committed_tenant: Account, monkeypatch: pytest.MonkeyPatch, step: str, after_calls: int
) -> None:
    """In small batches, so that every step comes several times; with real commits."""
    scene = Scene(committed_tenant)
    scene.expire()
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 3)
    monkeypatch.setattr(retention, "LOCKED_AT_ONCE", 1)
    real: Callable[..., Any] = getattr(queries, step)
    calls = 0

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        result = real(*arguments, **options)
        if calls == after_calls:
            raise Killed
        return result

    monkeypatch.setattr(queries, step, dying)
    try:
        purge(committed_tenant)
    except Killed:
        the_unread_law_holds(committed_tenant, scene.room)
        left = seqs(committed_tenant, scene.room)
        assert left[-5:] == [12, 13, 14, 15, 16]
        dry = retention.count(committed_tenant.tenant, cutoff=now() - 30 * DAY)
        monkeypatch.setattr(queries, step, real)
        done = purge(committed_tenant)
        assert (done.messages + done.events, dry.messages + dry.events) == (len(left) - 5, len(left) - 5)
    assert seqs(committed_tenant, scene.room) == [12, 13, 14, 15, 16]
    assert row(committed_tenant, scene.room).purged_count == 10
    assert row(committed_tenant, scene.room).oldest_at > now() - DAY
    the_unread_law_holds(committed_tenant, scene.room)


def _held_open(monkeypatch: pytest.MonkeyPatch, step: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Stops a purge after a step, inside the transaction of its batch, until the second event is set."""
    reached, go_on = threading.Event(), threading.Event()
    real: Callable[..., Any] = getattr(queries, step)

    def waiting(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        reached.set()
        assert go_on.wait(30)
        return result

    monkeypatch.setattr(queries, step, waiting)
    yield reached, go_on


@pytest.mark.parametrize("step", ["delete_dependants", "delete_messages", "delete_events"])
def test_sends_do_not_wait_for_a_batch(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    scene = Scene(committed_tenant)
    scene.expire()
    ((reached, go_on),) = _held_open(monkeypatch, step)

    def send() -> float:
        assert reached.wait(30)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '300ms'")
            began = datetime.now(UTC)
            for number in range(5):
                answer = committed_tenant.api.post("/messages/send", draft(scene.room, scene.cyd, f"during {number}"))
                assert answer.status == 200
            reader = committed_tenant.user_api(scene.ada)
            assert reader.post(f"{scene.path}/read", {"seq": 20}).status == 200
            assert reader.post(f"/messages/{scene.new[0]['id']}/reactions", {"name": "👍"}).status in {200, 201}
            return (datetime.now(UTC) - began).total_seconds()
        finally:
            go_on.set()

    done, seconds = at_once(lambda: purge(committed_tenant), send)
    assert isinstance(done, Purged)
    assert (done.messages, done.events) == (10, 1)
    assert isinstance(seconds, float)
    assert seq_range(committed_tenant, scene.room) == (12, 22)
    the_unread_law_holds(committed_tenant, scene.room)


def seq_range(tenant: Account, room: dict[str, Any]) -> tuple[int, int]:
    found = seqs(tenant, room)
    assert found == list(range(found[0], found[-1] + 1))
    return found[0], found[-1]


def test_retention_gives_way(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody holds a conversation for long, it is left to a later run, and the others are purged."""
    busy, calm = Scene(committed_tenant), Scene(committed_tenant)
    busy.expire()
    calm.expire()
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)
    monkeypatch.setattr(queries, "WAIT_AT_MOST_MS", 50)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with tenant_scope(committed_tenant):
            queries.lock(UUID(busy.room["id"]))
            held.set()
            assert done.wait(30)

    def run_purge() -> Purged:
        assert held.wait(30)
        try:
            return purge(committed_tenant)
        finally:
            done.set()

    _, purged = at_once(hold, run_purge)
    assert purged == Purged(conversations=1, messages=10, events=1, skipped=1)
    assert len(seqs(committed_tenant, busy.room)) == 16
    assert len(seqs(committed_tenant, calm.room)) == 5
    assert purge(committed_tenant) == Purged(conversations=1, messages=10, events=1)


def test_two_purges_at_once_take_each_message_once(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(committed_tenant)
    scene.expire()
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 2)
    results = at_once(*[lambda: purge(committed_tenant)] * 3)
    purge(committed_tenant)
    assert sum(result.messages for result in results) <= 10
    assert seqs(committed_tenant, scene.room) == [12, 13, 14, 15, 16]
    assert row(committed_tenant, scene.room).purged_count == 10
    the_unread_law_holds(committed_tenant, scene.room)


def test_going_back_waits_for_the_start_to_be_moved(committed_tenant: Account) -> None:
    """`mark unread` and a purge at once: nobody is left before the log's start."""
    scene = Scene(committed_tenant)
    scene.as_(scene.cyd).post(f"{scene.path}/read", {"seq": 16})
    scene.expire()

    def go_back() -> None:
        for message in scene.old:
            answer = scene.as_(scene.cyd).post(f"{scene.path}/unread", {"messageId": message["id"]})
            assert answer.status in {200, 404}

    at_once(go_back, lambda: purge(committed_tenant) and None)
    purge(committed_tenant)
    the_unread_law_holds(committed_tenant, scene.room)
    place = scene.as_(scene.cyd).get(scene.path).data["membership"]
    assert place["lastReadSeq"] >= 11


def test_a_failing_database_is_no_loss(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(committed_tenant)
    scene.expire()
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)
    real, failures = queries.delete_messages, [OperationalError("gone"), OperationalError("gone again")]

    def failing(message_ids: Any) -> None:
        if failures:
            raise failures.pop()
        real(message_ids)

    monkeypatch.setattr(queries, "delete_messages", failing)
    assert purge(committed_tenant) == Purged(conversations=1, messages=10, events=1)
    assert failures == []
