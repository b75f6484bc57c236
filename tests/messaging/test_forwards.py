"""Forwarding: the same said again elsewhere, as one's own."""

from uuid import uuid4

import pytest

from tests.accounts import Account

pytestmark = pytest.mark.core


def test_a_forward_is_the_forwarders_own_message(tenant: Account) -> None:
    ada, bob, eve = tenant.users(3)
    source, target = tenant.conversation(ada, bob), tenant.conversation(bob, eve)
    first = tenant.message(source, ada, "look at this", metadata={"secret": 1}, mentions=[bob["id"]])
    answer = tenant.user_api(bob).post(f"/messages/{first['id']}/forward", {"conversationId": target["id"]})
    assert answer.status == 201
    forward = answer.data
    assert (forward["senderId"], forward["content"], forward["forwardedFromId"]) == (
        bob["id"],
        {"text": "look at this"},
        first["id"],
    )
    assert (forward["metadata"], forward["mentions"], forward["seq"]) == ({}, [], 1)
    tenant.api.delete(f"/messages/{first['id']}")
    assert tenant.user_api(eve).get(f"/messages/{forward['id']}").data["content"] == {"text": "look at this"}


def test_a_forward_repeated_is_one_even_when_its_source_was_edited_meanwhile(tenant: Account) -> None:
    ada, bob = tenant.users(2)
    source, target = tenant.conversation(ada, bob), tenant.conversation(bob)
    first = tenant.message(source, ada, "before")
    body = {"conversationId": target["id"], "clientMessageId": "f-1"}
    bobs = tenant.user_api(bob)
    sent = bobs.post(f"/messages/{first['id']}/forward", body).data
    tenant.api.patch(f"/messages/{first['id']}", {"content": {"text": "after"}})
    again = bobs.post(f"/messages/{first['id']}/forward", body)
    assert (again.status, again.headers["Idempotent-Replayed"], again.data) == (201, "true", sent)
    other = tenant.message(source, ada, "another")
    assert bobs.post(f"/messages/{other['id']}/forward", body).code == "idempotency_conflict"


def test_only_what_one_sees_is_forwarded_and_only_where_one_may_send(tenant: Account) -> None:
    ada, bob, eve = tenant.users(3)
    source, target = tenant.conversation(ada), tenant.conversation(bob)
    private = tenant.message(source, ada)
    assert tenant.user_api(bob).post(f"/messages/{private['id']}/forward", {"conversationId": target["id"]}).code == (
        "message_not_found"
    )
    seen = tenant.message(target, bob)
    for conversation_id in (source["id"], str(uuid4())):
        refused = tenant.user_api(bob).post(f"/messages/{seen['id']}/forward", {"conversationId": conversation_id})
        assert refused.code == "conversation_not_found"
    tenant.api.post(f"/conversations/{source['id']}/participants", {"participantIds": [eve["id"]], "role": "observer"})
    tenant.api.post(f"/conversations/{target['id']}/participants", {"participantIds": [eve["id"]]})
    refused = tenant.user_api(eve).post(f"/messages/{seen['id']}/forward", {"conversationId": source["id"]})
    assert refused.code == "permission_denied"
    assert tenant.api.get(f"/messages/conversations/{source['id']}").data["pagination"]["total"] == 1


def test_what_is_deleted_is_not_forwarded(tenant: Account) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    message = tenant.message(room, ada)
    tenant.api.delete(f"/messages/{message['id']}")
    refused = tenant.user_api(ada).post(f"/messages/{message['id']}/forward", {"conversationId": room["id"]})
    assert refused.code == "conflict"


def test_a_forward_counts_as_a_message(tenant: Account) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    message = tenant.message(room, ada)
    tenant.user_api(ada).post(f"/messages/{message['id']}/forward", {"conversationId": room["id"]})
    assert tenant.api.get("/usage").data["messages"]["current"] == 2
