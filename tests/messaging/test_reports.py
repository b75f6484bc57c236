"""Reports of messages: by those who see them, once each; and what moderators do with them."""

from typing import Any

import pytest

from messaging.models import MessageReport
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Answer
from tests.snapshots import contents
from tests.threads import at_once, times

pytestmark = pytest.mark.core

NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


class Said:
    """Something that bob said to ada and cyd; dan is not there."""

    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.ada, self.bob, self.cyd, self.dan = tenant.users(4)
        self.room = tenant.conversation(self.ada, self.bob, self.cyd)
        self.message = tenant.message(self.room, self.bob, "代开发票")

    @property
    def path(self) -> str:
        return f"/messages/{self.message['id']}/report"

    def report(self, reporter: Any, reason: str = "spam", **fields: Any) -> Answer:
        return self.tenant.user_api(reporter).post(self.path, {"reason": reason, **fields})

    def resolve(self, report: Any, status: str = "resolved", **fields: Any) -> Answer:
        return self.tenant.api.post(f"/moderation/reports/{report['id']}/resolve", {"status": status, **fields})

    def listed(self, **query: Any) -> Any:
        return self.tenant.api.get("/moderation/reports", query).data


@pytest.fixture
def said(tenant: Account) -> Said:
    return Said(tenant)


def test_a_report_reaches_the_moderators(tenant: Account, said: Said) -> None:
    answer = said.report(said.ada, comment="一直在发广告")
    assert answer.status == 201
    report = answer.data
    assert report | {"id": "", "createdAt": ""} == {
        "id": "",
        "messageId": said.message["id"],
        "reason": "spam",
        "comment": "一直在发广告",
        "status": "open",
        "createdAt": "",
    }
    (shown,) = said.listed()
    assert shown == report | {
        "message": tenant.api.get(f"/messages/{said.message['id']}").data,
        "reporter": {key: said.ada[key] for key in ("id", "externalUserId", "displayName", "avatarUrl")},
        "reporterId": said.ada["id"],
        "note": "",
        "reportCount": 1,
        "openReportCount": 1,
        "decidedAt": None,
    }


def test_moderators_see_the_message_as_it_is_now(tenant: Account, said: Said) -> None:
    said.report(said.ada)
    tenant.user_api(said.bob).patch(f"/messages/{said.message['id']}", {"content": {"text": "nothing"}})
    assert said.listed()[0]["message"]["content"] == {"text": "nothing"}
    tenant.user_api(said.bob).delete(f"/messages/{said.message['id']}")
    assert said.listed()[0]["message"]["deletedAt"] is not None
    assert said.report(said.cyd).status == 201, "what its author took back can still be complained of"


def test_a_reporter_reports_once(tenant: Account, said: Said) -> None:
    first = said.report(said.ada, comment="one")
    second = said.report(said.ada, "abuse", comment="two")
    assert (first.status, second.status) == (201, 200)
    assert second.data == first.data | {"reason": "abuse", "comment": "two"}
    assert said.report(said.cyd).status == 201
    assert [report["reportCount"] for report in said.listed()] == [2, 2]


def test_saying_something_else_opens_a_decided_report_again(said: Said) -> None:
    report = said.report(said.ada, comment="one").data
    assert said.resolve(report, "dismissed", note="harmless").data["status"] == "dismissed"
    assert said.report(said.ada, comment="one").data["status"] == "dismissed"
    again = said.report(said.ada, comment="two")
    assert (again.status, again.data["status"]) == (200, "open")
    (shown,) = said.listed()
    assert (shown["decidedAt"], shown["note"]) == (None, "harmless")


def test_whoever_blocks_first_may_complain_then(tenant: Account, said: Said) -> None:
    tenant.user_api(said.ada).post(f"/users/{said.ada['id']}/blocks", {"userId": said.bob["id"]})
    tenant.user_api(said.ada).get(f"/messages/{said.message['id']}").refuses(404, "message_not_found")
    assert said.report(said.ada).status == 201


