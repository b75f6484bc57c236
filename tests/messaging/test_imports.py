"""Bulk imports through REST: the jobs, what good lines make, who may, and what is refused as a whole."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from django.conf import settings
from django.urls import get_resolver
from django.utils import timezone

from messaging.models import Message, Notification
from messaging.services import imports
from messaging.tasks import sweep_outbox
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from tenants.models import OutboxEvent
from tenants.scope import tenant_scope
from tenants.services.authentication import tenant_card
from tests.accounts import Account, draft
from tests.api import Api
from tests.imports import LIVELY, NDJSON, feed, imported, line, message, open_import, state
from tests.logs import log_between
from tests.ports import RecordingAnnouncer
from tests.snapshots import contents
from tests.threads import at_once

pytestmark = pytest.mark.core

UUID_KEPT = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


def import_of(api: Api, job: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/imports/{job}").data
    return found


# --- what good lines make -------------------------------------------------------------------------------------------


def test_an_import_from_beginning_to_end(tenant: Account) -> None:
    job = open_import(tenant.api)
    fresh = import_of(tenant.api, job)
    assert (fresh["status"], fresh["positionBytes"], fresh["name"]) == ("open", 0, "from elsewhere")
    chunk = b"".join(LIVELY)
    answer = feed(tenant.api, job, chunk, 0)
    assert {name: answer.data[name] for name in ("lines", "created", "updated", "unchanged", "failed", "failures")} == {
        "lines": 14,
        "created": 13,
        "updated": 0,
        "unchanged": 0,
        "failed": 0,
        "failures": [],
    }
    done = tenant.api.post(f"/imports/{job}/finish").data
    assert (done["status"], done["positionBytes"], done["lines"], done["created"]) == ("finished", len(chunk), 14, 13)
    assert done["finishedAt"] is not None
    assert tenant.api.post(f"/imports/{job}/finish").data == done
    feed(tenant.api, job, b"", len(chunk)).refuses(409, "conflict")


def test_messages_keep_ids_times_and_what_hangs_on_them(tenant: Account) -> None:
    imported(tenant, b"".join(LIVELY))
    page = tenant.api.get("/messages/conversations/room").data
    first, answer, edited, gone, outside = page["messages"]
    ids = [str(uuid5(tenant.id, original)) for original in ("m-1", "m-2", "m-3", "m-4", "m-5")]
    assert [one["id"] for one in page["messages"]] == ids
    assert (
        [one["seq"] for one in page["messages"]] == [one["messageIndex"] for one in page["messages"]] == [1, 2, 3, 4, 5]
    )
    assert (first["createdAt"], first["sender"]["externalUserId"]) == ("2019-02-01T10:00:00.000Z", "ada")
    assert first["mentions"] == [tenant.api.get("/users/bob").data["id"], "here"]
    assert first["replyCount"] == 3, "the tombstone is no reply"
    assert (answer["replyToId"], answer["threadId"]) == (ids[0], ids[0])
    assert (edited["replyToId"], edited["threadId"]) == (ids[1], ids[0])
    assert (edited["editedAt"], edited["updatedAt"]) == ("2019-02-01T10:03:00.000Z", "2019-02-01T10:03:00.000Z")
    assert (edited["clientMessageId"], edited["metadata"]) == ("c-3", {"k": [1, None]})
    reactions = {one["name"]: one["count"] for one in edited["reactions"]}
    assert reactions == {"👍": 2, "ok": 1}
    assert (gone["content"], gone["deletedAt"]) == ({}, "2019-02-01T10:05:00.000Z")
    assert (outside["createdAt"], outside["silent"]) == ("2018-01-01T00:00:00.000Z", True)
    assert tenant.api.get(f"/messages/{UUID_KEPT}").data["content"] == {"text": "uuid kept"}
    room = tenant.api.get("/conversations/room").data
    assert (room["title"], room["createdAt"]) == ("旧的房间", "2019-02-01T00:00:00.000Z")
    assert (room["lastMessageAt"], room["lastMessage"]["id"]) == ("2019-02-01T10:04:00.000Z", ids[3])
    assert [(one["externalUserId"], one["role"]) for one in room["participants"]] == [
        ("ada", "owner"),
        ("bob", "member"),
    ]
    assert tenant.api.get("/users/ada").data["createdAt"] == "2019-01-01T00:00:00.000Z"
    assert tenant.api.get("/users/cyd").data["isActive"] is False


def test_the_log_says_when_it_was_recorded(tenant: Account) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    imported(tenant, b"".join(LIVELY))
    room = tenant.api.get("/conversations/room").data
    entries = log_between(tenant_card(tenant.tenant), UUID(room["id"]), 1, 99)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    for entry in entries:
        assert datetime.fromisoformat(entry.data["timestamp"]) >= began
        assert entry.data["message"]["createdAt"] < "2020"


def test_history_before_a_time_goes_by_the_original_one(tenant: Account) -> None:
    imported(tenant, b"".join(LIVELY))
    page = tenant.api.get("/messages/conversations/room", {"before": "2019-02-01T10:01:00Z"}).data
    assert [one["seq"] for one in page["messages"]] == [5, 1]


def test_nobody_has_anything_unread_or_is_notified(tenant: Account) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    room = tenant.conversation(ada, bob, externalId="room")
    tenant.message(room, ada)
    hidden = tenant.api.acting_as("bob")
    hidden.patch("/conversations/room/membership", {"hidden": True})
    sweep_outbox()
    with tenant_scope(tenant):
        waiting = Notification.objects.count()
    imported(tenant, message("a", "room", "ada"), message("b", "room", "bob"), message("c", "room", "ada"))
    sweep_outbox()
    place = hidden.get("/conversations/room").data["membership"]
    assert (place["unreadCount"], place["hidden"], place["lastReadSeq"]) == (1, True, 0)
    assert tenant.api.acting_as("ada").get("/conversations/room").data["membership"]["unreadCount"] == 0
    with tenant_scope(tenant):
        assert Notification.objects.count() == waiting == 1
    tenant.message(room, ada)
    assert hidden.get("/conversations/room").data["membership"]["hidden"] is False


def test_an_import_goes_to_the_end_of_a_log_that_is_there(tenant: Account) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    room = tenant.conversation(ada, bob, externalId="room")
    said = tenant.messages(room, ada, 2)
    imported(tenant, message("old", "room", "bob", createdAt="2015-01-01T00:00:00Z", replyToId=said[0]["id"]))
    page = tenant.api.get("/messages/conversations/room").data
    assert [one["seq"] for one in page["messages"]] == [1, 2, 3]
    shown = tenant.api.get("/conversations/room").data
    assert (shown["lastMessage"]["id"], shown["lastMessageAt"]) == (said[1]["id"], said[1]["createdAt"])
    assert page["messages"][0]["replyCount"] == 1
    assert tenant.message(room, bob)["seq"] == 4


def test_a_repeat_changes_nothing(tenant: Account) -> None:
    chunk = b"".join(LIVELY)
    imported(tenant, chunk)
    before = state(tenant)
    again = imported(tenant, chunk)
    assert (again["created"], again["updated"], again["unchanged"], again["failed"]) == (0, 0, 13, 0)
    assert state(tenant) == before


def test_users_and_conversations_are_updated(tenant: Account) -> None:
    imported(tenant, b"".join(LIVELY))
    seq = tenant.api.get("/conversations/room").data["lastSeq"]
    changed = imported(
        tenant,
        line("user", externalUserId="ada", displayName="Ada L.", email=None)
        + line("user", externalUserId="bob", email="")
        + line("user", externalUserId="eve")
        + line(
            "conversation",
            externalId="room",
            type="group",
            title="renamed",
            metadata={"a": 1},
            participants=[{"userId": "bob", "role": "admin"}, {"userId": "eve", "joinedAt": "2020-01-01T00:00:00Z"}],
        ),
    )
    assert (changed["created"], changed["updated"], changed["unchanged"], changed["failed"]) == (1, 3, 0, 0)
    assert tenant.api.get("/users/ada").data["displayName"] == "Ada L."
    assert tenant.api.get("/users/bob").data["email"] is None
    room = tenant.api.get("/conversations/room").data
    assert (room["title"], room["metadata"], room["participantCount"]) == ("renamed", {"a": 1}, 3)
    roles = {one["externalUserId"]: (one["role"], one["joinedAt"]) for one in room["participants"]}
    assert roles["bob"] == ("member", "2019-02-02T00:00:00.000Z"), "who is in stays as they are"
    assert roles["eve"] == ("member", "2020-01-01T00:00:00.000Z")
    entries = log_between(tenant_card(tenant.tenant), UUID(room["id"]), seq + 1, seq + 9)
    assert [(entry.seq, entry.type) for entry in entries] == [
        (seq + 1, "conversation_updated"),
        (seq + 2, "participant_added"),
    ]
    assert entries[1].data["participantCount"] == 3
    place = tenant.api.acting_as("eve").get("/conversations/room").data["membership"]
    assert (place["unreadCount"], place["visibleFromSeq"], place["lastReadSeq"]) == (0, 1, seq + 1)


def test_a_direct_pair_that_is_there_takes_the_external_id(tenant: Account) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    pair = tenant.conversation(ada, bob, type="direct")
    people = [{"userId": "bob"}, {"userId": ada["id"]}]
    taken = imported(
        tenant, line("conversation", externalId="dm", type="direct", participants=people) + message("x", "dm", "ada")
    )
    assert (taken["updated"], taken["created"], taken["failed"]) == (1, 1, 0)
    assert tenant.api.get("/conversations/dm").data["id"] == pair["id"]
    other = imported(tenant, line("conversation", externalId="dm-2", type="direct", participants=people))
    assert [(one["code"], one["pointer"]) for one in other["failures"]] == [("conflict", "/externalId")]


def test_files_are_linked(tenant: Account) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    tenant.conversation(ada, bob, externalId="room")
    mine = tenant.api.acting_as("bob").raw("POST", "/files", b"x", content_type="image/png", query={"name": "a.png"})
    content = {"fileId": mine.data["id"]}
    taken = imported(
        tenant,
        message("a", "room", "bob", type="image", content=content)
        + message("b", "room", "bob", type="image", content={"fileId": UUID_KEPT}),
    )
    assert [(one["line"], one["code"], one["pointer"]) for one in taken["failures"]] == [
        (2, "validation_failed", "/content/fileId")
    ]
    tenant.api.delete(f"/files/{mine.data['id']}").refuses(409, "conflict")


def test_the_outbox_learns_of_every_event_in_order(tenant: Account) -> None:
    before = OutboxEvent.objects.filter(tenant_id=tenant.id).count()
    imported(tenant, b"".join(LIVELY))
    rows = OutboxEvent.objects.filter(tenant_id=tenant.id).order_by("id")[before:]
    by_type = [row.type for row in rows]
    assert (by_type.count("conversation_created"), by_type.count("new_message"), len(by_type)) == (2, 7, 9)
    for room in {row.conversation_id for row in rows}:
        seqs = [row.seq for row in rows if row.conversation_id == room and row.seq is not None]
        assert seqs == list(range(1, len(seqs) + 1))
    with tenant_scope(tenant):
        assert {row.subject_id for row in rows if row.type == "new_message"} == set(
            Message.objects.values_list("id", flat=True)
        )


def test_sockets_are_told_of_the_last_event_of_each_conversation(
    tenant: Account, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        imported(tenant, b"".join(LIVELY))
    told = {(event.data["conversationExternalId"], event.seq, event.type) for _, event in announced.announced}
    assert told == {("room", 5, "new_message"), ("pair", 2, "new_message")}


def test_messages_are_not_counted_and_users_are(tenant: Account) -> None:
    imported(tenant, b"".join(LIVELY))
    usage = tenant.api.get("/usage").data
    assert (usage["users"]["current"], usage["messages"]["current"]) == (3, 0)


def test_users_over_the_quota_are_left_out_with_what_needs_them(tenant: Account) -> None:
    change_plan(tenant=tenant.tenant, overrides={"max_users": 2})
    forget_cached_limits()
    users = b"".join(line("user", externalUserId=name) for name in ("u1", "u2", "u3"))
    rest = (
        line("user", externalUserId="u4", isActive=False)
        + line("user", externalUserId="u1", isActive=None)
        + line("conversation", externalId="a", type="group", participants=[{"userId": "u1"}, {"userId": "u3"}])
        + line("conversation", externalId="b", type="group", participants=[{"userId": "u1"}, {"userId": "u4"}])
        + message("m", "b", "u3")
    )
    taken = imported(tenant, users + rest)
    assert [(one["line"], one["code"], one["pointer"]) for one in taken["failures"]] == [
        (3, "user_quota_exceeded", "/externalUserId"),
        (5, "conflict", "/externalUserId"),
        (6, "user_not_found", "/participants/1/userId"),
        (8, "user_not_found", "/senderId"),
    ]
    assert tenant.api.get("/usage").data["users"]["current"] == 2
    swapped = imported(
        tenant, line("user", externalUserId="u1", isActive=False) + line("user", externalUserId="u4", isActive=True)
    )
    assert (swapped["updated"], swapped["failed"]) == (2, 0)
    assert tenant.api.get("/usage").data["users"]["current"] == 2
    full = imported(tenant, line("user", externalUserId="u1", isActive=True))
    assert [one["code"] for one in full["failures"]] == ["user_quota_exceeded"]
    freed = imported(tenant, line("user", externalUserId="u2", isActive=False))
    assert (freed["updated"], tenant.api.get("/usage").data["users"]["current"]) == (1, 1)


def test_a_place_taken_meanwhile_is_noticed(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else makes a user between the look and the count: the chunk is planned anew."""
    change_plan(tenant=committed_tenant.tenant, overrides={"max_users": 1})
    forget_cached_limits()
    real, raced = imports.active_users, []

    def looked(tenant_id: UUID) -> int:
        count = real(tenant_id)
        if not raced:
            raced.append(at_once(lambda: committed_tenant.user("quicker")))
        return count

    monkeypatch.setattr(imports, "active_users", looked)
    taken = imported(committed_tenant, line("user", externalUserId="slower") + line("user", externalUserId="quicker"))
    assert [(one["line"], one["code"]) for one in taken["failures"]] == [(1, "user_quota_exceeded")]
    assert taken["unchanged"] == 1
    assert raced
    assert committed_tenant.api.get("/usage").data["users"]["current"] == 1


