"""Changing conversations and who is in them: title and settings, freeze, slow mode, roles, joining, deleting."""

from typing import Any

import pytest

from messaging.events import DurableEvent, Joined, Left
from messaging.models import Role
from messaging.roles import ALLOWED, Action
from tests.accounts import Account, draft
from tests.ports import RecordingAnnouncer

pytestmark = pytest.mark.core


@pytest.fixture
def group(tenant: Account) -> dict[str, Any]:
    """A group with one of each role, named after their roles."""
    for role in Role.values:
        tenant.user(role)
    made = tenant.api.acting_as("owner").post("/conversations", {"type": "group", "title": "Team"}).data
    for role in ("admin", "member", "observer"):
        path = f"/conversations/{made['id']}/participants"
        assert tenant.api.post(path, {"participantIds": [role], "role": role}).status == 200
    return dict(tenant.api.get(f"/conversations/{made['id']}").data)


def test_a_change_is_in_the_log_once(
    tenant: Account, group: dict[str, Any], announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    path = f"/conversations/{group['id']}"
    with django_capture_on_commit_callbacks(execute=True):
        changed = tenant.api.patch(path, {"title": "团队", "settings": {"isFrozen": False}}).data
        assert tenant.api.patch(path, {"title": "团队"}).data["lastSeq"] == changed["lastSeq"]
    assert (changed["title"], changed["settings"]) == ("团队", {"isFrozen": False})
    (event,) = [event for _, event in announced.announced if isinstance(event, DurableEvent)]
    assert (event.type, event.seq) == ("conversation_updated", group["lastSeq"] + 1)
    assert event.data["conversation"]["title"] == "团队"
    assert tenant.api.patch(path, {"title": ""}).data["title"] is None


def test_settings_that_are_not_named_stay_and_unknown_ones_are_refused(tenant: Account, group: dict[str, Any]) -> None:
    path = f"/conversations/{group['id']}"
    tenant.api.patch(path, {"settings": {"slowModeSeconds": 5}})
    assert tenant.api.patch(path, {"settings": {"isFrozen": True}}).data["settings"] == {
        "slowModeSeconds": 5,
        "isFrozen": True,
    }
    assert tenant.api.patch(path, {"settings": {"colour": "red"}}).status == 422
    assert tenant.api.patch(path, {"settings": {"slowModeSeconds": -1}}).status == 422


def test_in_a_frozen_conversation_only_owners_and_admins_send(tenant: Account, group: dict[str, Any]) -> None:
    tenant.api.patch(f"/conversations/{group['id']}", {"settings": {"isFrozen": True}})
    body = draft(group, None)
    for role in ("owner", "admin"):
        assert tenant.api.acting_as(role).post("/messages/send", body).status == 200
    tenant.api.acting_as("member").post("/messages/send", body).refuses(403, "conversation_frozen")


def test_slow_mode_keeps_a_members_messages_apart(tenant: Account, group: dict[str, Any]) -> None:
    tenant.api.patch(f"/conversations/{group['id']}", {"settings": {"slowModeSeconds": 600}})
    body = draft(group, None)
    member = tenant.api.acting_as("member")
    assert member.post("/messages/send", body | {"clientMessageId": "once"}).status == 200
    refused = member.post("/messages/send", body)
    refused.refuses(429, "slow_mode")
    assert refused.error["retryable"] is True
    assert 590 <= int(refused.headers["Retry-After"]) <= 600
    assert member.post("/messages/send", body | {"clientMessageId": "once"}).headers["Idempotent-Replayed"] == "true"
    for _ in range(2):
        assert tenant.api.acting_as("admin").post("/messages/send", body).status == 200
    tenant.api.patch(f"/conversations/{group['id']}", {"settings": {"slowModeSeconds": 0}})
    assert member.post("/messages/send", body).status == 200


def _attempts(group: dict[str, Any], message: dict[str, Any]) -> dict[Action, tuple[str, str, Any]]:
    """A request for each action, which fails for nothing but the role."""
    path, said = f"/conversations/{group['id']}", f"/messages/{message['id']}"
    return {
        Action.READ: ("GET", path, None),
        Action.SEND: ("POST", "/messages/send", draft(group, None)),
        Action.REACT: ("POST", f"{said}/reactions", {"name": "👍"}),
        Action.PIN: ("PUT", f"{said}/pin", None),
        Action.DELETE_ANY_MESSAGE: ("DELETE", said, None),
        Action.UPDATE_CONVERSATION: ("PATCH", path, {"title": "New"}),
        Action.ADD_PARTICIPANTS: ("POST", f"{path}/participants", {"participantIds": ["newcomer"]}),
        Action.REMOVE_PARTICIPANTS: ("DELETE", f"{path}/participants/victim", None),
        Action.CHANGE_ROLES: ("PATCH", f"{path}/participants/victim", {"role": "observer"}),
        Action.LEAVE: ("DELETE", f"{path}/participants/{{role}}", None),
        Action.DELETE_CONVERSATION: ("DELETE", path, None),
        Action.BAN: ("POST", f"{path}/bans", {"userId": "victim"}),
    }


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("action", [a for a in Action if a not in {Action.SEND_WHEN_FROZEN, Action.IGNORE_SLOW_MODE}])
def test_each_role_may_what_the_table_says(tenant: Account, group: dict[str, Any], role: str, action: Action) -> None:
    victim = tenant.user("victim")
    tenant.user("newcomer")
    tenant.api.post(f"/conversations/{group['id']}/participants", {"participantIds": ["victim"]})
    message = tenant.message(group, victim)
    before = tenant.api.get(f"/conversations/{group['id']}").data
    method, path, body = _attempts(group, message)[action]
    answer = tenant.api.acting_as(role).request(method, path.format(role=role), body=body)
    if role in ALLOWED[action]:
        assert answer.status == (201 if action is Action.BAN else 200), answer.body
    else:
        answer.refuses(403, "permission_denied")
        assert tenant.api.get(f"/conversations/{group['id']}").data == before


def test_ownership_is_handed_on_and_only_by_the_owner(tenant: Account, group: dict[str, Any]) -> None:
    path = f"/conversations/{group['id']}/participants"
    tenant.api.acting_as("admin").patch(f"{path}/member", {"role": "owner"}).refuses(403, "permission_denied")
    tenant.api.acting_as("admin").patch(f"{path}/owner", {"role": "member"}).refuses(403, "permission_denied")
    tenant.api.acting_as("admin").delete(f"{path}/owner").refuses(403, "permission_denied")
    assert tenant.api.acting_as("owner").patch(f"{path}/member", {"role": "owner"}).data["role"] == "owner"
    people = tenant.api.get(f"/conversations/{group['id']}").data["participants"]
    roles = {person["externalUserId"]: person["role"] for person in people}
    assert roles == {"owner": "admin", "admin": "admin", "member": "owner", "observer": "observer"}


def test_a_channel_is_open_and_a_group_is_not(tenant: Account, group: dict[str, Any]) -> None:
    speaker = tenant.user("speaker")
    channel = tenant.conversation(speaker, type="channel")
    tenant.message(channel, speaker)
    tenant.user("guest")
    guest = tenant.api.acting_as("guest")
    guest.get(f"/messages/conversations/{channel['id']}").refuses(404, "conversation_not_found")
    joined = guest.post(f"/conversations/{channel['id']}/join").data
    assert (joined["membership"]["role"], joined["participantCount"]) == ("member", 2)
    assert guest.post(f"/conversations/{channel['id']}/join").data["lastSeq"] == joined["lastSeq"]
    assert len(guest.get(f"/messages/conversations/{channel['id']}").data["messages"]) == 1
    guest.post(f"/conversations/{group['id']}/join").refuses(404, "conversation_not_found")


def test_what_a_member_sets_for_themselves_is_theirs_alone(tenant: Account, group: dict[str, Any]) -> None:
    path = f"/conversations/{group['id']}"
    member = tenant.api.acting_as("member")
    change = {"mutedUntil": "2030-01-31T08:00:00+08:00", "pinned": True, "archived": True, "hidden": True}
    membership = member.patch(f"{path}/membership", change).data["membership"]
    assert membership["mutedUntil"] == "2030-01-31T00:00:00.000Z"
    assert (membership["pinned"], membership["archived"], membership["hidden"]) == (True, True, True)
    assert member.patch(f"{path}/membership", {"mutedUntil": "", "pinned": None}).data["membership"] == membership | {
        "mutedUntil": None
    }
    assert tenant.api.acting_as("admin").get(path).data["membership"]["pinned"] is False
    member.patch(f"{path}/membership", {"mutedUntil": "2030-02-30T00:00:00Z"}).refuses(
        422, "validation_failed", "/mutedUntil"
    )


def test_a_deleted_conversation_is_gone_for_everybody(
    tenant: Account, group: dict[str, Any], announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    message = tenant.api.acting_as("owner").post("/messages/send", draft(group, None)).data
    with django_capture_on_commit_callbacks(execute=True):
        assert tenant.api.acting_as("owner").delete(f"/conversations/{group['id']}").status == 200
    gone = [event for _, event in announced.announced if isinstance(event, Left)]
    assert (len(gone), {event.reason for event in gone}) == (4, {"deleted"})
    tenant.api.get(f"/conversations/{group['id']}").refuses(404, "conversation_not_found")
    tenant.api.get(f"/messages/{message['id']}").refuses(404, "message_not_found")
    assert tenant.api.get("/users/owner/conversations").data == []


@pytest.mark.parametrize("show_history", [True, False])
def test_a_newcomer_without_history_is_not_shown_the_last_message(
    tenant: Account,
    group: dict[str, Any],
    announced: RecordingAnnouncer,
    django_capture_on_commit_callbacks: Any,
    show_history: bool,
) -> None:
    said = tenant.api.acting_as("owner").post("/messages/send", draft(group, None, "before you came")).data
    tenant.user("newcomer")
    body = {"participantIds": ["newcomer"], "showHistory": show_history}
    with django_capture_on_commit_callbacks(execute=True):
        tenant.api.post(f"/conversations/{group['id']}/participants", body)
    (arrival,) = [event for _, event in announced.announced if isinstance(event, Joined)]
    shown = arrival.conversation["lastMessage"]
    assert (None if shown is None else shown["id"]) == (said["id"] if show_history else None)
    assert tenant.api.acting_as("newcomer").get(f"/conversations/{group['id']}").data["lastMessage"] == (
        shown if shown is None else tenant.api.get(f"/messages/{said['id']}").data
    )
