"""What is done to messages that are there: edit, delete, react, pin, threads; and how far people have read."""

from typing import Any

import pytest
from django.utils import timezone

from messaging.events import DurableEvent, ToOnlookers, ToUser
from messaging.models import UserBlock
from messaging.services import messages as services
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.ports import RecordingAnnouncer

Said = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]


@pytest.fixture
def said(tenant: Account) -> Said:
    """Ada said something to Bob: (ada, bob, conversation, message)."""
    ada, bob = tenant.user("ada"), tenant.user("bob")
    conversation = tenant.conversation(ada, bob)
    return ada, bob, conversation, tenant.message(conversation, ada, "hello")


def log_of(announced: RecordingAnnouncer) -> list[tuple[int, str]]:
    return [(event.seq, event.type) for _, event in announced.announced if isinstance(event, DurableEvent)]


def test_an_edit_replaces_the_content_and_keeps_what_was_there(
    tenant: Account, said: Said, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    ada, _, _, message = said
    with django_capture_on_commit_callbacks(execute=True):
        edited = tenant.api.acting_as("ada").patch(f"/messages/{message['id']}", {"content": {"text": "hello!"}}).data
    assert edited["content"] == {"text": "hello!"}
    assert edited["editedAt"] == edited["updatedAt"]
    assert (edited["seq"], edited["createdAt"]) == (message["seq"], message["createdAt"])
    revisions = tenant.api.get(f"/messages/{message['id']}/revisions").data
    assert [revision["content"] for revision in revisions] == [{"text": "hello"}]
    assert log_of(announced) == [(2, "message_updated")]
    assert ada["id"] == edited["senderId"]


def test_only_the_author_and_the_integrator_may_edit(tenant: Account, said: Said) -> None:
    _, _, _, message = said
    change = {"content": {"text": "changed"}}
    tenant.api.acting_as("bob").patch(f"/messages/{message['id']}", change).refuses(403, "permission_denied")
    assert tenant.api.get(f"/messages/{message['id']}").data == message
    assert tenant.api.patch(f"/messages/{message['id']}", change).data["content"] == {"text": "changed"}


@pytest.mark.parametrize("content", [{"text": ""}, {}, {"text": 7}, {"text": "x" * 20_001}])
def test_an_edit_is_held_to_the_type_of_the_message(tenant: Account, said: Said, content: dict[str, Any]) -> None:
    message = said[3]
    tenant.api.patch(f"/messages/{message['id']}", {"content": content}).refuses(
        422, "validation_failed", "/content/text"
    )
    assert tenant.api.get(f"/messages/{message['id']}").data == message
    assert tenant.api.get(f"/messages/{message['id']}/revisions").data == []


def test_a_deleted_message_leaves_a_tombstone_in_its_place(tenant: Account, said: Said) -> None:
    _, _, conversation, message = said
    path = f"/messages/{message['id']}"
    tenant.api.patch(path, {"content": {"text": "hello again"}, "metadata": {"secret": "gone"}})
    tenant.api.acting_as("bob").post(f"{path}/reactions", {"name": "👍"})
    tombstone = tenant.api.acting_as("ada").delete(path).data
    assert tombstone["deletedAt"] is not None
    assert (tombstone["content"], tombstone["metadata"], tombstone["reactions"]) == ({}, {}, [])
    assert tombstone["seq"] == message["seq"]
    assert tenant.api.get(f"{path}/revisions").data == []
    history = tenant.api.get(f"/messages/conversations/{conversation['id']}").data
    assert history["messages"] == [tombstone]
    assert history["pagination"]["total"] == 1
    assert tenant.api.acting_as("ada").delete(path).data == tombstone
    tenant.api.patch(path, {"content": {"text": "back"}}).refuses(409, "conflict")
    tenant.api.acting_as("bob").post(f"{path}/reactions", {"name": "👍"}).refuses(409, "conflict")


def test_a_member_may_not_delete_what_another_said_but_an_owner_may(tenant: Account) -> None:
    owner, member = tenant.user("olga"), tenant.user("max")
    group = tenant.api.acting_as("olga").post("/conversations", {"type": "group", "participantIds": ["max"]}).data
    by_owner, by_member = tenant.message(group, owner), tenant.message(group, member)
    tenant.api.acting_as("max").delete(f"/messages/{by_owner['id']}").refuses(403, "permission_denied")
    assert tenant.api.acting_as("olga").delete(f"/messages/{by_member['id']}").data["deletedAt"] is not None


def test_reactions_are_counted_by_name_and_say_whether_one_is_ones_own(
    tenant: Account, said: Said, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    _, _, _, message = said
    path = f"/messages/{message['id']}"
    with django_capture_on_commit_callbacks(execute=True):
        tenant.api.acting_as("ada").post(f"{path}/reactions", {"name": "👍"})
        seen_by_bob = tenant.api.acting_as("bob").post(f"{path}/reactions", {"name": "👍"}).data
        tenant.api.acting_as("bob").post(f"{path}/reactions", {"name": "👍"})
        tenant.api.acting_as("bob").post(f"{path}/reactions", {"name": "赞"})
    assert seen_by_bob["reactions"] == [{"name": "👍", "count": 2, "me": True}]
    assert log_of(announced) == [(2, "reaction_added"), (3, "reaction_added"), (4, "reaction_added")]
    assert tenant.api.get(path).data["reactions"] == [
        {"name": "👍", "count": 2, "me": False},
        {"name": "赞", "count": 1, "me": False},
    ]
    assert [(one["name"], one["externalUserId"]) for one in tenant.api.get(f"{path}/reactions").data] == [
        ("👍", "ada"),
        ("👍", "bob"),
        ("赞", "bob"),
    ]
    assert tenant.api.acting_as("ada").delete(f"{path}/reactions/👍").data["reactions"] == [
        {"name": "👍", "count": 1, "me": False},
        {"name": "赞", "count": 1, "me": False},
    ]


def test_whoever_blocks_the_author_meanwhile_is_told_that_there_is_no_message(
    tenant: Account, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device of theirs blocks between the look-up and the answer; nothing of the reaction stays."""
    ada, bob, _, message = said
    path = f"/messages/{message['id']}"
    add_reaction = services.add_reaction

    def slowly(**arguments: Any) -> Any:
        added = add_reaction(**arguments)
        with tenant_scope(tenant.tenant):
            UserBlock.objects.create(blocker_id=bob["id"], blocked_id=ada["id"], created_at=timezone.now())
        return added

    monkeypatch.setattr(services, "add_reaction", slowly)
    tenant.api.acting_as("bob").post(f"{path}/reactions", {"name": "👍"}).refuses(404, "message_not_found")
    monkeypatch.undo()
    assert tenant.api.get(f"{path}/reactions").data == []


def test_a_reaction_needs_somebody_who_gives_it(tenant: Account, said: Said) -> None:
    path = f"/messages/{said[3]['id']}/reactions"
    tenant.api.post(path, {"name": "👍"}).refuses(400, "acting_user_required")


def test_a_thread_holds_every_reply_down_to_its_root(tenant: Account, said: Said) -> None:
    ada, bob, conversation, root = said
    first = tenant.message(conversation, bob, "one", replyToId=root["id"])
    second = tenant.message(conversation, ada, "two", replyToId=first["id"])
    tenant.message(conversation, ada, "elsewhere")
    for message in (root, first, second):
        thread = tenant.api.get(f"/messages/{message['id']}/thread").data
        assert thread["root"]["id"] == root["id"]
        assert [reply["id"] for reply in thread["replies"]] == [first["id"], second["id"]]
        assert thread["replyCount"] == 2
        assert [person["externalUserId"] for person in thread["participants"]] == ["bob", "ada"]
    assert tenant.api.get(f"/messages/{root['id']}/thread", {"limit": "1"}).data["hasMore"] is True
    tenant.api.delete(f"/messages/{first['id']}")
    assert tenant.api.get(f"/messages/{root['id']}/thread").data["replyCount"] == 1


def test_pins_are_listed_and_leave_with_their_message(tenant: Account, said: Said) -> None:
    _, _, conversation, message = said
    path = f"/messages/{message['id']}/pin"
    tenant.api.acting_as("bob").put(path).refuses(403, "permission_denied")
    assert tenant.api.put(path).data["id"] == message["id"]
    assert [pinned["id"] for pinned in tenant.api.get(f"/conversations/{conversation['id']}/pins").data] == [
        message["id"]
    ]
    tenant.api.delete(path)
    assert tenant.api.get(f"/conversations/{conversation['id']}/pins").data == []
    tenant.api.put(path)
    tenant.api.delete(f"/messages/{message['id']}")
    assert tenant.api.get(f"/conversations/{conversation['id']}/pins").data == []


def test_both_members_of_a_direct_conversation_may_pin(tenant: Account) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    message = tenant.message(tenant.conversation(ada, bob, type="direct"), ada)
    assert tenant.api.acting_as("bob").put(f"/messages/{message['id']}/pin").status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "", None),
        ("patch", "", {"content": {"text": "x"}}),
        ("delete", "", None),
        ("get", "/revisions", None),
        ("post", "/reactions", {"name": "👍"}),
        ("get", "/reactions", None),
        ("delete", "/reactions/x", None),
        ("put", "/pin", None),
        ("delete", "/pin", None),
        ("get", "/thread", None),
    ],
)
def test_a_message_of_others_is_not_found(
    tenant: Account, said: Said, method: str, path: str, body: dict[str, Any] | None
) -> None:
    tenant.user("eve")
    call = getattr(tenant.api.acting_as("eve"), method)
    arguments = [] if body is None else [body]
    call(f"/messages/{said[3]['id']}{path}", *arguments).refuses(404, "message_not_found")
    assert tenant.api.get(f"/messages/{said[3]['id']}").data == said[3]


def test_reading_moves_on_and_never_back(
    tenant: Account, said: Said, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    ada, _, conversation, _ = said
    tenant.messages(conversation, ada, 4)
    path = f"/conversations/{conversation['id']}"
    bob = tenant.api.acting_as("bob")
    with django_capture_on_commit_callbacks(execute=True):
        membership = bob.post(f"{path}/read", {"seq": 3}).data["membership"]
    assert (membership["lastReadSeq"], membership["unreadCount"]) == (3, 2)
    told = {type(event): event for _, event in announced.announced if isinstance(event, ToUser | ToOnlookers)}
    assert told[ToUser].data["unreadCount"] == 2
    assert told[ToOnlookers].data["lastReadSeq"] == 3
    assert bob.post(f"{path}/read", {"seq": 2}).data["membership"]["lastReadSeq"] == 3
    assert bob.post(f"{path}/read", {"seq": 10**9}).data["membership"] == membership | {
        "lastReadSeq": 5,
        "unreadCount": 0,
    }


def test_marking_unread_moves_back_to_just_before_the_message(tenant: Account, said: Said) -> None:
    ada, bob, conversation, message = said
    tenant.message(conversation, bob, "mine")
    tenant.messages(conversation, ada, 2)
    path = f"/conversations/{conversation['id']}/unread"
    membership = tenant.api.acting_as("bob").post(path, {"messageId": message["id"]}).data["membership"]
    assert (membership["lastReadSeq"], membership["unreadCount"]) == (0, 3)
    assert tenant.api.get("/users/bob/unread").data == {"unreadMessages": 3, "unreadConversations": 1}


def test_sending_reads(tenant: Account, said: Said) -> None:
    _, bob, conversation, _ = said
    assert tenant.api.get("/users/bob/unread").data["unreadMessages"] == 1
    tenant.message(conversation, bob)
    assert tenant.api.get("/users/bob/unread").data["unreadMessages"] == 0
    assert tenant.api.get("/users/ada/unread").data["unreadMessages"] == 1


def test_silent_messages_are_never_unread(tenant: Account, said: Said) -> None:
    ada, _, conversation, _ = said
    tenant.message(conversation, ada, silent=True)
    assert tenant.api.get("/users/bob/unread").data["unreadMessages"] == 1


def test_a_message_is_read_when_everybody_else_has_read_it(tenant: Account, said: Said) -> None:
    _, _, conversation, message = said
    tenant.user("carol")
    tenant.api.post(f"/conversations/{conversation['id']}/participants", {"participantIds": ["carol"]})
    later = tenant.message(conversation, said[0], "later")
    for reader, expected in (("bob", "sent"), ("carol", "read")):
        tenant.api.acting_as(reader).post(f"/conversations/{conversation['id']}/read", {"seq": later["seq"]})
        assert tenant.api.get(f"/messages/{later['id']}").data["status"] == expected
    assert tenant.api.get(f"/messages/{message['id']}").data["status"] == "read"
    newest = tenant.message(conversation, said[1], "newest")
    assert (newest["status"], tenant.api.get(f"/messages/{newest['id']}").data["status"]) == ("sent", "sent")
