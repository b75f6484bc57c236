"""The fixed route that sends: what it answers, what a message is afterwards, who may send."""

from typing import Any

import pytest

from messaging.events import DurableEvent
from messaging.models import Participant, User
from tenants.models import OutboxEvent
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Api, fits
from tests.ports import RecordingAnnouncer
from tests.snapshots import contents

pytestmark = pytest.mark.core


def test_the_answer_is_200_and_the_whole_message(tenant: Account, api: Api) -> None:
    ada = tenant.user("ada", displayName="Ada", avatarUrl="https://example.com/ada.png")
    room = tenant.conversation(ada, externalId="room")
    answer = api.post("/messages/send", draft(room, ada, "hello", metadata={"order": 7}, clientMessageId="c-1"))
    assert answer.status == 200
    message = answer.data
    fits("Message", message)
    assert "Idempotent-Replayed" not in answer.headers
    assert {name: message[name] for name in message if name not in {"id", "createdAt", "updatedAt"}} == {
        "conversationId": room["id"],
        "conversationExternalId": "room",
        "seq": 1,
        "messageIndex": 1,
        "sender": {
            "id": ada["id"],
            "externalUserId": "ada",
            "displayName": "Ada",
            "avatarUrl": "https://example.com/ada.png",
        },
        "senderId": ada["id"],
        "type": "text",
        "content": {"text": "hello"},
        "replyToId": None,
        "threadId": None,
        "replyCount": 0,
        "forwardedFromId": None,
        "clientMessageId": "c-1",
        "mentions": [],
        "silent": False,
        "metadata": {"order": 7},
        "reactions": [],
        "status": "sent",
        "editedAt": None,
        "deletedAt": None,
    }
    assert message["createdAt"] == message["updatedAt"]


def test_what_was_answered_is_what_is_read(tenant: Account, api: Api) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    room = tenant.conversation(ada, bob)
    first = tenant.message(room, ada)
    sent = tenant.message(
        room, ada, "re", replyToId=first["id"], mentions=["bob", ada["id"]], metadata={"a": [1, None]}
    )
    assert sent["replyToId"] == first["id"]
    assert sent["mentions"] == [bob["id"], ada["id"]], "either id in, the server's ids out, in order"
    assert (sent["threadId"], sent["replyCount"]) == (first["id"], 1), "a thread's count stands on all of its messages"
    assert api.get(f"/messages/conversations/{room['id']}").data["messages"] == [first | {"replyCount": 1}, sent]
    assert api.get(f"/conversations/{room['id']}").data["lastMessage"] == sent


@pytest.mark.parametrize(
    ("type_", "content"),
    [
        ("text", {"text": "你好 👋🏽 \u202e\ufeff", "format": "markdown"}),
        ("text", {"text": "x" * 20_000}),
        ("image", {"url": "https://example.com/图.png", "width": 10, "caption": None}),
        ("file", {"url": "https://example.com/f.zip", "size": 2**53 - 1}),
        ("audio", {"url": "http://example.com/a.ogg", "duration": 1.5}),
        ("video", {"url": "https://example.com/v.mp4"}),
        ("location", {"latitude": -90, "longitude": 180.0}),
        ("custom", {}),
        ("custom", {"deep": {"er": [[[1, 2.5, "three", None, True]]]}, "": "empty key"}),
        ("custom", {"blob": "x" * 65_000}),
    ],
)
def test_every_type_of_content_comes_back_as_it_was_sent(
    tenant: Account, api: Api, type_: str, content: dict[str, Any]
) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    sent = api.post("/messages/send", draft(room, ada) | {"type": type_, "content": content}).data
    assert sent["content"] == content
    assert api.get(f"/messages/conversations/{room['id']}").data["messages"] == [sent]


def test_nulls_of_clients_in_the_field_mean_absent(tenant: Account, api: Api) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    nulls = dict.fromkeys(["replyToId", "clientMessageId", "metadata", "mentions", "silent"])
    sent = api.post("/messages/send", draft(room, ada) | nulls).data
    assert (sent["metadata"], sent["mentions"], sent["clientMessageId"]) == ({}, [], None)


def test_messages_without_a_client_id_never_repeat_each_other(tenant: Account) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    assert [message["seq"] for message in tenant.messages(room, ada, 3)] == [1, 2, 3]


@pytest.mark.parametrize("named_by", ["id", "externalUserId"])
@pytest.mark.parametrize("found_by", ["id", "externalId"])
def test_either_id_names_the_sender_and_the_conversation(
    tenant: Account, api: Api, named_by: str, found_by: str
) -> None:
    ada = tenant.user("ada/1 å😀")
    room = tenant.conversation(ada, externalId="room #1")
    body = draft(room, None) | {"conversationId": room[found_by], "senderId": ada[named_by]}
    sent = api.post("/messages/send", body).data
    assert (sent["conversationId"], sent["senderId"]) == (room["id"], ada["id"])
    del body["senderId"]
    as_ada = api.acting_as(ada[named_by].encode().decode("latin-1")).post("/messages/send", body).data
    assert as_ada["senderId"] == ada["id"]


def test_the_body_names_the_sender_before_the_header_does(tenant: Account, api: Api) -> None:
    ada, bob = tenant.user(), tenant.user()
    room = tenant.conversation(ada, bob)
    assert api.acting_as(bob["id"]).post("/messages/send", draft(room, ada)).data["senderId"] == ada["id"]


