"""What a user wants to be notified of, obeyed by the sweep; and whether a user is there."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messagecore.kernel import wire
from messaging.models import Notification, NotificationPreferences, User
from messaging.tasks import sweep_outbox
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Api
from tests.ports import FixedPresence

DEFAULTS = {"level": "all", "showPreview": True}
HOUR = timedelta(hours=1)


@pytest.fixture
def trio(tenant: Account, presence: FixedPresence) -> tuple[Any, Any, Any, Any]:
    ada, bob, eve = (tenant.user(name) for name in ("ada", "bob", "eve"))
    return ada, bob, eve, tenant.conversation(ada, bob, eve)


def prefer(tenant: Account, name: str, **change: Any) -> None:
    assert tenant.api.patch(f"/users/{name}/notification-preferences", change).status == 200


def mute(tenant: Account, room: Any, name: str, until: str) -> None:
    answer = tenant.api.acting_as(name).patch(f"/conversations/{room['id']}/membership", {"mutedUntil": until})
    assert answer.status == 200


def told(tenant: Account, name: str = "bob") -> list[str]:
    """What the user is told of by the sweep, by the messages' texts, oldest first."""
    sweep_outbox()
    with tenant_scope(tenant):
        rows = Notification.objects.filter(user__external_user_id=name).order_by("message__seq")
        return [content["text"] for content in rows.values_list("message__content", flat=True)]


@pytest.mark.core
class TestSaying:
    def test_who_never_said_has_the_defaults(self, tenant: Account, trio: Any) -> None:
        _, bob, _, _ = trio
        assert tenant.user_api(bob).get("/users/bob/notification-preferences").data == DEFAULTS
        with tenant_scope(tenant):
            assert NotificationPreferences.objects.count() == 0

    def test_what_is_left_out_or_null_stays(self, tenant: Account, trio: Any) -> None:
        _, bob, _, _ = trio
        own, path = tenant.user_api(bob), "/users/bob/notification-preferences"
        assert own.patch(path, {}).data == DEFAULTS
        assert own.patch(path, {"level": "mentions"}).data == {"level": "mentions", "showPreview": True}
        assert own.patch(path, {"level": None, "showPreview": False}).data == {
            "level": "mentions",
            "showPreview": False,
        }
        assert tenant.api.get(path).data == {"level": "mentions", "showPreview": False}
        assert tenant.api.patch(path, DEFAULTS).data == DEFAULTS

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [({"level": "some"}, "/level"), ({"showPreview": 1}, "/showPreview"), ({"sound": True}, "/sound"), ([], "")],
    )
    def test_garbage_changes_nothing(self, tenant: Account, trio: Any, change: Any, pointer: str) -> None:
        answer = tenant.api.patch("/users/bob/notification-preferences", change)
        answer.refuses(422, "validation_failed", pointer)
        assert tenant.api.get("/users/bob/notification-preferences").data == DEFAULTS

    def test_they_are_everybodys_own(self, tenant: Account, trio: Any) -> None:
        _, _, eve, _ = trio
        other = tenant.user_api(eve)
        other.get("/users/bob/notification-preferences").refuses(404, "user_not_found")
        other.patch("/users/bob/notification-preferences", {"level": "nothing"}).refuses(404, "user_not_found")
        tenant.api.get("/users/nobody/notification-preferences").refuses(404, "user_not_found")
        assert tenant.api.get("/users/bob/notification-preferences").data == DEFAULTS

    @pytest.mark.parametrize("mode", ["anonymise", "erase"])
    def test_they_go_with_the_user(self, tenant: Account, trio: Any, mode: str) -> None:
        prefer(tenant, "bob", level="nothing")
        tenant.api.delete("/users/bob", {"messages": mode})
        with tenant_scope(tenant):
            assert NotificationPreferences.objects.count() == 0


SAID: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("by name", {"mentions": ["bob"]}),
    ("channel", {"mentions": ["channel"]}),
    ("here", {"mentions": ["here"]}),
    ("another", {"mentions": ["eve"]}),
    ("silent, by name", {"mentions": ["bob"], "silent": True}),
]


