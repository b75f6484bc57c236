"""Delivery and read receipts: positions that never go back, what a message's status is, and to whom it came."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.events import ToOnlookers
from messaging.models import Participant
from messaging.services import receipts
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Api
from tests.laws import examples
from tests.ports import RecordingAnnouncer
from tests.threads import times

Commit = Callable[..., AbstractContextManager[list[Any]]]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def trio(tenant: Account) -> tuple[Any, Any, Any, Any]:
    ada, bob, eve = (tenant.user(name) for name in ("ada", "bob", "eve"))
    return ada, bob, eve, tenant.conversation(ada, bob, eve, externalId="room")


def delivered(api: Api, room: Any, seq: int) -> int:
    position: int = api.post(f"/conversations/{room['id']}/delivered", {"seq": seq}).data["lastDeliveredSeq"]
    return position


def read(api: Api, room: Any, seq: int) -> None:
    assert api.post(f"/conversations/{room['id']}/read", {"seq": seq}).status == 200


def positions(tenant: Account, room: Any) -> dict[str, tuple[int, int]]:
    """By external id: delivered, read."""
    found = tenant.api.get(f"/conversations/{room['id']}").data["participants"]
    return {one["externalUserId"]: (one["lastDeliveredSeq"], one["lastReadSeq"]) for one in found}


def status(tenant: Account, message: Any) -> str:
    found: str = tenant.api.get(f"/messages/{message['id']}").data["status"]
    return found


def states(api: Api, message: Any) -> dict[str, str]:
    return {one["externalUserId"]: one["state"] for one in api.get(f"/messages/{message['id']}/receipts").data}


@pytest.mark.core
class TestPositions:
    def test_they_move_on_and_never_back_nor_beyond_the_end(self, tenant: Account, trio: Any) -> None:
        ada, bob, _, room = trio
        tenant.messages(room, ada, 4)
        own = tenant.user_api(bob)
        assert own.post("/conversations/room/delivered", {"seq": 2}).data == {
            "conversationId": room["id"],
            "conversationExternalId": "room",
            "lastDeliveredSeq": 2,
        }
        assert delivered(own, room, 1) == 2
        assert delivered(own, room, 0) == 2
        assert delivered(own, room, 10**15) == 4
        assert positions(tenant, room) == {"ada": (4, 4), "bob": (4, 0), "eve": (0, 0)}

    def test_what_is_read_has_arrived(self, tenant: Account, trio: Any) -> None:
        ada, bob, _, room = trio
        messages = tenant.messages(room, ada, 4)
        own = tenant.user_api(bob)
        read(own, room, 3)
        assert positions(tenant, room)["bob"] == (3, 3)
        assert delivered(own, room, 2) == 3
        own.post(f"/conversations/{room['id']}/unread", {"messageId": messages[1]["id"]})
        assert positions(tenant, room)["bob"] == (3, 1), "what was read stays delivered"
        assert delivered(own, room, 4) == 4

    def test_who_sends_has_got_what_they_sent(self, tenant: Account, trio: Any) -> None:
        ada, bob, _, room = trio
        tenant.messages(room, ada, 2)
        tenant.message(room, bob)
        assert positions(tenant, room) == {"ada": (2, 2), "bob": (3, 3), "eve": (0, 0)}
        with tenant_scope(tenant):
            assert Participant.objects.get(user_id=bob["id"]).last_delivered_seq == 3

    def test_a_change_of_role_tells_both_positions(self, tenant: Account, trio: Any) -> None:
        ada, _, eve, room = trio
        tenant.messages(room, ada, 3)
        delivered(tenant.user_api(eve), room, 2)
        answer = tenant.api.patch(f"/conversations/{room['id']}/participants/eve", {"role": "observer"})
        assert answer.status == 200
        listed = tenant.api.get(f"/conversations/{room['id']}/participants").data
        (shown,) = [one for one in listed if one["externalUserId"] == "eve"]
        assert (shown["role"], shown["lastDeliveredSeq"], shown["lastReadSeq"]) == ("observer", 2, 0)

    @pytest.mark.parametrize("seq", [-1, 2**53, "1", 1.5, None, [1]])
    def test_garbage(self, tenant: Account, trio: Any, seq: Any) -> None:
        ada, bob, _, room = trio
        tenant.message(room, ada)
        answer = tenant.user_api(bob).post(f"/conversations/{room['id']}/delivered", {"seq": seq})
        answer.refuses(422, "validation_failed", "/seq")
        assert positions(tenant, room)["bob"] == (0, 0)

    def test_who_is_not_there(self, tenant: Account, trio: Any) -> None:
        ada, _, _, room = trio
        tenant.message(room, ada)
        tenant.user("mallory")
        path = f"/conversations/{room['id']}/delivered"
        tenant.api.acting_as("mallory").post(path, {"seq": 1}).refuses(404, "conversation_not_found")
        tenant.api.post(path, {"seq": 1}).refuses(400, "acting_user_required")
        with tenant_scope(tenant):
            assert not Participant.objects.filter(user__external_user_id="mallory").exists()

    def test_onlookers_hear_of_it_once(
        self,
        tenant: Account,
        trio: Any,
        announced: RecordingAnnouncer,
        django_capture_on_commit_callbacks: Commit,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ada, bob, eve, room = trio
        tenant.messages(room, ada, 2)
        with django_capture_on_commit_callbacks(execute=True):
            delivered(tenant.user_api(bob), room, 9)
            delivered(tenant.user_api(bob), room, 9)
            delivered(tenant.user_api(bob), room, 1)
        ((tenant_id, event),) = announced.announced
        assert isinstance(event, ToOnlookers)
        assert (tenant_id, event.conversation_id, event.type) == (tenant.id, UUID(room["id"]), "conversation_delivered")
        assert {name: event.data[name] for name in event.data if name != "timestamp"} == {
            "conversationId": room["id"],
            "conversationExternalId": "room",
            "userId": bob["id"],
            "externalUserId": "bob",
            "lastDeliveredSeq": 2,
        }
        announced.announced.clear()
        monkeypatch.setattr(receipts, "MAX_PARTICIPANTS", 2)
        with django_capture_on_commit_callbacks(execute=True):
            assert delivered(tenant.user_api(eve), room, 2) == 2
        assert announced.announced == [], "nobody looks at it in a large conversation"

    @settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from(["delivered", "read", "unread", "send", "other"]),
                st.sampled_from(["bob", "eve"]),
                st.integers(0, 9),
            ),
            max_size=14,
        )
    )
    def test_after_any_sequence_nothing_went_back_and_what_is_read_is_delivered(
        self, tenant: Account, trio: Any, steps: list[tuple[str, str, int]]
    ) -> None:
        ada, _, _, room = trio
        before = transaction.savepoint()
        path = f"/conversations/{room['id']}"
        sent = [tenant.message(room, ada)]
        known = positions(tenant, room)
        try:
            for what, who, seq in steps:
                api = tenant.api.acting_as(who)
                if what == "delivered":
                    delivered(api, room, seq)
                elif what == "read":
                    read(api, room, seq)
                elif what == "unread":
                    api.post(f"{path}/unread", {"messageId": sent[seq % len(sent)]["id"]})
                else:
                    sent.append(tenant.message(room, {"id": who if what == "send" else ada["id"]}))
                now = positions(tenant, room)
                for name, (got, has_read) in now.items():
                    assert got >= known[name][0]
                    assert has_read <= got <= len(sent)
                known = now
            shown = tenant.api.get(f"/messages/conversations/{room['id']}").data["messages"]
            for message in shown:
                others = [known[name] for name in known if name != message["sender"]["externalUserId"]]
                if all(has_read >= message["seq"] for _, has_read in others):
                    expected = "read"
                else:
                    expected = "delivered" if all(got >= message["seq"] for got, _ in others) else "sent"
                assert message["status"] == expected
                told = states(tenant.api, message)
                assert len(told) == 2
                assert all(
                    state
                    == (
                        "read"
                        if known[name][1] >= message["seq"]
                        else "delivered"
                        if known[name][0] >= message["seq"]
                        else "sent"
                    )
                    for name, state in told.items()
                )
        finally:
            transaction.savepoint_rollback(before)


@pytest.mark.core
class TestStatus:
    def test_the_last_one_decides(self, tenant: Account, trio: Any) -> None:
        ada, bob, eve, room = trio
        message = tenant.message(room, ada)
        assert (message["status"], status(tenant, message)) == ("sent", "sent")
        delivered(tenant.user_api(bob), room, 1)
        assert status(tenant, message) == "sent"
        read(tenant.user_api(eve), room, 1)
        assert status(tenant, message) == "delivered"
        read(tenant.user_api(bob), room, 1)
        assert status(tenant, message) == "read"
        tenant.message(room, eve)
        later = tenant.api.get(f"/messages/conversations/{room['id']}").data["messages"]
        assert [one["status"] for one in later] == ["read", "sent"]

    def test_alone_it_stays_sent(self, tenant: Account) -> None:
        ada = tenant.user()
        assert status(tenant, tenant.message(tenant.conversation(ada), ada)) == "sent"

    def test_in_a_large_conversation_it_stays_sent(self, tenant: Account, trio: Any) -> None:
        ada, bob, eve, room = trio
        message = tenant.message(room, ada)
        for user in (bob, eve):
            read(tenant.user_api(user), room, 1)
        assert status(tenant, message) == "read"
        with tenant_scope(tenant):
            connection.cursor().execute("UPDATE messaging_conversation SET participant_count = 101")
        assert status(tenant, message) == "sent"
        tenant.api.get(f"/messages/{message['id']}/receipts").refuses(409, "conversation_too_large")


@pytest.mark.core
class TestReceipts:
    def test_each_other_participant_has_one(self, tenant: Account, trio: Any) -> None:
        ada, bob, eve, room = trio
        message = tenant.message(room, ada)
        delivered(tenant.user_api(bob), room, 1)
        assert tenant.user_api(ada).get(f"/messages/{message['id']}/receipts").data == [
            {
                "user": {"id": user["id"], "externalUserId": name, "displayName": None, "avatarUrl": None},
                "userId": user["id"],
                "externalUserId": name,
                "state": state,
            }
            for user, name, state in ((bob, "bob", "delivered"), (eve, "eve", "sent"))
        ]
        read(tenant.user_api(eve), room, 1)
        assert states(tenant.user_api(bob), message) == {"bob": "delivered", "eve": "read"}
        assert states(tenant.api, message) == {"bob": "delivered", "eve": "read"}

    def test_who_may_not_see_it_has_none_and_gets_none(self, tenant: Account, trio: Any) -> None:
        ada, _, _, room = trio
        message = tenant.message(room, ada)
        mallory = tenant.user("mallory")
        path = f"/messages/{message['id']}/receipts"
        tenant.user_api(mallory).get(path).refuses(404, "message_not_found")
        people = f"/conversations/{room['id']}/participants"
        tenant.api.post(people, {"participantIds": ["mallory"], "showHistory": False})
        tenant.user_api(mallory).get(path).refuses(404, "message_not_found")
        assert set(states(tenant.api, message)) == {"bob", "eve"}
        tenant.api.delete(f"{people}/eve")
        assert set(states(tenant.api, message)) == {"bob"}

    def test_nowhere(self, tenant: Account) -> None:
        for name in ("019a2f53-b8f0-7d26-b3a9-1e5c7d904f62", "x"):
            tenant.api.get(f"/messages/{name}/receipts").refuses(404, "message_not_found")


# --- what it costs --------------------------------------------------------------------------------------------------


def statements(run: Callable[[], Any]) -> list[str]:
    run()
    with CaptureQueriesContext(connection) as captured:
        run()
    return [query["sql"] for query in captured.captured_queries]


def mark(account: Account, room: Any, user: Any, seq: int) -> int | None:
    with tenant_scope(account):
        return receipts.mark_delivered(
            tenant_id=account.id,
            conversation_id=UUID(room["id"]),
            conversation_external_id=None,
            user_id=UUID(user["id"]),
            external_user_id=user["externalUserId"],
            seq=seq,
            now=NOW,
        )


def row_version(account: Account, user: Any) -> str:
    """Another one for each time that the row was written."""
    with tenant_scope(account), connection.cursor() as cursor:
        cursor.execute("SELECT ctid::text FROM messaging_participant WHERE user_id = %s", [user["id"]])
        version: str = cursor.fetchone()[0]
    return version


def test_marking_is_one_statement_and_writes_only_what_moves(committed_tenant: Account) -> None:
    ada, bob = committed_tenant.users(2)
    room = committed_tenant.conversation(ada, bob)
    committed_tenant.messages(room, ada, 5)
    assert len(statements(lambda: mark(committed_tenant, room, bob, 3))) == 3, "with BEGIN and COMMIT"
    version = row_version(committed_tenant, bob)
    assert [mark(committed_tenant, room, bob, seq) for seq in (3, 2, 0)] == [None] * 3
    assert row_version(committed_tenant, bob) == version
    assert mark(committed_tenant, room, bob, 99) == 5
    assert row_version(committed_tenant, bob) != version


def test_marks_at_once_end_at_the_highest(committed_tenant: Account) -> None:
    ada, bob = committed_tenant.users(2)
    room = committed_tenant.conversation(ada, bob)
    committed_tenant.messages(room, ada, 8)
    api = committed_tenant.user_api(bob)

    def act(number: int) -> None:
        (read if number % 3 == 0 else delivered)(api, room, 8 - number)

    times(8, act)
    (place,) = [
        one
        for one in committed_tenant.api.get(f"/conversations/{room['id']}").data["participants"]
        if one["userId"] == bob["id"]
    ]
    assert (place["lastDeliveredSeq"], place["lastReadSeq"]) == (8, 8)


def test_receipts_cost_the_same_for_any_number_of_people(committed_tenant: Account) -> None:
    ada, *others = committed_tenant.users(60)

    def cost(count: int) -> int:
        room = committed_tenant.conversation(ada, *others[:count])
        path = f"/messages/{committed_tenant.message(room, ada)['id']}/receipts"
        assert len(committed_tenant.api.get(path).data) == count
        return len(statements(lambda: committed_tenant.api.get(path)))

    assert cost(1) == cost(59) == 5


def test_status_costs_history_no_statement_more(committed_tenant: Account) -> None:
    ada, *others = committed_tenant.users(40)
    room = committed_tenant.conversation(ada, *others)
    committed_tenant.messages(room, ada, 20)
    for user in others:
        delivered(committed_tenant.user_api(user), room, 20)
    path = f"/messages/conversations/{room['id']}"
    assert {one["status"] for one in committed_tenant.api.get(path).data["messages"]} == {"delivered"}
    assert len(statements(lambda: committed_tenant.api.get(path))) == 4
