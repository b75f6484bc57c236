"""The law of retention: after any sequence of sends, reads, imports and purges the log that is left is a suffix, with
the unread counts that it says; and content that an import brought from before the plan's time goes before its event."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from messaging.models import Message, Reaction, SearchEntry
from messaging.services import retention
from messaging.services.retention import Purged
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.imports import imported, line, message
from tests.laws import examples
from tests.logs import log_between
from tests.messaging.test_retention import age, card, purge, row, seqs, the_unread_law_holds

pytestmark = pytest.mark.core

DAY = timedelta(days=1)


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - days * DAY).isoformat()


@pytest.fixture
def room(tenant: Account) -> dict[str, Any]:
    people = [tenant.user(name) for name in ("ada", "bob", "cyd")]
    return tenant.conversation(*people, externalId="room")


# --- content that is older than its event -----------------------------------------------------------------------------


def test_old_content_goes_and_its_event_stays(tenant: Account, room: dict[str, Any]) -> None:
    file = tenant.api.acting_as("ada").raw("POST", "/files", b"x", content_type="image/png", query={"name": "a.png"})
    imported(
        tenant,
        message("root", "room", "ada", createdAt=days_ago(20)),
        message("old", "room", "ada", createdAt=days_ago(31), replyToId="root", metadata={"a": 1}, mentions=["bob"])
        + message("older", "room", "bob", createdAt=days_ago(400), reactions=[{"name": "a", "userIds": ["ada"]}])
        + message("image", "room", "ada", createdAt=days_ago(40), type="image", content={"fileId": file.data["id"]})
        + message("gone", "room", "ada", createdAt=days_ago(50), deletedAt=days_ago(49))
        + message("kept", "room", "ada", createdAt=days_ago(29), replyToId="root"),
    )
    with tenant_scope(tenant):
        for one in Message.objects.all():
            SearchEntry.objects.create(
                message_id=one.id,
                conversation_id=one.conversation_id,
                seq=one.seq,
                sender_id=one.sender_id,
                created_at=datetime.now(UTC),
                terms="",
            )
    assert row(tenant, room).oldest_at < datetime.now(UTC) - 399 * DAY
    cutoff = datetime.now(UTC) - 30 * DAY
    assert retention.count(tenant.tenant, cutoff=cutoff) == Purged(conversations=1, contents=3)
    before = tenant.api.get("/messages/conversations/room").data["messages"]
    assert purge(tenant) == Purged(conversations=1, contents=3)
    after = tenant.api.get("/messages/conversations/room").data["messages"]
    assert [one["seq"] for one in after] == [one["seq"] for one in before] == [1, 2, 3, 4, 5, 6]
    assert [one["content"] == {} for one in after] == [False, True, True, True, True, False]
    assert [one["deletedAt"] is not None for one in after] == [False, True, True, True, True, False]
    assert [one["createdAt"] for one in after] == [one["createdAt"] for one in before]
    assert [(one["metadata"], one["mentions"], one["reactions"]) for one in after[1:4]] == [({}, [], [])] * 3
    assert (before[0]["replyCount"], after[0]["replyCount"]) == (2, 1)
    with tenant_scope(tenant):
        assert Reaction.objects.count() == 0
        assert SearchEntry.objects.count() == 3, "the two that stay, and the one that was a tombstone before"
    tenant.api.get(f"/files/{file.data['id']}").refuses(404, "file_not_found")
    assert [entry.seq for entry in log_between(card(tenant), UUID(room["id"]), 1, 9)] == [1, 2, 3, 4, 5, 6]
    assert tenant.api.get("/conversations/room").data["messageCount"] == 6
    the_unread_law_holds(tenant, room)
    assert purge(tenant) == Purged()
    assert row(tenant, room).oldest_at > datetime.now(UTC) - 30 * DAY
    assert purge(tenant, days=25) == Purged(conversations=1, contents=1), "the one of 29 days ago"
    assert purge(tenant, days=19) == Purged(conversations=1, contents=1), "the one of 20 days ago"


def test_an_import_beside_a_purge_is_found_by_the_next(tenant: Account, room: dict[str, Any]) -> None:
    imported(tenant, message("a", "room", "ada", createdAt=days_ago(100)))
    purge(tenant)
    imported(tenant, message("b", "room", "ada", createdAt=days_ago(90)), message("c", "room", "ada"))
    assert purge(tenant, days=30).contents == 2
    assert imported(tenant, message("a", "room", "ada", createdAt=days_ago(100)))["unchanged"] == 1


def test_search_entries_that_came_late_are_swept(tenant: Account, room: dict[str, Any]) -> None:
    """Indexed while retention took the message, or after."""
    with tenant_scope(tenant):
        for days in (31, 29):
            SearchEntry.objects.create(
                message_id=UUID(int=days),
                conversation_id=room["id"],
                seq=days,
                created_at=datetime.now(UTC) - days * DAY,
                terms="late",
            )
    assert purge(tenant) == Purged()
    with tenant_scope(tenant):
        assert list(SearchEntry.objects.order_by().values_list("message_id", flat=True)) == [UUID(int=29)]


# --- any sequence -----------------------------------------------------------------------------------------------------

NAMES = ("ada", "bob", "cyd")
person = st.integers(0, 2)
step = st.one_of(
    st.tuples(st.just("send"), person, st.booleans()),
    st.tuples(st.just("send"), person, st.booleans()),
    st.tuples(st.just("bring"), person, st.integers(1, 3), st.sampled_from([1, 29, 40, 400])),
    st.tuples(st.just("read"), person, st.integers(1, 40)),
    st.tuples(st.just("go_back"), person, st.integers(0, 20)),
    st.tuples(st.just("delete"), st.integers(0, 20)),
    st.tuples(st.just("block"), person, person),
    st.tuples(st.just("rename")),
    st.tuples(st.just("days_pass"), st.sampled_from([10, 20, 31])),
    st.tuples(st.just("purge")),
    st.tuples(st.just("purge")),
)


class _Law:
    def __init__(self, tenant: Account, room: dict[str, Any]) -> None:
        self.tenant = tenant
        self.room = room
        self.count = 0
        self.own: list[str] = []
        self.recorded_days_ago: list[float] = []
        """When each entry of the log was recorded, by seq; the model that the log is held to."""
        self.purged = 0

    def send(self, who: int, silent: bool) -> None:
        self.count += 1
        sender = {"id": NAMES[who]}
        self.own.append(self.tenant.message(self.room, sender, f"text {self.count}", silent=silent)["id"])
        self.recorded_days_ago.append(0)

    def bring(self, who: int, number: int, days: int) -> None:
        lines = []
        for _ in range(number):
            self.count += 1
            lines.append(message(f"m-{self.count}", "room", NAMES[who], createdAt=days_ago(days)))
            self.recorded_days_ago.append(0)
        assert imported(self.tenant, b"".join(lines))["created"] == number

    def read(self, who: int, seq: int) -> None:
        self.tenant.api.acting_as(NAMES[who]).post("/conversations/room/read", {"seq": seq})

    def go_back(self, who: int, which: int) -> None:
        if which < len(self.own):
            caller = self.tenant.api.acting_as(NAMES[who])
            answer = caller.post("/conversations/room/unread", {"messageId": self.own[which]})
            assert answer.status in {200, 404}

    def delete(self, which: int) -> None:
        if which < len(self.own):
            deleted = self.tenant.api.delete(f"/messages/{self.own[which]}")
            assert deleted.status in {200, 404}
            if row(self.tenant, self.room).last_seq > len(self.recorded_days_ago):
                self.recorded_days_ago.append(0)

    def block(self, who: int, whom: int) -> None:
        if who != whom:
            self.tenant.api.acting_as(NAMES[who]).post(f"/users/{NAMES[who]}/blocks", {"userId": NAMES[whom]})

    def rename(self) -> None:
        self.count += 1
        taken = imported(self.tenant, line("conversation", externalId="room", type="group", title=f"{self.count}"))
        assert taken["updated"] == 1
        self.recorded_days_ago.append(0)

    def days_pass(self, days: int) -> None:
        age(self.tenant, self.room, days * DAY)
        self.recorded_days_ago = [then + days for then in self.recorded_days_ago]

    def purge(self) -> None:
        counted = retention.count(self.tenant.tenant, cutoff=datetime.now(UTC) - 30 * DAY)
        assert purge(self.tenant) == counted
        # Thirty days to the day are over by the moments that passed since.
        self.purged = max([self.purged, *(seq for seq, days in enumerate(self.recorded_days_ago, 1) if days >= 30)])
        with tenant_scope(self.tenant):
            old = Message.objects.filter(created_at__lt=datetime.now(UTC) - 30 * DAY)
            assert all((one.content, one.deleted_at is not None) == ({}, True) for one in old)

    def holds(self) -> None:
        left = list(range(self.purged + 1, len(self.recorded_days_ago) + 1))
        assert seqs(self.tenant, self.room) == left
        now = row(self.tenant, self.room)
        assert (now.last_seq, now.purged_seq) == (len(self.recorded_days_ago), self.purged)
        with tenant_scope(self.tenant):
            kept = Message.objects.filter(conversation_id=self.room["id"]).count()
        assert now.remaining_count == kept
        assert [entry.seq for entry in log_between(card(self.tenant), now.id, 1, now.last_seq)] == left
        the_unread_law_holds(self.tenant, self.room)


class Undone(Exception):
    """Takes back what an example did."""


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=20))
@example(steps=[("days_pass", 10), ("days_pass", 20), ("purge",)])
def test_what_is_left_is_a_suffix_and_the_unread_law_holds(
    tenant: Account, room: dict[str, Any], steps: list[tuple[Any, ...]]
) -> None:
    with suppress(Undone), transaction.atomic():
        law = _Law(tenant, room)
        for name, *arguments in steps:
            getattr(law, name)(*arguments)
            law.holds()
        raise Undone