@pytest.mark.core
class TestObeying:
    @pytest.mark.parametrize(
        ("level", "is_muted", "expected"),
        [
            ("all", False, ["plain", "by name", "channel", "here", "another"]),
            ("all", True, ["by name"]),
            ("mentions", False, ["by name", "channel"]),
            ("mentions", True, ["by name"]),
            ("nothing", False, []),
            ("nothing", True, []),
        ],
    )
    def test_of_what_each_level_hears(
        self, tenant: Account, trio: Any, level: str, is_muted: bool, expected: list[str]
    ) -> None:
        ada, _, _, room = trio
        if level != "all":
            prefer(tenant, "bob", level=level)
        if is_muted:
            mute(tenant, room, "bob", wire.timestamp(timezone.now() + HOUR))
        for text, fields in SAID:
            tenant.message(room, ada, text, **fields)
        assert told(tenant) == expected

    def test_a_mute_ends(self, tenant: Account, trio: Any) -> None:
        ada, _, _, room = trio
        mute(tenant, room, "bob", wire.timestamp(timezone.now() - HOUR))
        tenant.message(room, ada, "over")
        assert told(tenant) == ["over"]

    def test_a_mute_is_of_one_conversation_and_of_one_member(self, tenant: Account, trio: Any) -> None:
        ada, bob, _, room = trio
        mute(tenant, room, "bob", wire.timestamp(timezone.now() + HOUR))
        tenant.message(room, ada, "muted")
        tenant.message(tenant.conversation(ada, bob), ada, "elsewhere")
        assert (told(tenant), told(tenant, "eve")) == (["elsewhere"], ["muted"])

    def test_nothing_comes_from_whom_one_blocks(self, tenant: Account, trio: Any) -> None:
        ada, _, eve, room = trio
        tenant.api.post("/users/bob/blocks", {"userId": "ada"})
        tenant.message(room, eve, "eve's")
        tenant.message(room, ada, "blocked", mentions=["bob"])
        assert (told(tenant), told(tenant, "eve")) == (["eve's"], ["blocked"])

    def test_what_was_told_of_whom_one_blocks_by_now_is_not_listed(self, tenant: Account, trio: Any) -> None:
        ada, _, eve, room = trio
        for number in range(3):
            tenant.message(room, ada, f"ada {number}")
            tenant.message(room, eve, f"eve {number}")
        sweep_outbox()
        tenant.api.post("/users/bob/blocks", {"userId": "ada"})
        found: list[str] = []
        query: dict[str, Any] = {"limit": 1}
        while True:
            answer = tenant.api.get("/users/bob/notifications", query)
            found += [one["preview"] for one in answer.data]
            if not answer.pagination["hasMore"]:
                break
            query["cursor"] = answer.pagination["nextCursor"]
        assert sorted(found) == ["eve 0", "eve 1", "eve 2"]

    def test_the_server_and_the_dead_say_nothing(self, tenant: Account, trio: Any) -> None:
        ada, _, _, room = trio
        deleted = tenant.message(room, ada, "deleted")
        tenant.api.delete(f"/messages/{deleted['id']}")
        tenant.api.patch("/settings", {"membershipMessages": True})
        tenant.api.patch(f"/conversations/{room['id']}/participants/eve", {"role": "admin"})
        assert tenant.api.get(f"/conversations/{room['id']}").data["lastMessage"]["type"] == "system"
        assert told(tenant) == []

    def test_a_banned_user_hears_nothing_until_the_ban_ends(self, tenant: Account, trio: Any) -> None:
        ada, bob, eve, room = trio
        with tenant_scope(tenant):
            User.objects.filter(pk=bob["id"]).update(banned_until=timezone.now() + HOUR)
            User.objects.filter(pk=eve["id"]).update(banned_until=timezone.now() - HOUR)
        tenant.message(room, ada, "x")
        assert (told(tenant), told(tenant, "eve")) == ([], ["x"])

    def test_previews_are_shown_to_who_wants_them(self, tenant: Account, trio: Any) -> None:
        ada, _, _, room = trio
        tenant.message(room, ada, "secret")
        sweep_outbox()

        def preview(name: str) -> str | None:
            (one,) = tenant.api.get(f"/users/{name}/notifications").data
            shown: str | None = one["preview"]
            return shown

        prefer(tenant, "bob", showPreview=False)
        assert (preview("bob"), preview("eve")) == (None, "secret")
        prefer(tenant, "bob", showPreview=True)
        assert preview("bob") == "secret"


@pytest.mark.core
class TestPresence:
    def test_it_says_whether_a_user_is_there(self, tenant: Account, trio: Any, presence: FixedPresence) -> None:
        _, bob, eve, _ = trio
        presence.online.add(UUID(bob["id"]))
        for caller in (tenant.api, tenant.user_api(eve)):
            for name in ("bob", bob["id"]):
                assert caller.get(f"/users/{name}/presence").data == {
                    "userId": bob["id"],
                    "externalUserId": "bob",
                    "status": "online",
                    "lastSeen": None,
                }
        assert tenant.api.get("/users/eve/presence").data["status"] == "offline"
        tenant.api.get("/users/nobody/presence").refuses(404, "user_not_found")

    def test_who_asks_has_to_be_somebody(self, tenant: Account, trio: Any) -> None:
        Api({"X-API-Key": tenant.publishable_key}).get("/users/bob/presence").refuses(401, "token_required")
        tenant.api.post("/users/eve/deactivate")
        _, _, eve, _ = trio
        tenant.user_api(eve).get("/users/bob/presence").refuses(403, "user_inactive")

    def test_without_anybody_to_ask_it_is_unknown(self, tenant: Account) -> None:
        tenant.user("bob")
        assert tenant.api.get("/users/bob/presence").data["status"] in {"unknown", "offline"}


def test_a_sweep_costs_the_same_for_any_number(committed_tenant: Account, presence: FixedPresence) -> None:
    ada, *others = committed_tenant.users(30)
    small, large = committed_tenant.conversation(ada, others[0]), committed_tenant.conversation(ada, *others)

    def cost(run: Callable[[], Any]) -> int:
        run()
        with CaptureQueriesContext(connection) as captured:
            sweep_outbox()
        return len(captured)

    sweep_outbox()
    one = cost(lambda: committed_tenant.message(small, ada))
    for user in others[:10]:
        prefer(committed_tenant, user["externalUserId"], level="mentions")
        committed_tenant.api.post(f"/users/{user['id']}/blocks", {"userId": others[-1]["id"]})
    assert cost(lambda: committed_tenant.messages(large, ada, 12)) == one
