"""What waits for those who were offline: exactly once each, whatever happens to the sweeper."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from messaging.models import Notification, User
from messaging.ports import UnknownPresence
from messaging.services import notifications
from messaging.services.notifications import handle_outbox_rows
from messaging.tasks import sweep_outbox
from tenants import outbox
from tenants.models import OutboxEvent
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Api
from tests.ports import FixedPresence
from tests.threads import times

pytestmark = pytest.mark.core


@pytest.fixture
def trio(tenant: Account) -> list[Any]:
    bodies = [{"externalUserId": name} for name in ("ada", "bob", "eve")]
    users: list[Any] = tenant.api.post("/users/batch", {"users": bodies}).data
    return users


def waiting(account: Account, user: Any, **query: Any) -> list[Any]:
    found: list[Any] = account.api.get(f"/users/{user['externalUserId']}/notifications", query).data
    return found


def test_the_offline_are_told_and_only_they(tenant: Account, trio: list[Any], presence: FixedPresence) -> None:
    ada, bob, eve = trio
    presence.online.add(UUID(eve["id"]))
    room = tenant.conversation(*trio, externalId="room")
    sent = tenant.message(room, ada, "x" * 200)
    assert waiting(tenant, bob) == []
    assert sweep_outbox() == 2  # the conversation and the message
    (told,) = waiting(tenant, bob)
    assert {name: told[name] for name in told if name not in {"id", "createdAt"}} == {
        "type": "message",
        "conversationId": room["id"],
        "conversationExternalId": "room",
        "messageId": sent["id"],
        "seq": 1,
        "preview": "x" * 140,
        "readAt": None,
    }
    assert waiting(tenant, ada) == [], "not the sender"
    assert waiting(tenant, eve) == [], "not who is there"
    assert sweep_outbox() == 0
    assert len(waiting(tenant, bob)) == 1


def test_silent_messages_and_deactivated_users_are_left_in_peace(
    tenant: Account, trio: list[Any], presence: FixedPresence
) -> None:
    ada, bob, eve = trio
    room = tenant.conversation(*trio)
    tenant.message(room, ada, silent=True)
    with tenant_scope(tenant):
        User.objects.filter(pk=eve["id"]).update(is_active=False)
    tenant.message(room, ada)
    sweep_outbox()
    assert [notification["seq"] for notification in waiting(tenant, bob)] == [2]
    with tenant_scope(tenant):
        assert not Notification.objects.filter(user_id=eve["id"]).exists()


def test_who_left_before_the_sweep_is_not_told(tenant: Account, trio: list[Any], presence: FixedPresence) -> None:
    ada, bob, _ = trio
    room = tenant.conversation(ada, bob)
    tenant.message(room, ada)
    tenant.api.delete(f"/conversations/{room['id']}/participants/bob")
    sweep_outbox()
    assert waiting(tenant, bob) == []


@pytest.mark.parametrize("show_history", [True, False])
def test_who_came_before_the_sweep_is_not_told_of_what_was_said_before(
    tenant: Account, trio: list[Any], presence: FixedPresence, show_history: bool
) -> None:
    ada, bob, _ = trio
    room = tenant.conversation(ada)
    tenant.message(room, ada, "secret")
    body = {"participantIds": ["bob"], "showHistory": show_history}
    tenant.api.post(f"/conversations/{room['id']}/participants", body)
    tenant.message(room, ada, "for bob too")
    sweep_outbox()
    assert [told["preview"] for told in waiting(tenant, bob)] == ["for bob too"]


def test_while_presence_is_unknown_the_rows_wait(
    tenant: Account, trio: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, _ = trio
    room = tenant.conversation(ada, bob)
    tenant.message(room, ada)
    with monkeypatch.context() as patch:
        patch.setattr(FixedPresence, "presence_of", UnknownPresence.presence_of)
        assert sweep_outbox() == 0
    assert OutboxEvent.objects.filter(handled_at=None, type="new_message").count() == 1
    assert waiting(tenant, bob) == []
    sweep_outbox()
    assert len(waiting(tenant, bob)) == 1


def test_a_sweep_that_dies_leaves_everything_for_the_next(
    tenant: Account, trio: list[Any], presence: FixedPresence, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, _ = trio
    tenant.message(tenant.conversation(ada, bob), ada)

    def dies(rows: Any, *, now: datetime) -> None:
        handle_outbox_rows(rows, now=now)
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("messaging.tasks.handle_outbox_rows", dies)
        with pytest.raises(SystemError):
            sweep_outbox()
    assert waiting(tenant, bob) == []
    sweep_outbox()
    assert len(waiting(tenant, bob)) == 1


def test_two_sweepers_at_once_tell_everybody_once(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.tasks.SWEEP_ROWS", 3)
    ada, bob = committed_tenant.users(2)
    room = committed_tenant.conversation(ada, bob)
    sent = committed_tenant.messages(room, ada, 20)
    handled = times(4, lambda _: sweep_outbox())
    handled.append(sweep_outbox())
    assert sum(handled) == 21
    told = waiting(committed_tenant, bob, limit=100)
    assert sorted(notification["seq"] for notification in told) == [message["seq"] for message in sent]
    assert not OutboxEvent.objects.filter(tenant_id=committed_tenant.id, handled_at=None).exists()


def test_one_sweep_serves_many_tenants(
    tenant: Account, other_tenant: Account, trio: list[Any], presence: FixedPresence
) -> None:
    for account in (tenant, other_tenant):
        users = trio if account is tenant else [account.user(name) for name in ("ada", "bob")]
        account.message(account.conversation(*users), users[0], f"of {account.tenant.subdomain}")
    sweep_outbox()
    for account in (tenant, other_tenant):
        assert [told["preview"] for told in waiting(account, {"externalUserId": "bob"})] == [
            f"of {account.tenant.subdomain}"
        ]


def test_rows_of_a_tenant_that_is_gone_harm_nobody(tenant: Account, presence: FixedPresence) -> None:
    gone = outbox.Promise("new_message", UUID(int=1), 1, UUID(int=2), timezone.now())
    outbox.write(UUID(int=3), [gone])
    assert sweep_outbox() == 1
    assert outbox.backlog() == 0


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_the_list_is_latest_first_and_misses_nothing(
    tenant: Account, trio: list[Any], presence: FixedPresence, limit: int
) -> None:
    ada, bob, _ = trio
    room = tenant.conversation(ada, bob)
    for _ in range(3):
        tenant.messages(room, ada, 3)
        sweep_outbox()
    with tenant_scope(tenant):
        base = datetime(2026, 1, 1, tzinfo=UTC)
        for place, row in enumerate(Notification.objects.order_by("message__seq")):
            Notification.objects.filter(pk=row.pk).update(created_at=base + timedelta(seconds=place // 2))
    found: list[Any] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        answer = tenant.user_api(bob).get("/users/bob/notifications", query)
        found += answer.data
        if answer.pagination["nextCursor"] is None:
            break
        query["cursor"] = answer.pagination["nextCursor"]
    assert sorted(told["seq"] for told in found) == list(range(1, 10))
    assert [told["createdAt"] for told in found] == sorted((told["createdAt"] for told in found), reverse=True)


def test_the_unread_can_be_asked_for(tenant: Account, trio: list[Any], presence: FixedPresence) -> None:
    ada, bob, _ = trio
    tenant.messages(tenant.conversation(ada, bob), ada, 2)
    sweep_outbox()
    with tenant_scope(tenant):
        Notification.objects.filter(message__seq=1).update(read_at=timezone.now())
    assert [told["seq"] for told in waiting(tenant, bob, unreadOnly="true")] == [2]
    assert {told["seq"] for told in waiting(tenant, bob, unreadOnly="false")} == {1, 2}


def test_a_preview_is_shown_for_texts_alone(
    tenant: Account, api: Api, trio: list[Any], presence: FixedPresence
) -> None:
    ada, bob, _ = trio
    room = tenant.conversation(ada, bob)
    body = {"conversationId": room["id"], "senderId": "ada", "type": "location"}
    api.post("/messages/send", body | {"content": {"latitude": 1, "longitude": 2, "text": "here"}})
    sweep_outbox()
    assert [told["preview"] for told in waiting(tenant, bob)] == [None]


def test_an_empty_sweep_does_nothing(tenant: Account) -> None:
    assert sweep_outbox() == 0
    notifications.handle_outbox_rows([], now=timezone.now())
