"""Scheduled messages: kept, changed, cancelled; sent once, late rather than never, whatever refuses, breaks or goes."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from messagecore.kernel import wire
from messaging.models import Message, ScheduledMessage
from messaging.services import scheduling
from messaging.services.sending import send_messages
from messaging.tasks import send_scheduled
from quotas.models import Subscription
from quotas.services.limits import forget_cached_limits
from tenants import timers
from tenants.models import Tenant, Timer
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.scheduling import body, history, later, schedule, texts, time_comes, waiting

NEVER = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


@pytest.fixture
def people(tenant: Account) -> tuple[Any, Any, Any]:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    return ada, bob, tenant.conversation(ada, bob, externalId="room")


@pytest.mark.core
class TestKeeping:
    def test_it_waits_and_is_sent_when_its_time_comes(self, tenant: Account, people: Any) -> None:
        ada, bob, room = people
        at = later(90)
        root = tenant.message(room, ada, "root")
        answer = schedule(
            tenant,
            room,
            ada,
            "hi",
            sendAt=at,
            mentions=["bob", "channel"],
            metadata={"a": 1},
            silent=True,
            replyToId=root["id"],
        )
        assert answer.status == 201
        kept = answer.data
        assert kept == {
            "id": kept["id"],
            "status": "scheduled",
            "sendAt": at,
            "conversationId": room["id"],
            "conversationExternalId": "room",
            "sender": {"id": ada["id"], "externalUserId": "ada", "displayName": None, "avatarUrl": None},
            "senderId": ada["id"],
            "message": {
                "type": "text",
                "content": {"text": "hi"},
                "replyToId": root["id"],
                "clientMessageId": None,
                "mentions": [bob["id"], "channel"],
                "metadata": {"a": 1},
                "silent": True,
            },
            "messageId": None,
            "errorCode": None,
            "createdAt": kept["createdAt"],
            "updatedAt": kept["createdAt"],
        }
        assert send_scheduled() == 0
        assert texts(tenant, room) == ["root"]
        assert tenant.api.get("/usage").data["messages"]["current"] == 1, "it costs nothing yet"
        time_comes(tenant)
        assert send_scheduled() == 1
        message = history(tenant, room)[-1]
        shown = {name: message[name] for name in kept["message"]}
        assert shown == kept["message"] | {"clientMessageId": f"scheduled:{kept['id']}"}
        assert (message["senderId"], message["threadId"], message["seq"]) == (ada["id"], root["id"], 2)
        sent = tenant.api.get(f"/messages/scheduled/{kept['id']}").data
        assert (sent["status"], sent["messageId"], sent["message"]) == ("sent", message["id"], None)
        assert tenant.api.get("/usage").data["messages"]["current"] == 2
        assert (send_scheduled(), waiting(tenant)) == (0, 0)
        with tenant_scope(tenant):
            assert ScheduledMessage.objects.get().draft == {}

    def test_a_user_schedules_by_their_own_token(self, tenant: Account, people: Any) -> None:
        ada, bob, room = people
        own = tenant.user_api(ada)
        kept = own.post("/messages/scheduled", body(room, None)).data
        assert kept["senderId"] == ada["id"]
        own.post("/messages/scheduled", body(room, bob)).refuses(404, "user_not_found")
        tenant.api.post("/messages/scheduled", body(room, None)).refuses(400, "acting_user_required")
        assert tenant.api.acting_as("bob").post("/messages/scheduled", body(room, None)).data["senderId"] == bob["id"]

    def test_it_is_sent_late_where_nobody_worked_for_hours(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        schedule(tenant, room, ada, "1", sendAt=later(100))
        schedule(tenant, room, ada, "2", sendAt=later(10))
        time_comes(tenant, by=timedelta(hours=9))
        before = timezone.now()
        assert send_scheduled() == 2
        assert texts(tenant, room) == ["2", "1"], "in the order of their times"
        assert wire.parse_timestamp(history(tenant, room)[0]["createdAt"]) >= before - timedelta(seconds=1)

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"sendAt": None}, "/sendAt"),
            ({"sendAt": "tomorrow"}, "/sendAt"),
            ({"sendAt": "2026-02-30T00:00:00Z"}, "/sendAt"),
            ({"sendAt": 5}, "/sendAt"),
            ({"sendAt": "0001-01-01T00:00:00+14:00"}, "/sendAt"),
            ({"sendAt": "9999-12-31T23:59:59Z"}, "/sendAt"),
            ({"content": {"text": ""}}, "/content/text"),
            ({"content": []}, "/content"),
            ({"type": "system"}, "/type"),
            ({"at": "x"}, "/at"),
            ({"mentions": ["a", "a"]}, "/mentions"),
            ({"mentions": [str(n) for n in range(101)]}, "/mentions"),
            ({"clientMessageId": ""}, "/clientMessageId"),
            ({"replyToId": "1"}, "/replyToId"),
            ({"silent": "yes"}, "/silent"),
            ({"metadata": []}, "/metadata"),
        ],
    )
    def test_garbage_is_refused_by_name(self, tenant: Account, people: Any, change: Any, pointer: str) -> None:
        ada, _, room = people
        answer = tenant.api.post("/messages/scheduled", body(room, ada) | change)
        answer.refuses(422, "validation_failed")
        assert pointer in answer.pointers
        assert waiting(tenant) == 0

    @pytest.mark.parametrize("ahead_s", [-3600, 0, 3, 366 * 86_400])
    def test_a_time_that_is_past_or_too_far(self, tenant: Account, people: Any, ahead_s: float) -> None:
        ada, _, room = people
        schedule(tenant, room, ada, sendAt=later(ahead_s)).refuses(422, "validation_failed", "/sendAt")
        assert waiting(tenant) == 0

    @pytest.mark.parametrize("ahead_s", [7, 364 * 86_400])
    def test_a_time_within_the_year(self, tenant: Account, people: Any, ahead_s: float) -> None:
        ada, _, room = people
        at = later(ahead_s)
        assert schedule(tenant, room, ada, sendAt=at).data["sendAt"] == at
        assert wire.timestamp(Timer.objects.get().due_at) == at

    def test_what_could_not_be_sent_now_is_refused_now(self, tenant: Account, people: Any) -> None:
        ada, bob, room = people
        eve = tenant.user("eve")
        schedule(tenant, room, eve).refuses(403, "not_a_participant")
        schedule(tenant, room, {"id": "nobody"}).refuses(404, "user_not_found")
        schedule(tenant, {"id": NEVER}, ada).refuses(404, "conversation_not_found")
        schedule(tenant, room, ada, mentions=["eve"]).refuses(422, "validation_failed", "/mentions/0")
        schedule(tenant, room, ada, mentions=["bob", "x"]).refuses(422, "validation_failed", "/mentions/1")
        schedule(tenant, room, ada, replyToId=NEVER).refuses(404, "message_not_found")
        schedule(tenant, room, ada, content={"text": "x", "more": "y" * 70_000}).refuses(413, "payload_too_large")
        schedule(tenant, room, ada, type="file", content={"fileId": NEVER}).refuses(422, "validation_failed")
        tenant.user_api(eve).post("/messages/scheduled", body(room, None)).refuses(404, "conversation_not_found")
        tenant.api.patch(f"/conversations/{room['id']}/participants/bob", {"role": "observer"})
        schedule(tenant, room, bob).refuses(403, "permission_denied")
        tenant.api.post("/users/bob/deactivate")
        schedule(tenant, room, bob).refuses(403, "user_inactive")
        direct = tenant.conversation(ada, eve, type="direct")
        tenant.api.post("/users/eve/blocks", {"userId": "ada"})
        schedule(tenant, direct, ada).refuses(403, "blocked")
        assert waiting(tenant) == 0
        assert tenant.api.get("/messages/scheduled").data == []

    def test_what_passes_by_itself_does_not_refuse(self, tenant: Account, people: Any) -> None:
        _, bob, room = people
        tenant.api.patch(f"/conversations/{room['id']}", {"settings": {"isFrozen": True, "slowModeSeconds": 60}})
        Subscription.objects.filter(tenant_id=tenant.id).update(max_messages=0)
        forget_cached_limits()
        assert schedule(tenant, room, bob).status == 201

    def test_a_user_has_so_many_waiting(self, tenant: Account, people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        ada, bob, room = people
        monkeypatch.setattr(scheduling, "MAX_SCHEDULED", 2)
        first = schedule(tenant, room, ada).data
        schedule(tenant, room, ada)
        schedule(tenant, room, ada).refuses(409, "conflict")
        assert schedule(tenant, room, bob).status == 201
        tenant.api.delete(f"/messages/scheduled/{first['id']}")
        assert schedule(tenant, room, ada).status == 201

    def test_the_key_needs_the_scope(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        reader = type(tenant.api)({"X-API-Key": tenant.key(scopes=["messages:read"])})
        reader.post("/messages/scheduled", body(room, ada)).refuses(403, "scope_missing")
        assert reader.get("/messages/scheduled").data == []

    def test_numbers_that_the_database_writes_otherwise(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        schedule(tenant, room, ada, type="custom", content={"big": 5.6e290, "n": 2**53}, metadata={"m": 1e300})
        time_comes(tenant)
        assert send_scheduled() == 1
        (message,) = history(tenant, room)
        assert (message["content"], message["metadata"]) == ({"big": 5.6e290, "n": 2**53}, {"m": 1e300})


@pytest.mark.core
class TestRepeating:
    def test_a_repeat_answers_with_the_first(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        said = body(room, ada, clientMessageId="c-1", metadata={"x": 1.5})
        first = tenant.api.post("/messages/scheduled", said)
        again = tenant.api.post("/messages/scheduled", said)
        assert (again.status, again.data, again.headers["Idempotent-Replayed"]) == (201, first.data, "true")
        assert "Idempotent-Replayed" not in first.headers
        for change in ({"content": {"text": "other"}}, {"sendAt": later(500)}, {"silent": True}):
            tenant.api.post("/messages/scheduled", said | change).refuses(409, "idempotency_conflict")
        other = tenant.conversation(ada)
        tenant.api.post("/messages/scheduled", said | {"conversationId": other["id"]}).refuses(
            409, "idempotency_conflict"
        )
        assert waiting(tenant) == 1
        time_comes(tenant)
        send_scheduled()
        late = tenant.api.post("/messages/scheduled", said | {"sendAt": later()})
        assert (late.data["id"], late.data["status"]) == (first.data["id"], "sent")
        assert texts(tenant, room) == ["later"]
        assert waiting(tenant) == 0

    def test_its_own_client_message_id_is_the_messages(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        schedule(tenant, room, ada, clientMessageId="c-1")
        time_comes(tenant)
        send_scheduled()
        replay = tenant.api.post("/messages/send", draft(room, ada, "later", clientMessageId="c-1"))
        assert replay.headers["Idempotent-Replayed"] == "true"
        assert texts(tenant, room) == ["later"]

    def test_what_was_said_meanwhile_under_its_id(self, tenant: Account, people: Any) -> None:
        ada, bob, room = people
        same = schedule(tenant, room, ada, clientMessageId="c-1").data
        other = schedule(tenant, room, bob, clientMessageId="c-1").data
        sent = tenant.message(room, ada, "later", clientMessageId="c-1")
        tenant.message(room, bob, "something else", clientMessageId="c-1")
        schedule(tenant, room, ada, clientMessageId="c-1", content={"text": "x"}).refuses(409, "idempotency_conflict")
        tenant.message(room, ada, "taken", clientMessageId="c-2")
        schedule(tenant, room, ada, clientMessageId="c-2").refuses(409, "idempotency_conflict")
        time_comes(tenant)
        assert send_scheduled() == 2
        assert tenant.api.get(f"/messages/scheduled/{same['id']}").data["messageId"] == sent["id"]
        failed = tenant.api.get(f"/messages/scheduled/{other['id']}").data
        assert (failed["status"], failed["errorCode"]) == ("failed", "idempotency_conflict")
        assert texts(tenant, room) == ["later", "something else", "taken"]


@pytest.mark.core
class TestChanging:
    def test_it_is_changed_until_it_is_sent(self, tenant: Account, people: Any) -> None:
        ada, bob, room = people
        kept = schedule(tenant, room, ada, metadata={"a": 1}, mentions=["channel"]).data
        path, at = f"/messages/scheduled/{kept['id']}", later(7200)
        own = tenant.user_api(ada)
        assert own.patch(path, {}).data["message"] == kept["message"]
        changed = own.patch(path, {"content": {"text": "better"}, "sendAt": at, "mentions": None}).data
        assert (changed["message"], changed["sendAt"]) == (kept["message"] | {"content": {"text": "better"}}, at)
        assert wire.timestamp(Timer.objects.get().due_at) == at
        changed = own.patch(path, {"mentions": ["bob"], "metadata": {}}).data
        assert (changed["message"]["mentions"], changed["message"]["metadata"]) == ([bob["id"]], {})
        for wrong, pointer in (
            ({"content": {"text": ""}}, "/content/text"),
            ({"sendAt": later(-5)}, "/sendAt"),
            ({"mentions": ["x"]}, "/mentions/0"),
            ({"type": "custom"}, "/type"),
        ):
            own.patch(path, wrong).refuses(422, "validation_failed", pointer)
        own.patch(path, {"content": {"text": "x", "y": "z" * 70_000}}).refuses(413, "payload_too_large")
        assert own.get(path).data == changed
        time_comes(tenant)
        send_scheduled()
        own.patch(path, {"content": {"text": "too late"}}).refuses(409, "conflict")
        assert texts(tenant, room) == ["better"]

    def test_a_user_puts_no_file_into_it_that_only_the_back_end_may_use(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        file = tenant.api.raw("POST", "/files", b"x", content_type="text/plain", query={"name": "a.txt"}).data
        kept = schedule(tenant, room, ada, type="file", content={"fileId": file["id"]}).data
        path = f"/messages/scheduled/{kept['id']}"
        own = tenant.user_api(ada)
        assert own.patch(path, {"sendAt": later(100)}).status == 200
        own.patch(path, {"content": {"fileId": file["id"], "caption": "x"}}).refuses(422, "validation_failed")
        assert tenant.api.patch(path, {"content": {"fileId": file["id"], "caption": "x"}}).status == 200
        time_comes(tenant)
        send_scheduled()
        assert history(tenant, room)[0]["content"]["caption"] == "x"

    def test_it_is_cancelled_and_forgotten(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        kept = schedule(tenant, room, ada, "regret").data
        path = f"/messages/scheduled/{kept['id']}"
        cancelled = tenant.user_api(ada).delete(path).data
        assert (cancelled["status"], cancelled["message"]) == ("cancelled", None)
        assert tenant.api.delete(path).data == cancelled, "twice changes nothing"
        tenant.api.patch(path, {"metadata": {}}).refuses(409, "conflict")
        time_comes(tenant)
        assert (send_scheduled(), texts(tenant, room), waiting(tenant)) == (0, [], 0)
        with tenant_scope(tenant):
            assert ScheduledMessage.objects.get().draft == {}

    def test_what_is_sent_is_not_cancelled(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        kept = schedule(tenant, room, ada).data
        time_comes(tenant)
        send_scheduled()
        before = tenant.api.get(f"/messages/scheduled/{kept['id']}").data
        tenant.api.delete(f"/messages/scheduled/{kept['id']}").refuses(409, "conflict")
        assert tenant.api.get(f"/messages/scheduled/{kept['id']}").data == before

    def test_everybody_has_their_own(self, tenant: Account, people: Any) -> None:
        ada, bob, room = people
        other = tenant.conversation(ada)
        first = schedule(tenant, room, ada, "1", sendAt=later(300)).data
        second = schedule(tenant, room, bob, "2", sendAt=later(200)).data
        third = schedule(tenant, other, ada, "3", sendAt=later(100)).data
        tenant.api.delete(f"/messages/scheduled/{first['id']}")

        def ids(api: Any, **query: Any) -> list[str]:
            return [one["id"] for one in api.get("/messages/scheduled", query).data]

        assert ids(tenant.api) == [third["id"], second["id"], first["id"]]
        assert ids(tenant.user_api(ada)) == ids(tenant.api.acting_as("ada")) == [third["id"], first["id"]]
        assert ids(tenant.user_api(ada), status="cancelled") == [first["id"]]
        assert ids(tenant.api, conversation="room") == [second["id"], first["id"]]
        tenant.user_api(bob).get("/messages/scheduled", {"conversation": other["id"]}).refuses(
            404, "conversation_not_found"
        )
        tenant.api.get("/messages/scheduled", {"status": "lost"}).refuses(422, "validation_failed", "/status")
        for method in ("get", "patch", "delete"):
            arguments = [{"metadata": {}}] if method == "patch" else []
            for path in (third["id"], NEVER, "x"):
                answer = getattr(tenant.user_api(bob), method)(f"/messages/scheduled/{path}", *arguments)
                answer.refuses(404, "scheduled_message_not_found")
        assert tenant.api.get(f"/messages/scheduled/{third['id']}").data == third

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_the_pages_miss_nothing(self, tenant: Account, people: Any, limit: int) -> None:
        ada, _, room = people
        at = later(100)
        made = [
            schedule(tenant, room, ada, str(n), sendAt=at if n < 3 else later(200 + n)).data["id"] for n in range(5)
        ]
        found: list[str] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            answer = tenant.api.get("/messages/scheduled", query)
            found += [one["id"] for one in answer.data]
            if not answer.pagination["hasMore"]:
                break
            query["cursor"] = answer.pagination["nextCursor"]
        assert found == made


@pytest.mark.core
class TestFailing:
    def fails(self, tenant: Account, kept: Any, code: str) -> None:
        """At its time it is refused for this, says so, keeps what it wanted to say, and is not tried again."""
        before = tenant.api.get("/usage").data["messages"]["current"]
        time_comes(tenant)
        assert send_scheduled() == 1
        failed = tenant.api.get(f"/messages/scheduled/{kept['id']}").data
        assert (failed["status"], failed["errorCode"], failed["messageId"]) == ("failed", code, None)
        assert failed["message"] == kept["message"]
        assert tenant.api.get("/usage").data["messages"]["current"] == before
        assert (waiting(tenant), send_scheduled()) == (0, 0)
        assert tenant.api.delete(f"/messages/scheduled/{kept['id']}").data["status"] == "cancelled", "put away"

    def test_who_left(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        kept = schedule(tenant, room, ada).data
        tenant.api.delete(f"/conversations/{room['id']}/participants/{ada['id']}")
        self.fails(tenant, kept, "not_a_participant")

    def test_who_left_and_scheduled_it_themselves(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        kept = tenant.user_api(ada).post("/messages/scheduled", body(room, None)).data
        tenant.api.delete(f"/conversations/{room['id']}/participants/{ada['id']}")
        self.fails(tenant, kept, "conversation_not_found")

    def test_who_is_deactivated(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        kept = schedule(tenant, room, ada).data
        tenant.api.post("/users/ada/deactivate")
        self.fails(tenant, kept, "user_inactive")

    def test_a_spent_quota(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        kept = schedule(tenant, room, ada).data
        Subscription.objects.filter(tenant_id=tenant.id).update(max_messages=0)
        forget_cached_limits()
        self.fails(tenant, kept, "message_quota_exceeded")

    def test_a_frozen_conversation(self, tenant: Account, people: Any) -> None:
        _, bob, room = people
        tenant.api.patch(f"/conversations/{room['id']}/participants/bob", {"role": "member"})
        kept = schedule(tenant, room, bob).data
        tenant.api.patch(f"/conversations/{room['id']}", {"settings": {"isFrozen": True}})
        self.fails(tenant, kept, "conversation_frozen")

    def test_a_message_that_it_answers_is_not_there(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        root = tenant.message(room, ada)
        kept = schedule(tenant, room, ada, replyToId=root["id"]).data
        with tenant_scope(tenant):
            Message.objects.all().delete()
        self.fails(tenant, kept, "message_not_found")

    def test_slow_mode_is_waited_for(self, tenant: Account, people: Any) -> None:
        _, bob, room = people
        tenant.api.patch(f"/conversations/{room['id']}/participants/bob", {"role": "member"})
        tenant.api.patch(f"/conversations/{room['id']}", {"settings": {"slowModeSeconds": 300}})
        schedule(tenant, room, bob, "1")
        second = schedule(tenant, room, bob, "2").data
        time_comes(tenant)
        before = timezone.now()
        assert send_scheduled() == 2
        assert texts(tenant, room) == ["1"]
        due_at = Timer.objects.get().due_at
        assert timedelta(seconds=290) < due_at - before <= timedelta(seconds=302)
        assert tenant.api.get(f"/messages/scheduled/{second['id']}").data["status"] == "scheduled"
        assert send_scheduled() == 0
        tenant.api.patch(f"/conversations/{room['id']}", {"settings": {"slowModeSeconds": 0}})
        time_comes(tenant)
        assert (send_scheduled(), texts(tenant, room), waiting(tenant)) == (1, ["1", "2"], 0)

    def test_who_is_mentioned_and_gone_is_left_out(self, tenant: Account, people: Any) -> None:
        ada, bob, room = people
        eve = tenant.user("eve")
        tenant.api.post(f"/conversations/{room['id']}/participants", {"participantIds": ["eve"]})
        schedule(tenant, room, ada, mentions=["eve", "here", "bob"])
        tenant.api.delete(f"/conversations/{room['id']}/participants/{eve['id']}")
        time_comes(tenant)
        send_scheduled()
        assert history(tenant, room)[0]["mentions"] == ["here", bob["id"]]

    @pytest.mark.parametrize("status", ["suspended", "closed"])
    def test_a_tenant_that_is_not_active_sends_nothing_until_it_is(
        self, tenant: Account, other_tenant: Account, people: Any, status: str
    ) -> None:
        ada, _, room = people
        schedule(tenant, room, ada)
        eve = other_tenant.user("eve")
        theirs = other_tenant.conversation(eve)
        schedule(other_tenant, theirs, eve, "others go on")
        Tenant.objects.filter(pk=tenant.id).update(status=status)
        time_comes(tenant)
        time_comes(other_tenant)
        assert send_scheduled() == 1
        assert (waiting(tenant), texts(other_tenant, theirs)) == (1, ["others go on"])
        Tenant.objects.filter(pk=tenant.id).update(status="active")
        assert (send_scheduled(), texts(tenant, room)) == (1, ["later"])

    @pytest.mark.logs_errors
    @pytest.mark.parametrize("error", [RuntimeError("killed"), OperationalError("the connection is lost")])
    def test_what_breaks_behind_the_send_is_undone_and_holds_up_nobody(
        self, tenant: Account, people: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """The crash comes when the message is written and not yet marked as sent."""
        ada, _, room = people
        schedule(tenant, room, ada, "bad")
        schedule(tenant, room, ada, "good")
        time_comes(tenant)

        def breaks(**arguments: Any) -> Any:
            outcomes = send_messages(**arguments)
            if arguments["drafts"][0].content["text"] == "bad":
                raise error
            return outcomes

        with monkeypatch.context() as patch:
            patch.setattr(scheduling, "send_messages", breaks)
            assert send_scheduled() == 1
        assert (texts(tenant, room), waiting(tenant)) == (["good"], 1)
        assert tenant.api.get("/usage").data["messages"]["current"] == 1
        assert (send_scheduled(), texts(tenant, room), waiting(tenant)) == (1, ["good", "bad"], 0)

    def test_a_death_takes_everything_back(self, tenant: Account, people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        ada, _, room = people
        kept = schedule(tenant, room, ada).data
        time_comes(tenant)

        def dies(**arguments: Any) -> Any:
            send_messages(**arguments)
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(scheduling, "send_messages", dies)
            with pytest.raises(SystemExit):
                send_scheduled()
        assert (texts(tenant, room), waiting(tenant)) == ([], 1)
        assert tenant.api.get(f"/messages/scheduled/{kept['id']}").data == kept

    def test_many_that_break_do_not_hide_the_others(
        self, tenant: Account, people: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(timers, "PAGE_ROWS", 2)
        monkeypatch.setattr(timers.logger, "exception", lambda *_: None)
        ada, _, room = people
        for number in range(5):
            schedule(tenant, room, ada, f"bad {number}", sendAt=later(20 + number))
        schedule(tenant, room, ada, "good", sendAt=later(90))
        time_comes(tenant)

        def breaks(**arguments: Any) -> Any:
            if arguments["drafts"][0].content["text"].startswith("bad"):
                raise RuntimeError
            return send_messages(**arguments)

        monkeypatch.setattr(scheduling, "send_messages", breaks)
        assert (send_scheduled(), texts(tenant, room), waiting(tenant)) == (1, ["good"], 5)

    def test_a_run_ends_with_its_time(self, tenant: Account, people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("messaging.tasks.SEND_SECONDS", 0.0)
        ada, _, room = people
        schedule(tenant, room, ada)
        time_comes(tenant)
        assert (send_scheduled(), waiting(tenant)) == (0, 1)


@pytest.mark.core
class TestGoing:
    def test_a_conversation_takes_it_along(self, tenant: Account, people: Any) -> None:
        ada, _, room = people
        kept = schedule(tenant, room, ada).data
        tenant.api.delete(f"/conversations/{room['id']}")
        tenant.api.get(f"/messages/scheduled/{kept['id']}").refuses(404, "scheduled_message_not_found")
        time_comes(tenant)
        send_scheduled()
        assert waiting(tenant) == 0

    @pytest.mark.parametrize("mode", ["anonymise", "erase"])
    def test_a_deleted_user_sends_nothing_any_more(self, tenant: Account, people: Any, mode: str) -> None:
        ada, bob, room = people
        schedule(tenant, room, ada, "canary")
        schedule(tenant, room, bob, "stays")
        tenant.api.delete(f"/users/{ada['id']}", {"messages": mode})
        with tenant_scope(tenant):
            (left,) = ScheduledMessage.objects.all()
        assert left.draft["content"] == {"text": "stays"}
        assert waiting(tenant) == 1
        time_comes(tenant)
        assert (send_scheduled(), texts(tenant, room)) == (1, ["stays"])
