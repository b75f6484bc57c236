"""Message filters through the API: kept and checked, and what they do to whatever is sent and edited."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging.models import HeldMessage, Message, MessageFilter
from messaging.services import filters
from messaging.services.matching import Rules
from messaging.services.sending import Draft, Sent, send_messages
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Answer, Api
from tests.imports import imported, message
from tests.snapshots import contents
from tests.threads import at_once

FILTERS = "/moderation/filters"


def body(*patterns: str, action: str = "mask", kind: str = "words", **fields: Any) -> dict[str, Any]:
    return {"name": "test", "kind": kind, "patterns": list(patterns), "action": action, **fields}


def make(tenant: Account, *patterns: str, **fields: Any) -> Any:
    answer = tenant.api.post(FILTERS, body(*patterns, **fields))
    assert answer.status == 201, answer.body
    return answer.data


@pytest.fixture
def room(tenant: Account) -> dict[str, Any]:
    return tenant.conversation(tenant.user("ada"), tenant.user("bob"))


def say(tenant: Account, room: dict[str, Any], text: str, **fields: Any) -> Answer:
    return tenant.api.acting_as("ada").post("/messages/send", draft(room, None, text, **fields))


def used(tenant: Account) -> int:
    used: int = tenant.api.get("/usage").data["messages"]["current"]
    return used


# --- kept -----------------------------------------------------------------------------------------------------------


def test_a_filter_is_made_read_listed_changed_and_deleted(tenant: Account) -> None:
    made = make(tenant, "bad", "free money", name="广告", action="hold")
    assert (made["name"], made["kind"], made["action"], made["isEnabled"]) == ("广告", "words", "hold", True)
    assert (made["patterns"], made["patternCount"]) == (["bad", "free money"], 2)
    path = f"{FILTERS}/{made['id']}"
    assert tenant.api.get(path).data == made
    (listed,) = tenant.api.get(FILTERS).data
    assert listed == {name: value for name, value in made.items() if name != "patterns"}
    changed = tenant.api.patch(path, {"patterns": ["worse"], "isEnabled": False, "name": None}).data
    assert changed == made | {
        "patterns": ["worse"],
        "patternCount": 1,
        "isEnabled": False,
        "updatedAt": changed["updatedAt"],
    }
    assert changed["updatedAt"] > made["updatedAt"]
    assert tenant.api.get(path).data == changed
    assert tenant.api.delete(path).status == 200
    for answer in (tenant.api.get(path), tenant.api.delete(path), tenant.api.patch(path, {"name": "x"})):
        answer.refuses(404, "filter_not_found")
    tenant.api.get(f"{FILTERS}/nothing").refuses(404, "filter_not_found")
    assert tenant.api.get(FILTERS).data == []


def test_filters_are_listed_by_pages_in_one_statement_each(tenant: Account) -> None:
    made = [make(tenant, f"word{number}", name=str(number)) for number in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = tenant.api.get(FILTERS, query)
        seen += [row["id"] for row in page.data]
        if page.pagination["nextCursor"] is None:
            break
        query["cursor"] = page.pagination["nextCursor"]
    assert seen == [row["id"] for row in made]
    tenant.api.get(FILTERS, {"cursor": "nonsense"}).refuses(422, "invalid_cursor")
    with CaptureQueriesContext(connection) as few:
        tenant.api.get(FILTERS, {"limit": 1})
    with CaptureQueriesContext(connection) as many:
        tenant.api.get(FILTERS)
    assert len(few) == len(many)


@pytest.mark.parametrize("method", ["get", "post"])
def test_only_back_ends_see_and_change_filters(tenant: Account, method: str) -> None:
    made = make(tenant, "bad")
    before = contents(tenant)
    user = tenant.user_api(tenant.user())
    before = contents(tenant)
    path = f"{FILTERS}/{made['id']}"
    for answer in (
        user.get(FILTERS),
        user.post(FILTERS, body("x")),
        user.get(path),
        user.patch(path, {"isEnabled": False}),
        user.delete(path),
    ):
        answer.refuses(403, "permission_denied")
    assert contents(tenant) == before
    reading = Api({"X-API-Key": tenant.key(scopes=["moderation:read"])})
    assert reading.get(path).status == 200
    for answer in (reading.post(FILTERS, body("x")), reading.patch(path, {}), reading.delete(path)):
        answer.refuses(403, "scope_missing")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": None}, "/name"),
        ({"kind": "glob"}, "/kind"),
        ({"action": "burn"}, "/action"),
        ({"patterns": []}, "/patterns"),
        ({"patterns": "bad"}, "/patterns"),
        ({"patterns": [""]}, "/patterns/0"),
        ({"patterns": ["good", 5]}, "/patterns/1"),
        ({"patterns": ["good", " \u200b"]}, "/patterns/1"),
        ({"patterns": ["good", "x" * 101]}, "/patterns/1"),
        ({"patterns": ["x"] * 10_001}, "/patterns"),
        ({"isEnabled": "yes"}, "/isEnabled"),
        ({"priority": 1}, "/priority"),
        ({"kind": "regex", "patterns": ["x", "("]}, "/patterns/1"),
        ({"kind": "regex", "patterns": ["(?=a)b"]}, "/patterns/0"),
        ({"kind": "regex", "patterns": [r"(a)\1"]}, "/patterns/0"),
        ({"kind": "regex", "patterns": ["a*"]}, "/patterns/0"),
        ({"kind": "regex", "patterns": ["((a{100}){100}){100}"]}, "/patterns/0"),
        ({"kind": "regex", "patterns": ["x" * 501]}, "/patterns/0"),
        ({"kind": "regex", "patterns": ["x"] * 101}, "/patterns"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_at_its_fault(tenant: Account, change: dict[str, Any], pointer: str) -> None:
    before = contents(tenant)
    tenant.api.post(FILTERS, body("fine") | change).refuses(422, "validation_failed", pointer)
    assert contents(tenant) == before


def test_a_change_that_cannot_be_changes_nothing(tenant: Account) -> None:
    made = make(tenant, "a+", kind="regex")
    before = contents(tenant)
    path = f"{FILTERS}/{made['id']}"
    tenant.api.patch(path, {"name": "new", "patterns": ["(", "x", "["]}).refuses(
        422, "validation_failed", "/patterns/0", "/patterns/2"
    )
    tenant.api.patch(path, {"kind": "words"}).refuses(422, "validation_failed", "/kind")
    assert contents(tenant) == before


def test_of_many_faults_some_are_named(tenant: Account) -> None:
    refused = tenant.api.post(FILTERS, body(*["("] * 100, kind="regex"))
    assert refused.pointers == [f"/patterns/{place}" for place in range(20)]


def test_a_filter_holds_as_many_words_as_it_may(tenant: Account) -> None:
    many = [f"word {number}" for number in range(10_000)]
    made = make(tenant, *many)
    assert made["patternCount"] == 10_000
    with CaptureQueriesContext(connection) as queries:
        (listed,) = tenant.api.get(FILTERS).data
    assert listed["patternCount"] == 10_000
    assert not any('"patterns"' in query["sql"] for query in queries)


def test_there_is_a_limit_even_at_once(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filters.MAX_FILTERS == 20
    monkeypatch.setattr(filters, "MAX_FILTERS", 3)
    answers = at_once(*[lambda: committed_tenant.api.post(FILTERS, body("x"))] * 5)
    assert sorted(answer.status for answer in answers) == [201, 201, 201, 409, 409]
    assert len(committed_tenant.api.get(FILTERS).data) == 3


# --- what they do ---------------------------------------------------------------------------------------------------


def test_reject_refuses_and_costs_nothing(tenant: Account, room: dict[str, Any]) -> None:
    make(tenant, "bad", action="reject")
    before = contents(tenant)
    say(tenant, room, "a BAD word", clientMessageId="1").refuses(422, "message_rejected")
    assert (contents(tenant), used(tenant)) == (before, 0)
    assert say(tenant, room, "a good word", clientMessageId="1").data["seq"] == 1


def test_mask_stores_stars(tenant: Account, room: dict[str, Any]) -> None:
    make(tenant, "bad", "发票")
    make(tenant, r"\d{4,}", kind="regex")
    sent = say(tenant, room, "bad 代开发票 12345 é 12").data
    assert sent["content"] == {"text": "*** 代开** ***** é 12"}
    assert tenant.api.get(f"/messages/{sent['id']}").data["content"] == sent["content"]
    image = {"url": "https://example.com/a.png", "caption": "so bad", "name": "bad"}
    captioned = say(tenant, room, "", type="image", content=image).data
    assert captioned["content"] == image | {"caption": "so ***"}
    stored = {row.id: row for row in _messages(tenant)}
    assert len(stored) == 2
    assert all("bad" not in str(row.content.get("text", row.content.get("caption"))) for row in stored.values())
    assert used(tenant) == 2


def _messages(tenant: Account) -> list[Any]:
    with tenant_scope(tenant):
        return list(Message.objects.all())


def test_a_repeat_is_known_by_what_was_sent(tenant: Account, room: dict[str, Any]) -> None:
    """Masked or not, whatever the filters have become."""
    made = make(tenant, "bad")
    first = say(tenant, room, "bad", clientMessageId="1")
    assert first.data["content"] == {"text": "***"}
    again = say(tenant, room, "bad", clientMessageId="1")
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")
    say(tenant, room, "***", clientMessageId="1").refuses(409, "idempotency_conflict")
    for change in ({"action": "reject"}, {"action": "hold"}, {"isEnabled": False}):
        tenant.api.patch(f"{FILTERS}/{made['id']}", change)
        assert say(tenant, room, "bad", clientMessageId="1").data == first.data
    assert used(tenant) == 1
    with tenant_scope(tenant):
        assert HeldMessage.objects.count() == 0


def test_the_strictest_wins(tenant: Account, room: dict[str, Any]) -> None:
    make(tenant, "bad")
    hold = make(tenant, r"b.d", kind="regex", action="hold")
    assert say(tenant, room, "bad").code == "message_held"
    reject = make(tenant, "bad", action="reject")
    assert say(tenant, room, "bad").code == "message_rejected"
    tenant.api.delete(f"{FILTERS}/{reject['id']}")
    tenant.api.patch(f"{FILTERS}/{hold['id']}", {"isEnabled": False})
    assert say(tenant, room, "bad").data["content"] == {"text": "***"}


def test_whoever_sends_is_asked(tenant: Account, room: dict[str, Any]) -> None:
    make(tenant, "bad", action="reject")
    ada = tenant.user_api({"externalUserId": "ada"})
    ada.post("/messages/send", draft(room, None, "bad")).refuses(422, "message_rejected")
    tenant.api.post("/messages/send", draft(room, {"id": "ada"}, "bad")).refuses(422, "message_rejected")


def test_a_forward_is_asked_too(tenant: Account, room: dict[str, Any]) -> None:
    said = say(tenant, room, "bad").data
    made = make(tenant, "bad", action="reject")
    bobs = tenant.api.acting_as("bob")
    path = f"/messages/{said['id']}/forward"
    before = contents(tenant)
    bobs.post(path, {"conversationId": room["id"]}).refuses(422, "message_rejected")
    assert contents(tenant) == before
    tenant.api.patch(f"{FILTERS}/{made['id']}", {"action": "mask"})
    assert bobs.post(path, {"conversationId": room["id"]}).data["content"] == {"text": "***"}
    tenant.api.patch(f"{FILTERS}/{made['id']}", {"action": "hold"})
    held = bobs.post(path, {"conversationId": room["id"]})
    held.refuses(403, "message_held")
    with tenant_scope(tenant):
        assert str(HeldMessage.objects.get().id) == held.error["details"]["heldMessageId"]
    assert tenant.api.get(f"/messages/{said['id']}").data["content"] == {"text": "bad"}


def test_an_edit_is_asked_too(tenant: Account, room: dict[str, Any]) -> None:
    """What waits for a moderator cannot already be there: to hold an edit is to refuse it."""
    said = say(tenant, room, "good").data
    path = f"/messages/{said['id']}"
    ada = tenant.api.acting_as("ada")
    made = make(tenant, "bad")
    edited = ada.patch(path, {"content": {"text": "bad now"}}).data
    assert edited["content"] == {"text": "*** now"}
    for action in ("hold", "reject"):
        tenant.api.patch(f"{FILTERS}/{made['id']}", {"action": action})
        before = contents(tenant)
        for caller in (ada, tenant.api):
            caller.patch(path, {"content": {"text": "bad again"}}).refuses(422, "message_rejected")
        assert contents(tenant) == before
    assert [revision["content"] for revision in ada.get(f"{path}/revisions").data] == [{"text": "good"}]
    assert ada.patch(path, {"content": {"text": "fine"}}).data["content"] == {"text": "fine"}


def test_only_a_message_that_could_be_sent_is_held(tenant: Account, room: dict[str, Any]) -> None:
    make(tenant, "bad", action="hold")
    stranger = tenant.user("eve")
    tenant.api.post("/messages/send", draft(room, stranger, "bad")).refuses(403, "not_a_participant")
    tenant.user_api(stranger).post("/messages/send", draft(room, None, "bad")).refuses(404, "conversation_not_found")
    tenant.api.patch(f"/conversations/{room['id']}", {"settings": {"isFrozen": True}})
    say(tenant, room, "bad").refuses(403, "conversation_frozen")
    with tenant_scope(tenant):
        assert HeldMessage.objects.count() == 0


def test_in_one_batch_each_is_judged_for_itself(tenant: Account, room: dict[str, Any]) -> None:
    make(tenant, "bad")
    make(tenant, "worse", action="hold")
    make(tenant, "worst", action="reject")
    drafts = [
        Draft(conversation=room["id"], sender="ada", type="text", content={"text": text}, client_message_id=client_id)
        for text, client_id in (
            ("good", None),
            ("bad", "1"),
            ("worst", "2"),
            ("worse", "3"),
            ("worse", "3"),
            ("even worse", "3"),
            ("good", "4"),
        )
    ]
    with tenant_scope(tenant):
        outcomes = send_messages(tenant_id=tenant.id, drafts=drafts, via="test")
        held = HeldMessage.objects.get()
    said = [one.message.content["text"] if isinstance(one, Sent) else one.code for one in outcomes]
    assert said == [
        "good",
        "***",
        "message_rejected",
        "message_held",
        "message_held",
        "idempotency_conflict",
        "good",
    ]
    assert [one.message.seq for one in outcomes if isinstance(one, Sent)] == [1, 2, 3], "no seq is left out"
    for position in (3, 4):
        refused = outcomes[position]
        assert not isinstance(refused, Sent)
        assert refused.details == {"heldMessageId": str(held.id)}
    assert used(tenant) == 3


def test_imports_are_not_asked(tenant: Account, room: dict[str, Any]) -> None:
    make(tenant, "bad", action="reject")
    imported(tenant, message("m1", room["id"], "ada", "bad"))
    history = tenant.api.get(f"/messages/conversations/{room['id']}").data["messages"]
    assert [message["content"] for message in history] == [{"text": "bad"}]


# --- ready ----------------------------------------------------------------------------------------------------------


def _statements(tenant: Account, room: dict[str, Any], text: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert say(tenant, room, text).status == 200
    return len(queries)


def test_filters_cost_no_statement_while_they_are_remembered(tenant: Account, room: dict[str, Any]) -> None:
    say(tenant, room, "warm")
    without = _statements(tenant, room, "good")
    make(tenant, "bad")
    say(tenant, room, "warm")
    assert _statements(tenant, room, "good") == without
    assert _statements(tenant, room, "bad") == without
    hold = make(tenant, "worse", action="hold")
    say(tenant, room, "warm")
    with CaptureQueriesContext(connection) as queries:
        say(tenant, room, "worse").refuses(403, "message_held")
    statements = [query["sql"] for query in queries if "messaging_heldmessage" in query["sql"]]
    assert len([sql for sql in statements if "INSERT" in sql]) == 1
    assert hold["action"] == "hold"


def test_a_change_is_known_within_five_seconds(
    tenant: Account, room: dict[str, Any], seconds_pass_for_filters: Callable[[float], None]
) -> None:
    assert filters.CACHE_SECONDS < 5
    assert say(tenant, room, "bad").data["content"] == {"text": "bad"}
    with tenant_scope(tenant):  # as another machine would
        now = timezone.now()
        row = MessageFilter.objects.create(
            name="x", kind="words", patterns=["bad"], action="mask", created_at=now, updated_at=now
        )
    assert say(tenant, room, "bad").data["content"] == {"text": "bad"}
    seconds_pass_for_filters(3.1)
    assert say(tenant, room, "bad").data["content"] == {"text": "***"}
    with tenant_scope(tenant):
        MessageFilter.objects.filter(pk=row.pk).update(patterns=["worse"], updated_at=timezone.now())
    seconds_pass_for_filters(3.1)
    assert say(tenant, room, "bad worse").data["content"] == {"text": "bad *****"}
    with tenant_scope(tenant):
        row.delete()
    seconds_pass_for_filters(3.1)
    assert say(tenant, room, "bad worse").data["content"] == {"text": "bad worse"}


@pytest.fixture
def seconds_pass_for_filters(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]
    cache = type(filters._ready)(100, filters.CACHE_SECONDS, timer=lambda: now[0])
    monkeypatch.setattr(filters, "_ready", cache)

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_what_did_not_change_is_not_made_again(
    tenant: Account,
    room: dict[str, Any],
    seconds_pass_for_filters: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def counted(rules: Any) -> Rules:
        made.append(len(rules))
        return Rules(rules)

    monkeypatch.setattr(filters, "Rules", counted)
    make(tenant, "bad")
    for _ in range(3):
        say(tenant, room, "good")
        seconds_pass_for_filters(3.1)
    assert made == [1]
    make(tenant, "worse")
    say(tenant, room, "good")
    assert made == [1, 2]


def test_one_tenants_filters_are_nobody_elses(tenant: Account, other_tenant: Account, room: dict[str, Any]) -> None:
    make(other_tenant, "bad", action="reject")
    theirs = other_tenant.conversation(other_tenant.user("ada"))
    assert say(tenant, room, "bad").status == 200
    assert say(other_tenant, theirs, "bad").code == "message_rejected"
    assert tenant.api.get(FILTERS).data == []


@pytest.mark.logs_errors
def test_an_expression_that_a_release_no_longer_takes_stops_no_sending(tenant: Account, room: dict[str, Any]) -> None:
    now = timezone.now()
    with tenant_scope(tenant):
        MessageFilter.objects.create(
            name="old", kind="regex", patterns=["(?=a)b", "bad"], action="mask", created_at=now, updated_at=now
        )
    assert say(tenant, room, "ab bad").data["content"] == {"text": "ab ***"}
