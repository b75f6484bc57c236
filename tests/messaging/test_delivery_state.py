"""Why did this user not get it? Every reason, told for the case that it is there for and for no other."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messagecore.kernel import catalogue, wire
from messaging.models import Notification, User
from messaging.services.receipts import REASONS
from messaging.tasks import sweep_outbox
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.ports import FixedPresence

pytestmark = pytest.mark.core

HOUR = timedelta(hours=1)


@pytest.fixture
def pair(tenant: Account, presence: FixedPresence) -> tuple[Any, Any, Any]:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    return ada, bob, tenant.conversation(ada, bob)


def ask(tenant: Account, message: Any, name: str = "bob") -> tuple[str, list[str], bool]:
    """State, reasons, and whether there is a notification."""
    found = tenant.api.get(f"/messages/{message['id']}/delivery/{name}").data
    assert found["externalUserId"] == name
    return found["state"], found["reasons"], found["notification"] is not None


def people(room: Any, name: str = "") -> str:
    return f"/conversations/{room['id']}/participants" + (f"/{name}" if name else "")


def test_a_notification_waits_and_nothing_is_wrong(tenant: Account, pair: Any) -> None:
    ada, bob, room = pair
    message = tenant.message(room, ada)
    assert ask(tenant, message) == ("sent", ["no_notification_yet"], False)
    sweep_outbox()
    with tenant_scope(tenant):
        stored = Notification.objects.get()
    path = f"/messages/{message['id']}/delivery/{bob['id']}"
    assert tenant.api.get(path).data == {
        "user": {"id": bob["id"], "externalUserId": "bob", "displayName": None, "avatarUrl": None},
        "userId": bob["id"],
        "externalUserId": "bob",
        "state": "sent",
        "reasons": [],
        "notification": {"id": str(stored.id), "createdAt": wire.timestamp(stored.created_at), "readAt": None},
    }
    tenant.user_api(bob).post(f"/conversations/{room['id']}/delivered", {"seq": 1})
    assert ask(tenant, message) == ("delivered", [], True)
    tenant.user_api(bob).post(f"/conversations/{room['id']}/read", {"seq": 1})
    assert ask(tenant, message) == ("read", ["read_already"], True)


def test_who_was_connected_was_not_notified(tenant: Account, pair: Any, presence: FixedPresence) -> None:
    ada, bob, room = pair
    presence.online.add(UUID(bob["id"]))
    message = tenant.message(room, ada)
    sweep_outbox()
    assert ask(tenant, message) == ("sent", ["was_connected"], False)


def test_ones_own(tenant: Account, pair: Any) -> None:
    ada, _, room = pair
    message = tenant.message(room, ada)
    sweep_outbox()
    assert ask(tenant, message, "ada") == ("read", ["own_message"], False)


def test_who_was_never_there(tenant: Account, pair: Any) -> None:
    ada, _, room = pair
    tenant.user("eve")
    message = tenant.message(room, ada)
    sweep_outbox()
    assert ask(tenant, message, "eve") == ("none", ["not_a_participant"], False)


def test_who_went_before_it_and_who_went_after(tenant: Account, pair: Any) -> None:
    ada, _, room = pair
    before = tenant.message(room, ada)
    tenant.api.delete(people(room, "bob"))
    after = tenant.message(room, ada)
    sweep_outbox()
    assert ask(tenant, before) == ("none", ["removed_since"], False)
    assert ask(tenant, after) == ("none", ["removed_before"], False)
    tenant.api.post(people(room), {"participantIds": ["bob"]})
    back = tenant.message(room, ada)
    tenant.api.delete(people(room, "bob"))
    assert ask(tenant, back) == ("none", ["removed_since"], False)
    assert ask(tenant, after) == ("none", ["removed_before"], False)


@pytest.mark.parametrize(
    ("shows_history", "expected"),
    [(True, ("read", ["joined_after", "read_already"], False)), (False, ("none", ["before_their_view"], False))],
)
def test_who_came_after_it(tenant: Account, pair: Any, shows_history: bool, expected: Any) -> None:
    ada, _, room = pair
    tenant.user("eve")
    message = tenant.message(room, ada)
    tenant.api.post(people(room), {"participantIds": ["eve"], "showHistory": shows_history})
    sweep_outbox()
    state, reasons, is_told = ask(tenant, message, "eve")
    assert (state, [reason for reason in reasons if shows_history or reason != "read_already"], is_told) == expected
    later = tenant.message(room, ada)
    sweep_outbox()
    assert ask(tenant, later, "eve") == ("sent", [], True)


def _block(tenant: Account, pair: Any) -> None:
    tenant.api.post("/users/bob/blocks", {"userId": "ada"})


def _deactivate(tenant: Account, pair: Any) -> None:
    tenant.api.post("/users/bob/deactivate")


def _ban(tenant: Account, pair: Any) -> None:
    with tenant_scope(tenant):
        User.objects.filter(external_user_id="bob").update(banned_until=timezone.now() + HOUR)


def _mute(tenant: Account, pair: Any) -> None:
    until = wire.timestamp(timezone.now() + HOUR)
    tenant.api.acting_as("bob").patch(f"/conversations/{pair[2]['id']}/membership", {"mutedUntil": until})


def _want_mentions(tenant: Account, pair: Any) -> None:
    tenant.api.patch("/users/bob/notification-preferences", {"level": "mentions"})


def _want_nothing(tenant: Account, pair: Any) -> None:
    tenant.api.patch("/users/bob/notification-preferences", {"level": "nothing"})


@pytest.mark.parametrize(
    ("prepare", "fields", "reason"),
    [
        (_block, {}, "blocked_sender"),
        (_deactivate, {}, "user_inactive"),
        (_ban, {}, "user_banned"),
        (_mute, {}, "muted"),
        (_mute, {"mentions": ["channel", "here"]}, "muted"),
        (_mute, {"mentions": ["bob"]}, None),
        (_want_mentions, {}, "preferences"),
        (_want_mentions, {"mentions": ["here", "ada"]}, "preferences"),
        (_want_mentions, {"mentions": ["channel"]}, None),
        (_want_mentions, {"mentions": ["bob"]}, None),
        (_want_nothing, {"mentions": ["bob"]}, "preferences"),
        (None, {"silent": True}, "silent"),
    ],
)
def test_what_the_sweep_leaves_out_has_a_reason_and_what_it_tells_has_none(
    tenant: Account,
    pair: Any,
    prepare: Callable[[Account, Any], None] | None,
    fields: dict[str, Any],
    reason: str | None,
) -> None:
    ada, _, room = pair
    if prepare is not None:
        prepare(tenant, pair)
    message = tenant.message(room, ada, **fields)
    sweep_outbox()
    assert ask(tenant, message) == ("sent", [reason] if reason else [], reason is None)


def test_what_is_deleted_before_the_sweep(tenant: Account, pair: Any) -> None:
    ada, _, room = pair
    message = tenant.message(room, ada)
    tenant.api.delete(f"/messages/{message['id']}")
    sweep_outbox()
    assert ask(tenant, message) == ("sent", ["deleted"], False)


def test_what_the_server_writes(tenant: Account, pair: Any) -> None:
    _, _, room = pair
    tenant.api.patch("/settings", {"membershipMessages": True})
    tenant.api.patch(people(room, "bob"), {"role": "admin"})
    sweep_outbox()
    message = tenant.api.get(f"/conversations/{room['id']}").data["lastMessage"]
    assert ask(tenant, message) == ("sent", ["system_message"], False)


def test_several_reasons_come_in_their_order(tenant: Account, pair: Any) -> None:
    ada, _, room = pair
    for prepare in (_want_nothing, _mute, _ban, _block):
        prepare(tenant, pair)
    message = tenant.message(room, ada, silent=True)
    tenant.api.delete(people(room, "bob"))
    _, reasons, _ = ask(tenant, message)
    assert reasons == ["removed_since", "blocked_sender", "user_banned", "silent", "preferences"]
    order = list(REASONS)
    assert reasons == sorted(reasons, key=order.index)


def test_every_reason_is_told_in_the_catalogue_and_in_the_guide() -> None:
    told = catalogue.definitions()["DeliveryReason"]["oneOf"]
    assert {reason["const"]: reason["description"] for reason in told} == REASONS
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "delivery.md").read_text("utf-8")
    table = re.findall(r"^\| `(\w+)` \| (.*) \|$", guide.partition("<!-- reasons: begin -->")[2], re.MULTILINE)
    assert dict(table) == REASONS


def test_it_is_for_the_back_end(tenant: Account, pair: Any) -> None:
    ada, bob, room = pair
    message = tenant.message(room, ada)
    path = f"/messages/{message['id']}/delivery/bob"
    tenant.user_api(bob).get(path).refuses(403, "permission_denied")
    tenant.user_api(ada).get(path).refuses(403, "permission_denied")
    tenant.api.get(f"/messages/{message['id']}/delivery/nobody").refuses(404, "user_not_found")
    tenant.api.get("/messages/019a2f53-b8f0-7d26-b3a9-1e5c7d904f62/delivery/bob").refuses(404, "message_not_found")


def test_it_costs_a_fixed_number_of_statements(tenant: Account, pair: Any) -> None:
    ada, _, room = pair

    def cost() -> int:
        message = tenant.message(room, ada)
        sweep_outbox()
        with CaptureQueriesContext(connection) as captured:
            ask(tenant, message)
        return len(captured)

    cost()
    one = cost()
    for name in ("c", "d", "e"):
        tenant.user(name)
        tenant.api.post(people(room), {"participantIds": [name]})
        tenant.api.delete(people(room, name))
    assert cost() == one
