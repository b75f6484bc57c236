"""Many senders at once: seq stays dense, in commit order, and nobody waits for ever."""

from collections import Counter

import pytest

from messaging.models import Conversation, Message
from messaging.services.batching import SendBatcher
from messaging.services.sending import Draft
from tenants.models import OutboxEvent
from tenants.scope import tenant_scope
from tenants.services.authentication import tenant_card
from tests.accounts import Account, draft
from tests.threads import at_once, times

pytestmark = pytest.mark.core


def test_seq_is_dense_under_20_senders_in_several_conversations(committed_tenant: Account) -> None:
    users = committed_tenant.users(20)
    rooms = [committed_tenant.conversation(*users) for _ in range(3)]
    api = committed_tenant.api

    def send(number: int) -> list[int]:
        """Each sender walks the rooms in an order of its own."""
        walk = [rooms[(number + step) % 3] for step in range(3)]
        return [api.post("/messages/send", draft(room, users[number])).data["seq"] for room in walk]

    times(20, send)
    with tenant_scope(committed_tenant):
        for room in rooms:
            log = list(Message.objects.filter(conversation_id=room["id"]).order_by("seq"))
            assert [message.seq for message in log] == list(range(1, 21))
            assert [message.message_index for message in log] == list(range(1, 21))
            recorded = [message.recorded_at for message in log]
            assert recorded == sorted(recorded), "the log's time never goes back"
            conversation = Conversation.objects.get(pk=room["id"])
            assert (conversation.last_seq, conversation.message_count) == (20, 20)
            assert conversation.last_message_id == log[-1].id
    promised = OutboxEvent.objects.filter(tenant_id=committed_tenant.id, type="new_message")
    assert Counter(promised.values_list("conversation_id", flat=True)) == {row.conversation_id: 20 for row in promised}
    assert promised.count() == 60


def test_senders_and_joiners_share_one_counter(committed_tenant: Account) -> None:
    first, *others = committed_tenant.users(11)
    room = committed_tenant.conversation(first)
    api = committed_tenant.api
    path = f"/conversations/{room['id']}/participants"
    at_once(
        *(lambda user=user: api.post(path, {"participantIds": [user["id"]]}) for user in others),
        *(lambda: api.post("/messages/send", draft(room, first)) for _ in range(10)),
    )
    after = api.get(f"/conversations/{room['id']}").data
    assert (after["lastSeq"], after["messageCount"], after["participantCount"]) == (20, 10, 11)
    with tenant_scope(committed_tenant):
        conversation = Conversation.objects.get(pk=room["id"])
        seqs = [
            *conversation.messages.values_list("seq", flat=True),
            *conversation.events.values_list("seq", flat=True),
        ]
    assert sorted(seqs) == list(range(1, 21))


def test_a_direct_pair_made_at_once_is_one_conversation(committed_tenant: Account) -> None:
    ada, bob = committed_tenant.users(2)
    api = committed_tenant.api
    bodies = [{"type": "direct", "participantIds": ids} for ids in ([ada["id"], bob["id"]], [bob["id"], ada["id"]])]
    answers = times(10, lambda number: api.post("/conversations", bodies[number % 2]))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.data["id"] for answer in answers}) == 1
    assert len(api.get("/conversations").data) == 1


def test_one_external_id_at_once_is_one_conversation(committed_tenant: Account) -> None:
    ada = committed_tenant.user()
    api = committed_tenant.api
    body = {"type": "group", "externalId": "room", "participantIds": [ada["id"]]}
    answers = times(10, lambda _: api.post("/messages/conversations", body))
    assert {(answer.status, answer.data["id"]) for answer in answers} == {(200, answers[0].data["id"])}
    assert api.get("/conversations/room").data["participantCount"] == 1


def test_one_user_made_at_once_is_one_user(committed_tenant: Account) -> None:
    api = committed_tenant.api
    answers = times(10, lambda number: api.post("/users", {"externalUserId": "ada", "displayName": f"Ada {number}"}))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.data["id"] for answer in answers}) == 1
    assert api.get("/usage").data["users"]["current"] == 1


def test_batches_with_the_same_people_in_any_order_do_not_deadlock(committed_tenant: Account) -> None:
    api = committed_tenant.api
    people = [{"externalUserId": f"user {number}", "displayName": "x"} for number in range(30)]
    orders = [people, people[::-1], people[10:] + people[:10]]
    answers = times(9, lambda number: api.post("/users/batch", {"users": orders[number % 3]}))
    assert {answer.status for answer in answers} == {200}
    assert api.get("/usage").data["users"]["current"] == 30
    renamed = [[person | {"displayName": f"y{number}"} for person in orders[number % 3]] for number in range(9)]
    assert {answer.status for answer in times(9, lambda n: api.post("/users/batch", {"users": renamed[n]}))} == {200}


def test_a_removed_participant_sends_nothing_after_the_removal(committed_tenant: Account) -> None:
    ada, eve = committed_tenant.users(2)
    api = committed_tenant.api
    for _ in range(5):
        room = committed_tenant.conversation(ada, eve)
        path = f"/conversations/{room['id']}/participants/{eve['id']}"
        removal, *sends = at_once(
            lambda path=path: api.delete(path),
            *(lambda room=room: api.post("/messages/send", draft(room, eve)) for _ in range(5)),
        )
        assert removal.status == 200
        assert {answer.status for answer in sends} <= {200, 403}
        with tenant_scope(committed_tenant):
            conversation = Conversation.objects.get(pk=room["id"])
            removed_at = conversation.events.get(type="participant_removed").seq
            assert all(seq < removed_at for seq in conversation.messages.values_list("seq", flat=True))


def test_the_batcher_gives_each_sender_its_own_result(committed_tenant: Account) -> None:
    ada, eve = committed_tenant.users(2)
    room = committed_tenant.conversation(ada)
    card = tenant_card(committed_tenant.tenant)
    batcher = SendBatcher(threads=2)
    try:
        good = [
            batcher.submit(card, Draft(room["id"], ada["id"], "text", {"text": str(number)}), via="test")
            for number in range(50)
        ]
        bad = batcher.submit(card, Draft(room["id"], eve["id"], "text", {"text": "no"}), via="test")
        seqs = [future.result(20).message.seq for future in good]
        assert type(bad.exception(20)).__name__ == "NotAParticipant"
    finally:
        batcher.close(timeout_s=10)
    assert sorted(seqs) == list(range(1, 51))
    history = committed_tenant.api.get(f"/messages/conversations/{room['id']}", {"limit": 100}).data
    assert [message["seq"] for message in history["messages"]] == list(range(1, 51))