def test_who_does_not_see_a_message_cannot_report_it(tenant: Account, said: Said) -> None:
    later = tenant.user()
    newcomer = {"participantIds": [later["id"]], "showHistory": False}
    assert tenant.api.post(f"/conversations/{said.room['id']}/participants", newcomer).status == 200
    before = contents(tenant)
    said.report(said.dan).refuses(404, "message_not_found")
    said.report(later).refuses(404, "message_not_found")
    body = {"reason": "spam"}
    for message_id in (NOWHERE, "no-id"):
        tenant.user_api(said.ada).post(f"/messages/{message_id}/report", body).refuses(404, "message_not_found")
    tenant.api.post(said.path, body).refuses(400, "acting_user_required")
    said.report(said.bob).refuses(409, "conflict")
    assert contents(tenant) == before
    assert tenant.api.acting_as(said.ada["id"]).post(said.path, body).status == 201


def test_a_system_message_is_not_reported(tenant: Account, said: Said) -> None:
    tenant.api.patch("/settings", {"membershipMessages": True})
    tenant.api.post(f"/conversations/{said.room['id']}/participants", {"participantIds": [said.dan["id"]]})
    messages = tenant.api.get(f"/messages/conversations/{said.room['id']}").data["messages"]
    system = next(message for message in messages if message["type"] == "system")
    refused = tenant.user_api(said.ada).post(f"/messages/{system['id']}/report", {"reason": "spam"})
    refused.refuses(409, "conflict")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/reason"),
        ({"reason": "dull"}, "/reason"),
        ({"reason": None}, "/reason"),
        ({"reason": "spam", "comment": "x" * 1001}, "/comment"),
        ({"reason": "spam", "comment": 5}, "/comment"),
        ({"reason": "spam", "more": 1}, "/more"),
    ],
)
def test_a_bad_report_is_refused(tenant: Account, said: Said, body: Any, pointer: str) -> None:
    before = contents(tenant)
    refused = tenant.user_api(said.ada).post(said.path, body)
    refused.refuses(422, "validation_failed")
    assert set(refused.pointers) == {pointer}
    assert contents(tenant) == before


def test_a_report_is_decided_once(tenant: Account, said: Said) -> None:
    report = said.report(said.ada).data
    decided = said.resolve(report, note="广告").data
    assert (decided["status"], decided["note"], decided["openReportCount"]) == ("resolved", "广告", 0)
    assert decided["decidedAt"] is not None
    before = contents(tenant)
    assert said.resolve(report, note="again").data == decided
    said.resolve(report, "dismissed").refuses(409, "conflict")
    assert contents(tenant) == before
    assert said.listed() == []
    assert said.listed(status="resolved") == [decided]
    assert "note" not in said.report(said.ada).data, "the moderators' words are theirs"


def test_deleting_the_message_resolves_all_reports_of_it(tenant: Account, said: Said) -> None:
    first, other = said.report(said.ada).data, said.report(said.cyd).data
    decided = said.resolve(first, deleteMessage=True).data
    assert decided["message"]["deletedAt"] is not None
    assert (decided["reportCount"], decided["openReportCount"]) == (2, 0)
    assert {report["id"] for report in said.listed(status="resolved")} == {first["id"], other["id"]}
    last_seq = tenant.api.get(f"/conversations/{said.room['id']}").data["lastSeq"]
    assert said.resolve(first, deleteMessage=True).status == 200
    assert tenant.api.get(f"/conversations/{said.room['id']}").data["lastSeq"] == last_seq, "deleted once"