# --- the jobs -------------------------------------------------------------------------------------------------------


def test_a_position_where_the_job_does_not_stand_is_refused(tenant: Account) -> None:
    job = open_import(tenant.api)
    first, second = LIVELY[0], b"".join(LIVELY[1:])
    feed(tenant.api, job, first, 0)
    before = contents(tenant)
    for position in (0, 1, len(first) - 1, len(first) + 1, 2**53 - 1):
        answer = feed(tenant.api, job, second, position)
        answer.refuses(409, "import_position")
        assert answer.error["details"] == {"positionBytes": len(first)}
    assert contents(tenant) == before
    assert feed(tenant.api, job, second, len(first)).data["failed"] == 0


def test_a_chunk_that_ends_inside_a_line_is_refused(tenant: Account) -> None:
    job = open_import(tenant.api)
    before = contents(tenant)
    feed(tenant.api, job, b"".join(LIVELY).rstrip(b"\n"), 0).refuses(422, "validation_failed", "")
    feed(tenant.api, job, b"{", 0).refuses(422, "validation_failed", "")
    assert contents(tenant) == before
    nothing = feed(tenant.api, job, b"", 0)
    assert (nothing.data["lines"], nothing.data["import"]["positionBytes"]) == (0, 0)


def test_bodies_of_another_type_or_size_are_refused(tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    job = open_import(tenant.api)
    path = f"/imports/{job}/chunks"
    for content_type in ("application/json", "text/plain", None):
        answer = tenant.api.raw("POST", path, LIVELY[0], content_type=content_type, query={"position": 0})
        answer.refuses(415, "unsupported_media_type")
    parameter = f"{NDJSON}; charset=utf-8"
    assert tenant.api.raw("POST", path, b"", content_type=parameter, query={"position": 0}).status == 200
    feed(tenant.api, job, b"\n" * (imports.MAX_CHUNK_LINES + 1), 0).refuses(413, "payload_too_large")
    monkeypatch.setattr(settings, "MAX_IMPORT_CHUNK_BYTES", 1000)
    feed(tenant.api, job, b" " * 1000 + b"\n", 0).refuses(413, "payload_too_large")
    assert feed(tenant.api, job, b" " * 999 + b"\n", 0).status == 200


def test_positions_and_bodies_of_jobs_that_cannot_be(tenant: Account) -> None:
    job = open_import(tenant.api)
    path = f"/imports/{job}/chunks"
    tenant.api.raw("POST", path, b"", content_type=NDJSON).refuses(422, "validation_failed", "/position")
    for position in ("-1", "x", "1.5", str(2**53)):
        answer = tenant.api.raw("POST", path, b"", content_type=NDJSON, query={"position": position})
        answer.refuses(422, "validation_failed", "/position")
    for body in ({"name": ""}, {"name": "x" * 256}, {"name": "a\nb"}, {"title": "x"}, []):
        assert tenant.api.post("/imports", body).status == 422
    assert tenant.api.post("/imports").data["name"] is None
    assert tenant.api.post("/imports", {"name": None}).data["name"] is None


def test_jobs_and_failures_are_listed_in_pages(tenant: Account) -> None:
    jobs = [open_import(tenant.api) for _ in range(3)]
    first = tenant.api.get("/imports", {"limit": 2})
    assert [one["id"] for one in first.data] == jobs[:0:-1]
    rest = tenant.api.get("/imports", {"limit": 2, "cursor": first.pagination["nextCursor"]})
    assert ([one["id"] for one in rest.data], rest.pagination["hasMore"]) == (jobs[:1], False)
    answer = feed(tenant.api, jobs[0], b"broken\n" * 25 + LIVELY[0], 0)
    assert (answer.data["failed"], answer.data["created"], len(answer.data["failures"])) == (25, 1, 20)
    found, cursor = [], None
    while True:
        page = tenant.api.get(f"/imports/{jobs[0]}/failures", {"limit": 10} | ({"cursor": cursor} if cursor else {}))
        found += page.data
        cursor = page.pagination["nextCursor"]
        if cursor is None:
            break
    assert [one["line"] for one in found] == list(range(1, 26))
    assert found[:20] == answer.data["failures"]
    for cursor in ("x", "W10", "WyJhIiwgMV0", "WzEsIC0xXQ", "W3RydWUsIDFd"):
        tenant.api.get(f"/imports/{jobs[0]}/failures", {"cursor": cursor}).refuses(422, "invalid_cursor")


def test_what_does_not_exist_is_not_found(tenant: Account, other_tenant: Account) -> None:
    theirs = open_import(other_tenant.api)
    for job in (theirs, "x", "019A2F53-B8F0-7D26-B3A9-1E5C7D904F62"):
        tenant.api.get(f"/imports/{job}").refuses(404, "import_not_found")
        tenant.api.get(f"/imports/{job}/failures").refuses(404, "import_not_found")
        tenant.api.post(f"/imports/{job}/finish").refuses(404, "import_not_found")
        feed(tenant.api, job, LIVELY[0], 0).refuses(404, "import_not_found")
    assert import_of(other_tenant.api, theirs)["positionBytes"] == 0
    assert tenant.api.get("/imports").data == []


def test_only_back_ends_may(tenant: Account) -> None:
    ada = tenant.user("ada")
    job = open_import(tenant.api)
    user = tenant.user_api(ada)
    before = contents(tenant)
    for answer in (
        user.post("/imports"),
        user.get("/imports"),
        user.get(f"/imports/{job}"),
        user.get(f"/imports/{job}/failures"),
        user.post(f"/imports/{job}/finish"),
        feed(user, job, LIVELY[0], 0),
    ):
        answer.refuses(403, "permission_denied")
    reader = Api({"X-API-Key": tenant.key(scopes=["imports:read"])})
    reader.post("/imports").refuses(403, "scope_missing")
    feed(reader, job, LIVELY[0], 0).refuses(403, "scope_missing")
    assert reader.get(f"/imports/{job}").status == 200
    assert contents(tenant) == before


def test_no_line_reaches_another_tenant(tenant: Account, other_tenant: Account) -> None:
    """Their ids name nobody here, and one message's original id is two messages of two tenants."""
    ada = other_tenant.user("ada")
    room = other_tenant.conversation(ada, externalId="room")
    theirs = other_tenant.message(room, ada)
    before = contents(other_tenant)
    tenant.user("bob")
    taken = imported(
        tenant,
        line("conversation", externalId="mine", type="group", participants=[{"userId": ada["id"]}])
        + message("x", room["id"], "bob")
        + message("y", "room", "bob")
        + line("conversation", externalId="mine", type="group")
        + message("z", "mine", ada["id"])
        + message("v", "mine", "bob", replyToId=theirs["id"])
        + message("w", "mine", "bob", mentions=[ada["id"]])
        + message("m", "mine", "bob"),
    )
    assert [(one["line"], one["code"]) for one in taken["failures"]] == [
        (1, "user_not_found"),
        (2, "conversation_not_found"),
        (3, "conversation_not_found"),
        (5, "user_not_found"),
        (6, "message_not_found"),
        (7, "user_not_found"),
    ]
    assert contents(other_tenant) == before
    mine = imported(other_tenant, message("m", "room", "ada"))
    assert mine["created"] == 1
    assert uuid5(tenant.id, "m") != uuid5(other_tenant.id, "m")


def test_larger_bodies_are_those_of_routes_that_read_them_raw() -> None:
    (included,) = (pattern for pattern in get_resolver().url_patterns if str(pattern.pattern) == "api/v1/")
    raw = [
        re.sub(r"<[^>]*>", "an-id", "/api/v1/" + str(pattern.pattern))
        for pattern in included.url_patterns
        for method in ("post", "put", "patch")
        if getattr(getattr(getattr(pattern.callback.view_class, method, None), "operation", None), "raw_body", None)
    ]
    assert len(raw) == len(settings.LARGER_BODIES) == 1
    assert all(any(re.fullmatch(known, path) for known in settings.LARGER_BODIES) for path in raw)


def test_a_far_future_is_that_of_the_day(tenant: Account) -> None:
    tenant.conversation(tenant.user("ada"), externalId="room")
    at = timezone.now()
    near, far = (at + timedelta(minutes=minutes) for minutes in (8, 12))
    taken = imported(
        tenant,
        message("near", "room", "ada", createdAt=near.isoformat())
        + message("far", "room", "ada", createdAt=far.isoformat()),
    )
    assert [(one["line"], one["pointer"]) for one in taken["failures"]] == [(2, "/createdAt")]


def test_a_client_message_id_is_its_senders(tenant: Account) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    room = tenant.conversation(ada, bob, externalId="room")
    tenant.message(room, ada, clientMessageId="c-1")
    taken = imported(
        tenant,
        message("a", "room", "ada", clientMessageId="c-1")
        + message("b", "room", "bob", clientMessageId="c-1")
        + message("c", "room", "bob", clientMessageId="c-1"),
    )
    assert [(one["line"], one["code"]) for one in taken["failures"]] == [
        (1, "idempotency_conflict"),
        (3, "idempotency_conflict"),
    ]
    again = draft(room, bob, clientMessageId="c-1")
    tenant.api.post("/messages/send", again).refuses(409, "idempotency_conflict")