def test_seq_counts_all_events_and_the_message_index_messages(tenant: Account, api: Api) -> None:
    ada, bob = tenant.user(), tenant.user()
    room = tenant.conversation(ada)
    tenant.message(room, ada)
    assert api.post(f"/conversations/{room['id']}/participants", {"participantIds": [bob["id"]]}).data["lastSeq"] == 2
    third = tenant.message(room, ada)
    assert (third["seq"], third["messageIndex"]) == (3, 2)
    after = api.get(f"/conversations/{room['id']}").data
    assert (after["lastSeq"], after["messageCount"], after["lastMessageAt"]) == (3, 2, third["createdAt"])


def test_every_message_promises_one_event(tenant: Account) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    sent = tenant.messages(room, ada, 3)
    promised = OutboxEvent.objects.filter(tenant_id=tenant.id, type="new_message").order_by("id")
    assert [(str(row.conversation_id), row.seq, str(row.subject_id)) for row in promised] == [
        (room["id"], message["seq"], message["id"]) for message in sent
    ]


def test_a_message_is_announced_after_the_commit_once(
    tenant: Account, api: Api, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    ada, eve = tenant.user(), tenant.user()
    room = tenant.conversation(ada, externalId="room")
    body = draft(room, ada, clientMessageId="c-1")
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        sent = api.post("/messages/send", body).data
        assert announced.announced == [], "nobody hears of what is not committed"
    ((tenant_id, event),) = announced.announced
    assert len(callbacks) == 1
    assert isinstance(event, DurableEvent)
    assert (tenant_id, str(event.conversation_id), event.seq, event.type) == (tenant.id, room["id"], 1, "new_message")
    fits("NewMessageEvent", event.data)
    assert event.data["message"] == sent
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        api.post("/messages/send", body)
        api.post("/messages/send", draft(room, eve))
        api.post("/messages/send", body | {"content": {"text": "other"}})
    assert callbacks == [], "neither repeats nor refusals are announced"


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(tenant: Account) -> Any:
    """A conversation without eve, and eve."""
    ada, eve = tenant.user("ada"), tenant.user("eve")
    return tenant.conversation(ada, externalId="closed"), eve


def test_a_key_is_told_that_its_sender_is_no_participant(tenant: Account, api: Api, closed: Any) -> None:
    room, eve = closed
    before = contents(tenant)
    api.post("/messages/send", draft(room, eve)).refuses(403, "not_a_participant")
    assert contents(tenant) == before


def test_to_a_user_a_conversation_without_them_does_not_exist(tenant: Account, closed: Any) -> None:
    room, eve = closed
    before = contents(tenant)
    browser = tenant.user_api(eve)
    for name in (room["id"], "closed", "nowhere"):
        answer = browser.post("/messages/send", draft({"id": name}, None))
        answer.refuses(404, "conversation_not_found")
    assert contents(tenant) == before


def test_a_user_sends_as_themself_and_as_nobody_else(tenant: Account, closed: Any) -> None:
    room, eve = closed
    ada = {"id": "ada", "externalUserId": "ada"}
    browser = tenant.user_api(ada)
    sent = browser.post("/messages/send", draft(room, None)).data
    assert sent["sender"]["externalUserId"] == "ada"
    assert browser.post("/messages/send", draft(room, ada)).data["senderId"] == sent["senderId"]
    before = contents(tenant)
    browser.post("/messages/send", draft(room, eve)).refuses(404, "user_not_found")
    browser.acting_as("eve").post("/messages/send", draft(room, eve)).refuses(404, "user_not_found")
    assert contents(tenant) == before


def test_an_observer_reads_and_does_not_write(tenant: Account, api: Api) -> None:
    ada, bob = tenant.user(), tenant.user()
    room = tenant.conversation(ada)
    api.post(f"/conversations/{room['id']}/participants", {"participantIds": [bob["id"]], "role": "observer"})
    before = contents(tenant)
    api.post("/messages/send", draft(room, bob)).refuses(403, "permission_denied")
    tenant.user_api(bob).post("/messages/send", draft(room, None)).refuses(403, "permission_denied")
    assert contents(tenant) == before
    assert tenant.user_api(bob).get(f"/messages/conversations/{room['id']}").status == 200


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_every_other_role_writes(tenant: Account, role: str) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    with tenant_scope(tenant):
        Participant.objects.filter(user_id=ada["id"]).update(role=role)
    assert tenant.user_api(ada).post("/messages/send", draft(room, None)).status == 200


def test_a_deactivated_user_does_not_send(tenant: Account, api: Api) -> None:
    ada = tenant.user("ada")
    room = tenant.conversation(ada)
    with tenant_scope(tenant):
        User.objects.filter(pk=ada["id"]).update(is_active=False)
    before = contents(tenant)
    api.post("/messages/send", draft(room, ada)).refuses(403, "user_inactive")
    tenant.user_api(ada).post("/messages/send", draft(room, None)).refuses(403, "user_inactive")
    api.acting_as("ada").get("/conversations").refuses(403, "user_inactive")
    assert contents(tenant) == before


def test_who_was_removed_sends_no_more(tenant: Account, api: Api) -> None:
    ada, bob = tenant.user(), tenant.user()
    room = tenant.conversation(ada, bob)
    api.delete(f"/conversations/{room['id']}/participants/{bob['id']}")
    before = contents(tenant)
    api.post("/messages/send", draft(room, bob)).refuses(403, "not_a_participant")
    tenant.user_api(bob).post("/messages/send", draft(room, None)).refuses(404, "conversation_not_found")
    assert contents(tenant) == before


def test_a_reply_is_to_a_message_of_the_same_conversation(tenant: Account, api: Api) -> None:
    ada = tenant.user()
    here, there = tenant.conversation(ada), tenant.conversation(ada)
    elsewhere = tenant.message(there, ada)
    before = contents(tenant)
    api.post("/messages/send", draft(here, ada, replyToId=elsewhere["id"])).refuses(404, "message_not_found")
    assert contents(tenant) == before
