"""Files: taking them in whatever comes, who may see them, what links to them, and when their bytes go."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging.services.sending import Draft, Sent, send_messages
from quotas.services.limits import get_limits
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Api
from tests.files import PICTURE, linked, picture, sees, stored, upload
from tests.snapshots import contents

pytestmark = pytest.mark.core

NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


# --- in and out -----------------------------------------------------------------------------------------------------


def test_a_file_goes_in_and_comes_out(tenant: Account, folder: Path) -> None:
    ada = tenant.user("ada")
    answer = upload(tenant.user_api(ada), name="发票 №1.png")
    assert answer.status == 201
    file = answer.data
    assert {name: file[name] for name in ("name", "mediaType", "sizeBytes", "ownerId", "url")} == {
        "name": "发票 №1.png",
        "mediaType": "image/png",
        "sizeBytes": len(PICTURE),
        "ownerId": ada["id"],
        "url": f"/api/v1/files/{file['id']}/content",
    }
    assert tenant.api.get(f"/files/{file['id']}").data == file
    content = tenant.user_api(ada).get(f"/files/{file['id']}/content")
    assert (content.status, content.content) == (200, PICTURE)
    assert (
        content.headers.items()
        >= {
            "Content-Type": "image/png",
            "Content-Length": str(len(PICTURE)),
            "Content-Disposition": f"attachment; filename*=utf-8''{quote('发票 №1.png')}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, max-age=3600",
        }.items()
    )


def test_what_could_run_as_a_page_comes_as_mere_bytes(tenant: Account, folder: Path) -> None:
    shown = {
        "text/html": "application/octet-stream",
        "IMAGE/SVG+XML; charset=utf-8": "application/octet-stream",
        "application/javascript": "application/octet-stream",
        "image/webp": "image/webp",
        "text/plain; charset=utf-8": "text/plain",
        "application/pdf": "application/pdf",
    }
    for given, sent in shown.items():
        file = upload(tenant.api, b"<script>alert(1)</script>", content_type=given).data
        assert file["mediaType"] == given.partition(";")[0].lower()
        content = tenant.api.get(f"/files/{file['id']}/content")
        assert content.headers["Content-Type"] == sent
        assert content.headers["Content-Disposition"].startswith("attachment")


def test_a_file_without_name_and_type_gets_plain_ones(tenant: Account, folder: Path) -> None:
    file = upload(tenant.api, b"x", name=None, content_type=None).data
    assert (file["name"], file["mediaType"], file["ownerId"]) == ("file", "application/octet-stream", None)


def test_keys_are_the_tenants_own_and_tell_nothing(tenant: Account, folder: Path) -> None:
    now = timezone.now()
    for _ in range(2):
        upload(tenant.api, name="secret-plan.pdf")
    keys = stored(folder)
    assert len({key.rpartition("/")[2] for key in keys}) == 2
    for key in keys:
        place, _, name = key.rpartition("/")
        assert place == f"{tenant.id}/{now:%Y}/{now:%m}"
        assert len(bytes.fromhex(name)) == 16
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} <= {0, 0o055, 0o044}


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\Windows\\a.exe",
        "a\nContent-Type: text/html",
        "a\r\nb",
        "a\tb",
        "a\x7fb",
        "a\u2028b",
        "gpj.\u202eexe",
        'a".txt',
        ".",
        "..",
        "   ",
        "x" * 256,
        "x" * 2048,
    ],
)
def test_a_name_that_cannot_be_is_refused(tenant: Account, folder: Path, name: str) -> None:
    before = contents(tenant)
    upload(tenant.api, name=name).refuses(422, "validation_failed", "/name")
    assert (contents(tenant), stored(folder)) == (before, [])


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 4097])
def test_a_name_that_is_no_parameter_is_refused(tenant: Account, folder: Path, name: str) -> None:
    upload(tenant.api, name=name).refuses(422, "validation_failed", "/name")
    assert stored(folder) == []


@pytest.mark.parametrize(
    "name", ["照片.png", "ملف.txt", "😀" * 255, "a b;c=d%20'.txt", "x" * 255, "…", "-rf", "CON", "a\u0301.txt"]
)
def test_any_other_name_is_kept_and_offered(tenant: Account, folder: Path, name: str) -> None:
    file = upload(tenant.api, name=name).data
    assert file["name"] == (name if name != "a\u0301.txt" else "á.txt")
    disposition = tenant.api.get(f"/files/{file['id']}/content").headers["Content-Disposition"]
    assert disposition.isascii()
    assert disposition.isprintable()
    offered = unquote(disposition.partition("''")[2]) or disposition.partition('"')[2].removesuffix('"')
    assert offered == file["name"]


@pytest.mark.parametrize(
    "content_type", ["garbage", "image/", "/png", "a/b/c", "image/png\u00e9", "x" * 300 + "/y", "*/*/*"]
)
def test_a_media_type_that_cannot_be_is_refused(tenant: Account, folder: Path, content_type: str) -> None:
    upload(tenant.api, content_type=content_type).refuses(422, "validation_failed", "/Content-Type")
    assert stored(folder) == []


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_a_form_is_not_a_file(tenant: Account, folder: Path, content_type: str) -> None:
    upload(tenant.api, b"--x--", content_type=content_type).refuses(415, "unsupported_media_type")
    assert stored(folder) == []


def test_an_empty_file_is_refused(tenant: Account, folder: Path) -> None:
    before = contents(tenant)
    upload(tenant.api, b"").refuses(422, "validation_failed", "")
    assert (contents(tenant), stored(folder)) == (before, [])


def test_the_limit_is_exact(tenant: Account, folder: Path, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 100_000
    assert upload(tenant.api, b"x" * 100_000).status == 201
    before = contents(tenant), stored(folder)
    upload(tenant.api, b"x" * 100_001).refuses(413, "payload_too_large")
    assert (contents(tenant), stored(folder)) == before


def test_nobody_uploads_for_somebody_who_is_not_there(tenant: Account, folder: Path) -> None:
    ada = tenant.user("ada")
    upload(tenant.api.acting_as("nobody")).refuses(404, "user_not_found")
    tenant.api.post("/users/ada/deactivate")
    upload(tenant.user_api(ada)).refuses(403, "user_inactive")
    upload(Api()).refuses(401, "api_key_required")
    upload(Api({"X-API-Key": tenant.key(scopes=["files:read"])})).refuses(403, "scope_missing")
    assert stored(folder) == []


# --- who may see it -------------------------------------------------------------------------------------------------


def test_a_file_is_seen_by_those_who_see_a_message_with_it(tenant: Account, folder: Path) -> None:
    ada, bob, eve, late = tenant.users(4)
    room = tenant.conversation(ada, bob)
    file = upload(tenant.user_api(ada)).data

    def who_sees() -> list[bool]:
        return [sees(tenant.user_api(user), file) for user in (ada, bob, eve, late)]

    assert who_sees() == [True, False, False, False]
    message = tenant.api.post("/messages/send", picture(room, ada, file)).data
    tenant.api.post(f"/conversations/{room['id']}/participants", {"participantIds": [late["id"]], "showHistory": False})
    assert who_sees() == [True, True, False, False], "whoever comes without the history does not see it"
    assert sees(tenant.api, file)
    tenant.api.delete(f"/conversations/{room['id']}/participants/{bob['id']}")
    assert who_sees() == [True, False, False, False]
    tenant.api.delete(f"/messages/{message['id']}")
    assert who_sees() == [False] * 4


def test_somebody_who_blocks_the_sender_does_not_see_the_file(tenant: Account, folder: Path) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob)
    file = upload(tenant.user_api(ada)).data
    tenant.api.post("/messages/send", picture(room, ada, file))
    assert sees(tenant.user_api(bob), file)
    assert tenant.user_api(bob).post(f"/users/{bob['id']}/blocks", {"userId": ada["id"]}).status < 300
    assert not sees(tenant.user_api(bob), file)


def test_another_tenant_sees_and_links_nothing(tenant: Account, other_tenant: Account, folder: Path) -> None:
    file = upload(tenant.api).data
    mallory = other_tenant.user("mallory")
    room = other_tenant.conversation(mallory)
    for api in (other_tenant.api, other_tenant.user_api(mallory)):
        assert not sees(api, file)
        api.delete(f"/files/{file['id']}").refuses(404, "file_not_found")
    sent = other_tenant.api.post("/messages/send", picture(room, mallory, file))
    sent.refuses(422, "validation_failed", "/content/fileId")
    assert sees(tenant.api, file)


@pytest.mark.parametrize("file_id", [NOWHERE, NOWHERE.upper(), "x", "..", "😀", "0" * 255])
def test_what_is_not_there_is_not_found(tenant: Account, file_id: str) -> None:
    path = f"/files/{quote(file_id, safe='')}"
    for answer in (tenant.api.get(path), tenant.api.get(f"{path}/content"), tenant.api.delete(path)):
        answer.refuses(404, "file_not_found")


# --- links ----------------------------------------------------------------------------------------------------------


def test_a_message_links_to_a_file_that_its_sender_may_use(tenant: Account, folder: Path) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob)
    own, theirs = upload(tenant.user_api(ada)).data, upload(tenant.user_api(bob)).data
    tenants = upload(tenant.api).data
    before = contents(tenant)
    for sender, file in ((tenant.user_api(ada), theirs), (tenant.user_api(ada), tenants)):
        body = picture(room, ada, file)
        sender.post("/messages/send", body).refuses(422, "validation_failed", "/content/fileId")
    tenant.api.post("/messages/send", picture(room, ada, theirs)).refuses(422, "validation_failed", "/content/fileId")
    nothing = picture(room, ada, {"id": NOWHERE})
    tenant.api.post("/messages/send", nothing).refuses(422, "validation_failed", "/content/fileId")
    assert contents(tenant) == before
    assert tenant.user_api(ada).post("/messages/send", picture(room, ada, own)).status == 200
    assert tenant.api.post("/messages/send", picture(room, ada, tenants)).status == 200
    shown = tenant.user_api(bob).post("/messages/send", picture(room, bob, tenants))
    assert shown.status == 200, "bob sees it in the room, so he may send it on"
    assert linked(tenant) == 3


def test_only_what_shows_files_links_to_them(tenant: Account, folder: Path) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    body = draft(room, ada) | {"type": "custom", "content": {"fileId": NOWHERE}}
    assert tenant.api.post("/messages/send", body).status == 200
    assert (
        tenant.api.post(
            "/messages/send", draft(room, ada, fileId=None) | {"content": {"text": "x", "fileId": 7}}
        ).status
        == 422
    )
    assert linked(tenant) == 0


def test_a_replay_links_once_and_outlives_its_file(tenant: Account, folder: Path) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    file = upload(tenant.api).data
    body = picture(room, ada, file, clientMessageId="c-1")
    sent = tenant.api.post("/messages/send", body).data
    assert tenant.api.post("/messages/send", body).data == sent
    assert linked(tenant) == 1
    tenant.api.delete(f"/messages/{sent['id']}")
    replayed = tenant.api.post("/messages/send", body)
    assert (replayed.data["id"], replayed.headers["Idempotent-Replayed"]) == (sent["id"], "true")


def test_an_edit_links_too_and_keeps_what_its_history_shows(tenant: Account, folder: Path) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob)
    as_ada = tenant.user_api(ada)
    first, second, bobs = upload(as_ada).data, upload(as_ada).data, upload(tenant.user_api(bob)).data
    message = as_ada.post("/messages/send", picture(room, ada, first)).data
    path = f"/messages/{message['id']}"
    as_ada.patch(path, {"content": {"fileId": bobs["id"]}}).refuses(422, "validation_failed", "/content/fileId")
    assert tenant.api.get(path).data["editedAt"] is None
    assert as_ada.patch(path, {"content": {"fileId": second["id"]}}).status == 200
    assert as_ada.patch(path, {"content": {"fileId": second["id"], "caption": "again"}}).status == 200
    assert [sees(tenant.user_api(bob), file) for file in (first, second)] == [True, True]
    as_ada.delete(path)
    assert [sees(tenant.api, file) for file in (first, second, bobs)] == [False, False, True]


def test_links_cost_two_statements_for_any_batch_and_none_without(committed_tenant: Account, folder: Path) -> None:
    ada = committed_tenant.user()
    room = committed_tenant.conversation(ada)
    file = upload(committed_tenant.api).data
    get_limits(committed_tenant.id)

    def cost(drafts: list[Draft]) -> int:
        with CaptureQueriesContext(connection) as captured, tenant_scope(committed_tenant):
            outcomes = send_messages(tenant_id=committed_tenant.id, drafts=drafts, via="test")
        assert all(isinstance(outcome, Sent) for outcome in outcomes)
        return len(captured)

    text = Draft(room["id"], ada["id"], "text", {"text": "hello"})
    image = Draft(room["id"], ada["id"], "image", {"fileId": file["id"]})
    cost([text])
    assert [cost([text]), cost([image]), cost([text, *[image] * 50])] == [8, 10, 10]
    assert linked(committed_tenant) == 51
