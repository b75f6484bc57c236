"""`manage.py verify_unread`: drift of every kind is found, told and mended; what is right is left alone."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging.models import Conversation, Message, Participant
from messaging.queries.unread import recount, unread_counts
from messaging.services import retention
from messaging.services.verification import verify_unread
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.snapshots import contents
from tests.threads import at_once

pytestmark = pytest.mark.core


def run(tenant: Account, *options: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    printed = StringIO()
    try:
        call_command("verify_unread", "--tenant", tenant.tenant.subdomain, *options, stdout=printed)
    except CommandError as error:
        return error.returncode, printed.getvalue() + str(error)
    return 0, printed.getvalue()


class Scene:
    """A group of three with messages of every kind that counts, or does not, and read positions all over it."""

    def __init__(self, tenant: Account) -> None:
        self.ada, self.bob, self.cyd = tenant.users(3)
        self.room = tenant.conversation(self.ada, self.bob, self.cyd)
        self.id = UUID(self.room["id"])
        first, *_ = tenant.messages(self.room, self.ada, 3)
        tenant.message(self.room, self.bob, silent=True)
        deleted = tenant.message(self.room, self.cyd)
        tenant.api.delete(f"/messages/{deleted['id']}")
        tenant.messages(self.room, self.bob, 2)
        tenant.message(self.room, self.ada)
        bob = tenant.api.acting_as(self.bob["id"])
        assert bob.post(f"/conversations/{self.room['id']}/unread", {"messageId": first["id"]}).status == 200
        tenant.conversation(self.ada, self.bob)

    def place(self, who: dict[str, Any]) -> Any:
        return Participant.objects.filter(conversation_id=self.id, user_id=who["id"])


@pytest.fixture
def scene(tenant: Account) -> Scene:
    return Scene(tenant)


def test_what_is_right_is_left_alone(tenant: Account, scene: Scene) -> None:
    before = contents(tenant)
    told = "1 tenants, 2 conversations, 5 members: 0 wrong numbers, 0 of them repaired.\n"
    assert run(tenant) == (0, told)
    assert run(tenant, "--repair") == (0, told)
    assert contents(tenant) == before


def _wrong_read_index(scene: Scene) -> None:
    scene.place(scene.cyd).update(read_index=F("read_index") + 1)


def _wrong_own(scene: Scene) -> None:
    scene.place(scene.bob).update(own_since_read=F("own_since_read") + 2)


def _wrong_total(scene: Scene) -> None:
    Conversation.objects.filter(pk=scene.id).update(unread_total=F("unread_total") - 3)


def _wrong_message(scene: Scene) -> None:
    message = Message.objects.filter(conversation_id=scene.id).order_by("seq")[1]
    Message.objects.filter(pk=message.pk).update(unread_index=40)


def _wrong_everywhere(scene: Scene) -> None:
    Message.objects.filter(conversation_id=scene.id).update(unread_index=7)
    Participant.objects.filter(conversation_id=scene.id).update(read_index=3, own_since_read=5)
    _wrong_total(scene)


def _hidden_by_each_other(scene: Scene) -> None:
    """Two numbers that are wrong by as much: the count is right, until the position moves."""
    scene.place(scene.bob).update(read_index=F("read_index") + 1, own_since_read=F("own_since_read") - 1)


DRIFTS: dict[Callable[[Scene], None], list[str]] = {
    _wrong_read_index: ["read_index is 5, the log says 4", "count is 2, the log says 3"],
    _wrong_own: ["own_since_read is 4, the log says 2", "count is 2, the log says 4"],
    _wrong_total: ["unread_total is 4, the log says 7", "count is -3, the log says 0"],
    _wrong_message: ["1 messages have a wrong unread_index"],
    _wrong_everywhere: ["unread_total is 4, the log says 7", "messages have a wrong unread_index", "count is"],
    _hidden_by_each_other: ["read_index is 1, the log says 0", "own_since_read is 1, the log says 2"],
}


@pytest.mark.parametrize("spoil", DRIFTS, ids=lambda spoil: spoil.__name__)
def test_drift_is_told_and_mended(tenant: Account, scene: Scene, spoil: Callable[[Scene], None]) -> None:
    before = contents(tenant)
    with tenant_scope(tenant):
        spoil(scene)
    spoilt = contents(tenant)
    code, said = run(tenant)
    assert code == 1
    assert contents(tenant) == spoilt, "nothing is repaired unasked"
    for words in DRIFTS[spoil]:
        assert words in said
    assert str(scene.id) in said
    assert "--repair mends them" in said

    code, said = run(tenant, "--repair")
    assert code == 0
    assert "(repaired)" in said
    assert contents(tenant) == before, "every number is what it was"
    assert run(tenant)[1].endswith(": 0 wrong numbers, 0 of them repaired.\n")


def test_blocked_people_do_not_count_and_are_no_drift(tenant: Account, scene: Scene) -> None:
    with tenant_scope(tenant), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO messaging_userblock (blocker_id, blocked_id, created_at) VALUES (%s, %s, now())",
            [scene.cyd["id"], scene.ada["id"]],
        )
        assert recount(scene.id)[UUID(scene.cyd["id"])] == 2
    assert run(tenant)[0] == 0


def test_where_retention_took_the_beginning_numbers_go_on(tenant: Account, scene: Scene) -> None:
    with tenant_scope(tenant):
        Message.objects.filter(conversation_id=scene.id, seq__lte=2).delete()
        Conversation.objects.filter(pk=scene.id).update(purged_seq=2, purged_count=2)
        # bob had read nothing: what is gone is not unread any more
        scene.place(scene.bob).update(last_read_seq=2, read_index=2)
    assert run(tenant)[0] == 0
    with tenant_scope(tenant):
        scene.place(scene.bob).update(read_index=0)
    code, said = run(tenant, "--repair")
    assert code == 0
    assert "read_index is 0, the log says 2" in said
    with tenant_scope(tenant):
        bob = UUID(scene.bob["id"])
        assert unread_counts(bob, [scene.id])[scene.id] == recount(scene.id)[bob] == 2


def test_a_purge_leaves_no_drift(tenant: Account, scene: Scene) -> None:
    now = timezone.now()
    with tenant_scope(tenant):
        old = now - timedelta(days=100)
        Message.objects.filter(conversation_id=scene.id, seq__lte=4).update(created_at=old, recorded_at=old)
        Conversation.objects.filter(pk=scene.id).update(oldest_at=old)
    assert retention.purge(tenant.tenant, cutoff=now - timedelta(days=30), now=now).messages == 4
    assert run(tenant)[0] == 0
    first = tenant.api.get(f"/messages/conversations/{scene.room['id']}").data["messages"][0]
    for person in (scene.ada, scene.bob, scene.cyd):
        as_person = tenant.api.acting_as(person["id"])
        assert as_person.post(f"/conversations/{scene.room['id']}/unread", {"messageId": first["id"]}).status == 200
    tenant.message(scene.room, scene.cyd)
    assert run(tenant)[0] == 0


def test_where_retention_took_everything_the_total_stands(tenant: Account, scene: Scene) -> None:
    with tenant_scope(tenant):
        Message.objects.filter(conversation_id=scene.id).delete()
        Conversation.objects.filter(pk=scene.id).update(purged_seq=10, purged_count=8)
    assert run(tenant, "--repair")[0] == 0
    with tenant_scope(tenant):
        assert Conversation.objects.get(pk=scene.id).unread_total == 7
        assert set(recount(scene.id).values()) == {0}
        assert set(unread_counts(UUID(scene.bob["id"])).values()) == {0}


def test_other_tenants_are_neither_read_nor_mended(tenant: Account, other_tenant: Account, scene: Scene) -> None:
    theirs = Scene(other_tenant)
    with tenant_scope(other_tenant):
        _wrong_total(theirs)
    before = contents(other_tenant)
    assert run(tenant, "--repair")[0] == 0
    assert contents(other_tenant) == before
    assert run(other_tenant)[0] == 1


def test_without_a_name_every_tenant_is_looked_at(tenant: Account, other_tenant: Account, scene: Scene) -> None:
    theirs = Scene(other_tenant)
    with tenant_scope(other_tenant):
        _wrong_read_index(theirs)
    printed = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("verify_unread", stdout=printed)
    assert raised.value.returncode == 1
    assert f"{other_tenant.tenant.subdomain}: conversation {theirs.id}" in printed.getvalue()
    assert f"{tenant.tenant.subdomain}: conversation" not in printed.getvalue()


def test_a_tenant_that_is_not_there_is_refused(db: None) -> None:
    with pytest.raises(CommandError, match="no tenant"):
        call_command("verify_unread", "--tenant", "nobody-at-all")


def test_a_conversation_costs_the_same_whatever_its_size(tenant: Account, scene: Scene) -> None:
    def cost() -> list[int]:
        costs = []
        checks = verify_unread(tenant, repair=False)
        while True:
            with CaptureQueriesContext(connection) as captured:
                if next(checks, None) is None:
                    return costs
            costs.append(len([query for query in captured.captured_queries if "SAVEPOINT" not in query["sql"]]))

    few = cost()
    tenant.messages(scene.room, scene.ada, 20)
    tenant.api.post(
        f"/conversations/{scene.room['id']}/participants", {"participantIds": [u["id"] for u in tenant.users(20)]}
    )
    assert cost() == few == [5, 4], "the ids; the log's numbers, the members', the shown counts, the recount"


def test_repairs_and_sends_at_the_same_moment_agree(committed_tenant: Account) -> None:
    """Senders, readers and repairs, while the numbers are spoilt again and again: the end is what the log says."""
    scene = Scene(committed_tenant)
    api = committed_tenant.api

    def send() -> None:
        committed_tenant.messages(scene.room, scene.ada, 10)

    def read() -> None:
        as_cyd = api.acting_as(scene.cyd["id"])
        for seq in range(1, 11):
            assert as_cyd.post(f"/conversations/{scene.room['id']}/read", {"seq": seq}).status == 200

    def spoil_and_repair() -> None:
        for _ in range(5):
            with tenant_scope(committed_tenant):
                scene.place(scene.bob).update(read_index=F("read_index") + 1)
            assert run(committed_tenant, "--repair")[0] == 0

    at_once(send, read, spoil_and_repair)
    assert len(committed_tenant.api.get(f"/messages/conversations/{scene.room['id']}").data["messages"]) == 18
    assert run(committed_tenant)[0] == 0
