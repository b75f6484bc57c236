"""The review queue: what is held is there and nowhere else, and is sent once or never, whoever decides and repeats."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging.events import DurableEvent
from messaging.models import HeldMessage, Message
from messaging.services.batching import send_batcher
from messaging.services.filters import MessageHeld
from messaging.services.sending import Draft
from quotas.models import Subscription
from quotas.services.limits import forget_cached_limits
from tenants.cards import TenantCard
from tenants.scope import tenant_scope
from tests import canary
from tests.accounts import Account, draft, drop_account, open_test_account
from tests.api import Answer, Api
from tests.files import upload
from tests.ports import RecordingAnnouncer
from tests.snapshots import contents
from tests.threads import at_once

HELD = "/moderation/held"
NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"

Commits = Callable[..., AbstractContextManager[list[Any]]]


class Room:
    """Ada and Bob in a group, in a tenant that holds whatever says `wait`."""

    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.ada, self.bob = tenant.user("ada"), tenant.user("bob")
        self.room = tenant.conversation(self.ada, self.bob, externalId="room")
        self.filter = tenant.api.post(
            "/moderation/filters", {"name": "hold", "kind": "words", "patterns": ["wait"], "action": "hold"}
        ).data

    def say(self, text: str = "wait", *, by: str = "ada", **fields: Any) -> Answer:
        return self.tenant.api.acting_as(by).post("/messages/send", draft(self.room, None, text, **fields))

    def hold(self, text: str = "wait", **fields: Any) -> str:
        refused = self.say(text, **fields)
        refused.refuses(403, "message_held")
        assert refused.error["retryable"] is False
        return str(refused.error["details"]["heldMessageId"])

    def approve(self, held_id: str) -> Answer:
        return self.tenant.api.post(f"{HELD}/{held_id}/approve")

    def reject(self, held_id: str) -> Answer:
        return self.tenant.api.post(f"{HELD}/{held_id}/reject")

    def queue(self, status: str = "pending") -> list[Any]:
        found: list[Any] = self.tenant.api.get(HELD, {"status": status}).data
        return found

    def said(self) -> list[Any]:
        path = f"/messages/conversations/{self.room['id']}"
        return [message["content"] for message in self.tenant.api.get(path).data["messages"]]

    @property
    def used(self) -> int:
        used: int = self.tenant.api.get("/usage").data["messages"]["current"]
        return used

    def rows(self) -> list[HeldMessage]:
        with tenant_scope(self.tenant):
            return list(HeldMessage.objects.order_by("id"))


@pytest.fixture
def room(tenant: Account) -> Room:
    return Room(tenant)


# --- held -----------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_what_is_held_is_in_the_queue_and_nowhere_else(
    room: Room, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Commits
) -> None:
    before = contents(room.tenant)
    with django_capture_on_commit_callbacks(execute=True):
        held_id = room.hold("wait for it", clientMessageId="1", metadata={"a": 1}, mentions=["bob", "channel"])
    assert announced.announced == []
    after = contents(room.tenant)
    changed = {table.rpartition(".")[2] for table in after if after[table] != before[table]}
    assert changed == {"messaging_heldmessage"}
    assert (room.said(), room.used) == ([], 0)
    (row,) = room.queue()
    assert row == {
        "id": held_id,
        "status": "pending",
        "conversationId": room.room["id"],
        "conversationExternalId": "room",
        "sender": {"id": room.ada["id"], "externalUserId": "ada", "displayName": None, "avatarUrl": None},
        "senderId": room.ada["id"],
        "clientMessageId": "1",
        "filterId": room.filter["id"],
        "draft": {
            "type": "text",
            "content": {"text": "wait for it"},
            "replyToId": None,
            "forwardedFromId": None,
            "mentions": [room.bob["id"], "channel"],
            "metadata": {"a": 1},
            "silent": False,
        },
        "messageId": None,
        "createdAt": row["createdAt"],
        "decidedAt": None,
    }
    assert room.say("good").data["seq"] == 1, "no seq was taken"


@pytest.mark.core
def test_the_same_again_is_held_once(room: Room) -> None:
    first = room.hold(clientMessageId="1")
    for _ in range(2):
        assert room.hold(clientMessageId="1") == first
    room.say("wait more", clientMessageId="1").refuses(409, "idempotency_conflict")
    room.say("good", clientMessageId="1").refuses(409, "idempotency_conflict")
    elsewhere = room.tenant.conversation(room.ada)
    answer = room.tenant.api.acting_as("ada").post(
        "/messages/send", draft(elsewhere, None, "wait", clientMessageId="1")
    )
    answer.refuses(409, "idempotency_conflict")
    assert [str(row.id) for row in room.rows()] == [first]
    assert room.hold(by="bob", clientMessageId="1") != first, "another sender's id is another id"
    assert room.hold() != room.hold(), "without an id each is another"


@pytest.mark.core
def test_what_waits_goes_on_waiting_when_the_filter_is_gone(room: Room) -> None:
    held_id = room.hold(clientMessageId="1")
    assert room.tenant.api.delete(f"/moderation/filters/{room.filter['id']}").status == 200
    assert room.hold(clientMessageId="1") == held_id
    (row,) = room.queue()
    assert row["filterId"] is None
    assert room.approve(held_id).data["status"] == "approved"


def test_a_send_at_once_with_the_deletion_of_its_filter_is_held_or_sent(committed_tenant: Account) -> None:
    room = Room(committed_tenant)
    room.say("warm")

    def delete() -> Answer:
        return committed_tenant.api.delete(f"/moderation/filters/{room.filter['id']}")

    answers = at_once(delete, *[lambda: room.say("wait")] * 4)
    assert answers[0].status == 200
    codes = [answer.code if answer.status != 200 else "sent" for answer in answers[1:]]
    assert set(codes) <= {"sent", "message_held"}
    assert len(room.rows()) == codes.count("message_held")
    assert {row.filter_id for row in room.rows()} <= {None}


def test_the_row_is_there_when_the_refusal_is(committed_tenant: Account) -> None:
    """By every way in: REST, a forward, a socket."""
    room = Room(committed_tenant)
    ids = [room.hold(clientMessageId="rest")]
    said = room.say("fine").data
    filter_path = f"/moderation/filters/{room.filter['id']}"
    committed_tenant.api.patch(filter_path, {"patterns": ["wait", "fine"]})
    bob = committed_tenant.user_api(room.bob)
    forwarded = bob.post(f"/messages/{said['id']}/forward", {"conversationId": "room", "clientMessageId": "forward"})
    forwarded.refuses(403, "message_held")
    ids.append(forwarded.error["details"]["heldMessageId"])
    tenant = committed_tenant.tenant
    card = TenantCard(tenant.id, tenant.schema_name, tenant.subdomain, tenant.status, frozenset(), None)
    sent = Draft(conversation="room", sender="ada", type="text", content={"text": "wait"}, client_message_id="socket")
    for _ in range(2):
        outcome = send_batcher().submit(card, sent, via="socket").exception(timeout=30)
        assert isinstance(outcome, MessageHeld)
        ids.append(outcome.details["heldMessageId"])
    assert ids[2] == ids[3]
    assert {str(row.id) for row in room.rows()} == set(ids)
    for held_id in dict.fromkeys(ids):
        assert room.approve(held_id).data["status"] == "approved"
    assert room.said() == [{"text": "fine"}, {"text": "wait"}, {"text": "fine"}, {"text": "wait"}]


def test_the_same_at_once_is_held_once(committed_tenant: Account) -> None:
    room = Room(committed_tenant)
    elsewhere = committed_tenant.conversation(room.ada)
    answers = at_once(
        *[lambda: room.say(clientMessageId="1")] * 3,
        *[
            lambda: committed_tenant.api.acting_as("ada").post(
                "/messages/send", draft(elsewhere, None, "wait", clientMessageId="1")
            )
        ]
        * 3,
    )
    codes = sorted(answer.code for answer in answers)
    assert codes == ["idempotency_conflict"] * 3 + ["message_held"] * 3
    (row,) = room.rows()
    held = {answer.error["details"]["heldMessageId"] for answer in answers if answer.code == "message_held"}
    assert held == {str(row.id)}


# --- decided --------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_approving_sends_it_as_it_was_written(
    room: Room, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Commits
) -> None:
    root = room.say("root", by="bob").data
    file = upload(room.tenant.user_api(room.ada)).data
    held = {
        "1": room.hold("wait", clientMessageId="1", replyToId=root["id"], mentions=["bob"], silent=True),
        "2": room.hold(
            "",
            clientMessageId="2",
            type="file",
            content={"fileId": file["id"], "caption": "wait"},
            metadata={"n": 5.6e290},
        ),
    }
    room.tenant.api.patch(f"/moderation/filters/{room.filter['id']}", {"action": "reject"})
    used = room.used
    with django_capture_on_commit_callbacks(execute=True):
        first = room.approve(held["1"]).data
    (event,) = (one for _, one in announced.announced if isinstance(one, DurableEvent))
    assert (event.type, event.seq, event.data["message"]["clientMessageId"]) == ("new_message", 2, "1")
    assert (first["status"], first["draft"], first["decidedAt"] >= first["createdAt"]) == ("approved", None, True)
    message = room.tenant.api.get(f"/messages/{first['messageId']}").data
    assert message["content"] == {"text": "wait"}
    assert (message["replyToId"], message["mentions"]) == (root["id"], [room.bob["id"]])
    assert (message["silent"], message["clientMessageId"], message["senderId"]) == (True, "1", room.ada["id"])
    second = room.tenant.api.get(f"/messages/{room.approve(held['2']).data['messageId']}").data
    assert second["content"] == {"fileId": file["id"], "caption": "wait"}
    assert room.used == used + 2
    assert room.queue() == []
    assert [row["id"] for row in room.queue("approved")] == [held["1"], held["2"]]
    assert [row.draft for row in room.rows()] == [{}, {}]
    again = room.say("wait", clientMessageId="1", replyToId=root["id"], mentions=["bob"], silent=True)
    assert (again.data["id"], again.headers["Idempotent-Replayed"]) == (first["messageId"], "true")
    again = room.say(
        "", clientMessageId="2", type="file", content={"fileId": file["id"], "caption": "wait"}, metadata={"n": 5.6e290}
    )
    assert again.data["id"] == second["id"]
    room.say("other", clientMessageId="1").refuses(409, "idempotency_conflict")


@pytest.mark.core
@pytest.mark.parametrize(("decision", "other"), [("approve", "reject"), ("reject", "approve")])
def test_deciding_twice(room: Room, decision: str, other: str) -> None:
    held_id = room.hold(clientMessageId="1")
    first = room.tenant.api.post(f"{HELD}/{held_id}/{decision}").data
    before = contents(room.tenant)
    assert room.tenant.api.post(f"{HELD}/{held_id}/{decision}").data == first
    room.tenant.api.post(f"{HELD}/{held_id}/{other}").refuses(409, "conflict")
    assert contents(room.tenant) == before


@pytest.mark.core
def test_what_is_rejected_is_forgotten_and_stays_rejected(room: Room) -> None:
    held_id = room.hold("wait, kanarienvogel", clientMessageId="1")
    assert canary.columns_with("kanarienvogel", [room.tenant.schema_name]) == [("messaging_heldmessage", "draft")]
    rejected = room.reject(held_id).data
    assert (rejected["status"], rejected["draft"], rejected["messageId"]) == ("rejected", None, None)
    assert canary.columns_with("kanarienvogel", [room.tenant.schema_name]) == []
    assert (room.said(), room.used, room.queue()) == ([], 0, [])
    refused = room.say("wait, kanarienvogel", clientMessageId="1")
    refused.refuses(422, "message_rejected")
    assert refused.error["details"] == {"heldMessageId": held_id}
    room.say("something else", clientMessageId="1").refuses(409, "idempotency_conflict")
    assert [row["id"] for row in room.queue("rejected")] == [held_id]


@pytest.mark.core
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("left", "not_a_participant"),
        ("banned here", "not_a_participant"),
        ("banned", "user_banned"),
        ("deactivated", "user_inactive"),
        ("observer", "permission_denied"),
        ("frozen", "conversation_frozen"),
        ("quota", "message_quota_exceeded"),
    ],
)
def test_what_cannot_be_sent_now_goes_on_waiting(room: Room, reason: str, code: str) -> None:
    api, path = room.tenant.api, f"/conversations/{room.room['id']}"
    held_id = room.hold(clientMessageId="1")

    def undo() -> Answer:
        return api.post(f"{path}/participants", {"participantIds": ["ada"]})

    if reason == "left":
        api.acting_as("ada").delete(f"{path}/participants/ada")
    elif reason == "banned here":
        api.post(f"{path}/bans", {"userId": "ada"})

        def undo() -> Answer:
            api.delete(f"{path}/bans/ada")
            return api.post(f"{path}/participants", {"participantIds": ["ada"]})

    elif reason == "banned":
        api.post("/bans", {"userId": "ada"})

        def undo() -> Answer:
            return api.delete("/bans/ada")

    elif reason == "deactivated":
        api.post("/users/ada/deactivate")

        def undo() -> Answer:
            return api.post("/users/ada/reactivate")

    elif reason == "observer":
        api.patch(f"{path}/participants/ada", {"role": "observer"})

        def undo() -> Answer:
            return api.patch(f"{path}/participants/ada", {"role": "member"})

    elif reason == "frozen":
        api.patch(path, {"settings": {"isFrozen": True}})

        def undo() -> Answer:
            return api.patch(path, {"settings": {"isFrozen": False}})

    else:
        Subscription.objects.filter(tenant_id=room.tenant.id).update(max_messages=0)
        forget_cached_limits()

        def undo() -> Answer:
            Subscription.objects.filter(tenant_id=room.tenant.id).update(max_messages=None)
            forget_cached_limits()
            return api.get("/usage")

    before = contents(room.tenant)
    refused = room.approve(held_id)
    assert refused.code == code
    assert contents(room.tenant) == before
    assert [row["id"] for row in room.queue()] == [held_id]
    assert undo().status == 200
    assert room.approve(held_id).data["status"] == "approved"
    assert room.said()[-1] == {"text": "wait"}


@pytest.mark.core
def test_who_left_meanwhile_is_not_mentioned(room: Room) -> None:
    cyd = room.tenant.user("cyd")
    path = f"/conversations/{room.room['id']}/participants"
    room.tenant.api.post(path, {"participantIds": ["cyd"]})
    held_id = room.hold(mentions=["bob", "cyd", "here"])
    room.tenant.api.delete(f"{path}/cyd")
    message_id = room.approve(held_id).data["messageId"]
    assert room.tenant.api.get(f"/messages/{message_id}").data["mentions"] == [room.bob["id"], "here"]
    assert cyd["id"] not in str(room.queue("approved"))


@pytest.mark.core
def test_the_message_answered_went_meanwhile(room: Room) -> None:
    root = room.say("root").data
    held_id = room.hold(replyToId=root["id"])
    room.tenant.api.delete(f"/messages/{root['id']}")
    assert room.approve(held_id).data["status"] == "approved", "a tombstone can be answered"


@pytest.mark.core
def test_a_repeat_after_the_message_was_deleted_answers_with_the_tombstone(room: Room) -> None:
    message_id = room.approve(room.hold(clientMessageId="1")).data["messageId"]
    room.tenant.api.delete(f"/messages/{message_id}")
    again = room.say("wait", clientMessageId="1")
    assert (again.data["id"], again.data["content"]) == (message_id, {})


@pytest.mark.core
def test_a_repeat_after_retention_took_the_message_is_new(room: Room) -> None:
    """As it is for every message: an id is known as long as its message."""
    first = room.hold(clientMessageId="1")
    message_id = room.approve(first).data["messageId"]
    with tenant_scope(room.tenant):
        Message.objects.filter(pk=message_id).delete()
    second = room.hold(clientMessageId="1")
    assert second != first
    assert [str(row.id) for row in room.rows()] == [second]
    assert room.hold(clientMessageId="1") == second
    assert room.approve(second).data["status"] == "approved"


@pytest.mark.parametrize("client_message_id", ["1", None])
def test_two_moderators_at_once_send_it_once(committed_tenant: Account, client_message_id: str | None) -> None:
    room = Room(committed_tenant)
    for _ in range(3):
        held_id = room.hold(clientMessageId=client_message_id)
        answers = at_once(*[lambda: room.approve(held_id)] * 4)  # noqa: B023 - called before the next round
        assert {answer.status for answer in answers} == {200}
        assert len({answer.data["messageId"] for answer in answers}) == 1
        client_message_id = client_message_id and client_message_id + "x"
    assert room.said() == [{"text": "wait"}] * 3
    assert room.used == 3


def test_one_approves_and_one_rejects_at_once(committed_tenant: Account) -> None:
    room = Room(committed_tenant)
    sent = 0
    for _ in range(5):
        held_id = room.hold()
        answers = at_once(lambda: room.approve(held_id), lambda: room.reject(held_id))  # noqa: B023
        assert sorted(answer.status for answer in answers) == [200, 409]
        sent += answers[0].status == 200
    assert len(room.said()) == room.used == sent
    assert len(room.queue("approved")) == sent
    assert len(room.queue("rejected")) == 5 - sent


def test_deciding_while_the_sender_is_deleted_or_the_conversation(committed_tenant: Account) -> None:
    """No deadlock, and nothing is left of whoever is gone."""
    room = Room(committed_tenant)
    ids = [room.hold() for _ in range(4)]
    answers = at_once(
        lambda: committed_tenant.api.delete("/users/ada", {"messages": "erase"}),
        *[lambda held_id=held_id: room.approve(held_id) for held_id in ids],
    )
    assert answers[0].status == 200
    assert {answer.status if answer.status == 200 else answer.code for answer in answers[1:]} <= {
        200,
        "held_message_not_found",
        "not_a_participant",
    }
    assert room.rows() == []
    assert all(content == {} for content in room.said())
    room.hold(by="bob")
    answers = at_once(
        lambda: committed_tenant.api.delete(f"/conversations/{room.room['id']}"),
        lambda: room.say("wait", by="bob"),
        lambda: room.approve(str(room.rows()[0].id) if room.rows() else NOWHERE),
    )
    assert answers[0].status == 200
    assert {answer.status for answer in answers[1:]} <= {200, 403, 404}
    assert room.rows() == []


# --- the queue ------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_the_queue_is_read_by_pages_oldest_first_in_as_many_statements(room: Room) -> None:
    ids = [room.hold(f"wait {number}") for number in range(5)]
    with tenant_scope(room.tenant):  # two of the same moment
        at = HeldMessage.objects.get(pk=ids[1]).created_at
        HeldMessage.objects.filter(pk=ids[2]).update(created_at=at)
        HeldMessage.objects.filter(pk=ids[4]).update(created_at=timezone.now() + timedelta(days=1))
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = room.tenant.api.get(HELD, query)
        seen += [row["id"] for row in page.data]
        if page.pagination["nextCursor"] is None:
            break
        query["cursor"] = page.pagination["nextCursor"]
    assert seen == ids
    with CaptureQueriesContext(connection) as one:
        room.tenant.api.get(HELD, {"limit": 1})
    with CaptureQueriesContext(connection) as all_of_them:
        room.tenant.api.get(HELD)
    assert len(one) == len(all_of_them)
    assert len([query for query in one if "messaging_heldmessage" in query["sql"]]) == 1
    room.tenant.api.get(HELD, {"cursor": "nonsense"}).refuses(422, "invalid_cursor")
    room.tenant.api.get(HELD, {"status": "open"}).refuses(422, "validation_failed", "/status")


@pytest.mark.core
def test_only_back_ends_decide(room: Room) -> None:
    held_id = room.hold()
    user = room.tenant.user_api(room.bob)
    reading = Api({"X-API-Key": room.tenant.key(scopes=["moderation:read"])})
    before = contents(room.tenant)
    for path in (f"{HELD}/{held_id}/approve", f"{HELD}/{held_id}/reject"):
        user.post(path).refuses(403, "permission_denied")
        reading.post(path).refuses(403, "scope_missing")
    user.get(HELD).refuses(403, "permission_denied")
    assert len(reading.get(HELD).data) == 1
    assert contents(room.tenant) == before


@pytest.mark.core
@pytest.mark.parametrize("held_id", [NOWHERE, "nothing", "é", "0", "x" * 255])
def test_what_is_not_there_is_not_found(room: Room, held_id: str) -> None:
    for decide in (room.approve, room.reject):
        decide(held_id).refuses(404, "held_message_not_found")


@pytest.mark.core
def test_another_tenants_queue_is_not_there(room: Room, other_tenant: Account) -> None:
    held_id = room.hold()
    for decision in ("approve", "reject"):
        other_tenant.api.post(f"{HELD}/{held_id}/{decision}").refuses(404, "held_message_not_found")
    assert other_tenant.api.get(HELD).data == []
    assert [row["id"] for row in room.queue()] == [held_id]


@pytest.mark.core
@pytest.mark.parametrize("messages", ["anonymise", "erase"])
def test_what_a_deleted_user_wanted_to_say_goes_with_them(room: Room, messages: str) -> None:
    room.hold("wait, kanarienvogel", clientMessageId="1")
    room.approve(room.hold("wait too", clientMessageId="2"))
    kept = room.hold("wait, bob", by="bob")
    assert room.tenant.api.delete("/users/ada", {"messages": messages}).status == 200
    assert [str(row.id) for row in room.rows()] == [kept]
    assert canary.columns_with("kanarienvogel", [room.tenant.schema_name, "public"]) == []


@pytest.mark.core
def test_a_user_who_is_in_no_conversation_any_more_takes_theirs_along(room: Room) -> None:
    room.hold("wait, kanarienvogel")
    room.tenant.api.delete(f"/conversations/{room.room['id']}/participants/ada")
    room.tenant.api.delete("/users/ada", {"messages": "erase"})
    assert room.rows() == []


@pytest.mark.core
def test_a_deleted_conversation_takes_what_waits_for_it_along(room: Room) -> None:
    room.hold()
    assert room.tenant.api.delete(f"/conversations/{room.room['id']}").status == 200
    assert room.rows() == []
    assert room.queue() == []


def test_one_tenants_filters_hold_nothing_of_anothers(committed_tenant: Account) -> None:
    """Whatever the tenant of the transaction before."""
    room = Room(committed_tenant)
    other = open_test_account()
    user = other.user("ada")
    free = other.conversation(user, externalId="room")
    for _ in range(2):
        room.hold()
        assert other.message(free, user, "wait")["content"] == {"text": "wait"}
    drop_account(other)