def test_what_is_dismissed_is_not_deleted(tenant: Account, said: Said) -> None:
    report = said.report(said.ada).data
    before = contents(tenant)
    said.resolve(report, "dismissed", deleteMessage=True).refuses(422, "validation_failed", "/deleteMessage")
    for body, pointer in (
        ({"status": "open"}, "/status"),
        ({"status": "resolved", "note": "x" * 1001}, "/note"),
        ({"status": "resolved", "deleteMessage": "yes"}, "/deleteMessage"),
    ):
        path = f"/moderation/reports/{report['id']}/resolve"
        tenant.api.post(path, body).refuses(422, "validation_failed", pointer)
    assert contents(tenant) == before


def test_reports_are_for_secret_keys(tenant: Account, said: Said, other_tenant: Account) -> None:
    report = said.report(said.ada).data
    before = contents(tenant)
    path = f"/moderation/reports/{report['id']}/resolve"
    tenant.user_api(said.ada).get("/moderation/reports").refuses(403, "permission_denied")
    tenant.user_api(said.ada).post(path, {"status": "dismissed"}).refuses(403, "permission_denied")
    other_tenant.api.post(path, {"status": "dismissed"}).refuses(404, "report_not_found")
    tenant.api.post(f"/moderation/reports/{NOWHERE}/resolve", {"status": "dismissed"}).refuses(404, "report_not_found")
    assert other_tenant.api.get("/moderation/reports").data == []
    assert contents(tenant) == before


def test_reports_are_listed_by_pages_and_reasons(tenant: Account, said: Said) -> None:
    reporters = [said.ada, said.cyd]
    made = [said.report(reporter, reason) for reporter, reason in zip(reporters, ("hate", "other"), strict=True)]
    first = tenant.api.get("/moderation/reports", {"limit": 1})
    second = tenant.api.get("/moderation/reports", {"limit": 1, "cursor": first.pagination["nextCursor"]})
    assert [first.data[0]["id"], second.data[0]["id"]] == [made[1].data["id"], made[0].data["id"]]
    assert second.pagination == {"nextCursor": None, "hasMore": False}
    assert [report["reason"] for report in said.listed(reason="hate")] == ["hate"]
    tenant.api.get("/moderation/reports", {"reason": "dull"}).refuses(422, "validation_failed", "/reason")
    tenant.api.get("/moderation/reports", {"cursor": "x"}).refuses(422, "invalid_cursor")


def test_one_reporter_at_once_leaves_one_report(committed_tenant: Account) -> None:
    said = Said(committed_tenant)
    answers = times(6, lambda number: said.report(said.ada, comment=str(number)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
    with tenant_scope(committed_tenant):
        assert MessageReport.objects.count() == 1


def test_two_moderators_at_once_decide_once(committed_tenant: Account) -> None:
    said = Said(committed_tenant)
    reports = [said.report(reporter).data for reporter in (said.ada, said.cyd)]
    last_seq = committed_tenant.api.get(f"/conversations/{said.room['id']}").data["lastSeq"]
    answers = at_once(
        *(lambda report=report: said.resolve(report, deleteMessage=True) for report in reports),
        *(lambda report=report: said.report(said.ada, "hate") for report in reports),
    )
    assert {answer.status for answer in answers} == {200}
    after = committed_tenant.api.get(f"/conversations/{said.room['id']}").data
    assert after["lastSeq"] == last_seq + 1, "one message_deleted"
    either = at_once(
        lambda: said.resolve(reports[1], "resolved"),
        lambda: said.resolve(reports[1], "dismissed"),
    )
    assert {answer.status for answer in either} <= {200, 409}
    assert any(answer.status == 409 for answer in either)


@pytest.mark.parametrize("messages", ["anonymise", "erase"])
def test_the_comment_goes_with_its_reporter(tenant: Account, said: Said, messages: str) -> None:
    said.report(said.ada, comment="their own word")
    assert tenant.api.delete(f"/users/{said.ada['id']}", {"messages": messages}).status == 200
    (report,) = said.listed()
    assert report["comment"] == ""
    assert (report["reporterId"] is None) is (messages == "erase")
