"""When files go: with the last message that links to them, at the quota, and whatever crashes meanwhile."""

from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from messaging import storage
from messaging.models import File
from messaging.services import files as services
from messaging.tasks import sweep_removals
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from tenants import removals
from tenants.models import StorageRemoval
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.files import PICTURE, picture, sees, storage_used, stored, upload
from tests.snapshots import contents
from tests.threads import at_once, times

pytestmark = pytest.mark.core


# --- going ----------------------------------------------------------------------------------------------------------


def test_a_file_goes_with_its_last_message(tenant: Account, folder: Path) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob)
    file = upload(tenant.user_api(ada)).data
    messages = [tenant.api.post("/messages/send", picture(room, ada, file)).data for _ in range(2)]
    tenant.api.delete(f"/files/{file['id']}").refuses(409, "conflict")
    tenant.api.delete(f"/messages/{messages[0]['id']}")
    assert sees(tenant.user_api(bob), file)
    assert storage_used(tenant) == len(PICTURE)
    tenant.api.delete(f"/messages/{messages[1]['id']}")
    assert not sees(tenant.api, file)
    assert storage_used(tenant) == 0
    assert len(stored(folder)) == 1, "the bytes wait for the commit"
    assert sweep_removals() == 1
    assert stored(folder) == []
    assert sweep_removals() == 0


def test_a_forward_keeps_the_file(tenant: Account, folder: Path) -> None:
    ada, bob = tenant.users(2)
    here, there = tenant.conversation(ada, bob), tenant.conversation(bob)
    file = upload(tenant.user_api(ada)).data
    message = tenant.api.post("/messages/send", picture(here, ada, file)).data
    forward = tenant.user_api(bob).post(f"/messages/{message['id']}/forward", {"conversationId": there["id"]})
    assert forward.data["content"] == {"fileId": file["id"]}
    tenant.api.delete(f"/messages/{message['id']}")
    assert sees(tenant.user_api(bob), file)
    assert sweep_removals() == 0
    assert tenant.user_api(bob).get(f"/files/{file['id']}/content").content == PICTURE


def test_files_go_with_their_conversation(tenant: Account, folder: Path) -> None:
    ada = tenant.user()
    gone, kept = tenant.conversation(ada), tenant.conversation(ada)
    only_here, in_both = upload(tenant.user_api(ada)).data, upload(tenant.user_api(ada)).data
    for room, file in ((gone, only_here), (gone, in_both), (kept, in_both)):
        assert tenant.api.post("/messages/send", picture(room, ada, file)).status == 200
    assert tenant.api.delete(f"/conversations/{gone['id']}").status == 200
    assert [sees(tenant.api, file) for file in (only_here, in_both)] == [False, True]
    assert sweep_removals() == 1
    assert len(stored(folder)) == 1
    assert storage_used(tenant) == len(PICTURE)


@pytest.mark.parametrize("kept", [True, False], ids=["anonymise", "erase"])
def test_files_of_a_deleted_user(tenant: Account, folder: Path, kept: bool) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob)
    as_ada, as_bob = tenant.user_api(ada), tenant.user_api(bob)
    unused, sent, forwarded, bobs = *(upload(as_ada).data for _ in range(3)), upload(as_bob).data
    for sender, who, file in ((as_ada, ada, sent), (as_ada, ada, forwarded), (as_bob, bob, bobs)):
        assert sender.post("/messages/send", picture(room, who, file)).status == 200
    assert as_bob.post("/messages/send", picture(room, bob, forwarded)).status == 200
    assert as_ada.post("/messages/send", picture(room, ada, bobs)).status == 200
    deletion = "anonymise" if kept else "erase"
    assert tenant.api.delete(f"/users/{ada['id']}", {"messages": deletion}).status == 200
    assert [sees(tenant.api, file) for file in (unused, sent, forwarded, bobs)] == [False, kept, True, True]
    owner = tenant.api.get(f"/files/{forwarded['id']}").data["ownerId"]
    assert owner == (ada["id"] if kept else bob["id"])
    sweep_removals()
    assert len(stored(folder)) == 2 + kept
    assert storage_used(tenant) == len(PICTURE) * (2 + kept)


def test_only_its_owner_and_the_integrator_delete_a_file(tenant: Account, folder: Path) -> None:
    ada, bob = tenant.users(2)
    room = tenant.conversation(ada, bob)
    first, second = upload(tenant.user_api(ada)).data, upload(tenant.user_api(ada)).data
    message = tenant.api.post("/messages/send", picture(room, ada, first)).data
    tenant.user_api(bob).delete(f"/files/{first['id']}").refuses(403, "permission_denied")
    tenant.user_api(bob).delete(f"/files/{second['id']}").refuses(404, "file_not_found")
    tenant.user_api(ada).delete(f"/files/{first['id']}").refuses(409, "conflict")
    assert tenant.user_api(ada).delete(f"/files/{second['id']}").status == 200
    assert tenant.api.get(f"/messages/{message['id']}").data["content"] == {"fileId": first["id"]}
    sweep_removals()
    assert len(stored(folder)) == 1


def test_two_deletes_at_once_delete_once(committed_tenant: Account, folder: Path) -> None:
    file = upload(committed_tenant.api).data
    answers = times(4, lambda _: committed_tenant.api.delete(f"/files/{file['id']}").status)
    assert sorted(answers) == [200, 404, 404, 404]
    assert storage_used(committed_tenant) == 0
    assert times(2, lambda _: sweep_removals()) in ([1, 0], [0, 1])
    assert stored(folder) == []


def test_a_file_that_is_being_sent_is_not_deleted(committed_tenant: Account, folder: Path) -> None:
    """Whatever the order: either the message shows the file and it is there, or neither is."""
    ada = committed_tenant.user()
    room = committed_tenant.conversation(ada)
    for _ in range(8):
        file = upload(committed_tenant.user_api(ada)).data
        sent, deleted = at_once(
            lambda file=file: committed_tenant.api.post("/messages/send", picture(room, ada, file)).status,
            lambda file=file: committed_tenant.api.delete(f"/files/{file['id']}").status,
        )
        assert (sent, deleted) in {(200, 409), (422, 200)}
        assert sees(committed_tenant.api, file) is (sent == 200)


def test_a_last_link_that_goes_while_another_comes(committed_tenant: Account, folder: Path) -> None:
    ada = committed_tenant.user()
    rooms = [committed_tenant.conversation(ada) for _ in range(2)]
    api = committed_tenant.api
    for _ in range(8):
        file = upload(committed_tenant.user_api(ada)).data
        first = api.post("/messages/send", picture(rooms[0], ada, file)).data
        sent, _ = at_once(
            lambda file=file: api.post("/messages/send", picture(rooms[1], ada, file)).status,
            lambda first=first: api.delete(f"/messages/{first['id']}").status,
        )
        assert sees(api, file) is (sent == 200)
        sweep_removals()
        if sent == 200:
            assert api.get(f"/files/{file['id']}/content").content == PICTURE


# --- quota ----------------------------------------------------------------------------------------------------------


def test_storage_is_counted_and_its_limit_is_exact(committed_tenant: Account, folder: Path) -> None:
    change_plan(tenant=committed_tenant.tenant, overrides={"max_storage_bytes": 3 * len(PICTURE)})
    forget_cached_limits()
    answers = times(6, lambda _: upload(committed_tenant.api).status)
    assert sorted(answers) == [201] * 3 + [429] * 3
    assert storage_used(committed_tenant) == 3 * len(PICTURE)
    upload(committed_tenant.api, b"x").refuses(429, "storage_quota_exceeded")
    with tenant_scope(committed_tenant):
        file_id = File.objects.values_list("id", flat=True)[0]
        assert File.objects.count() == 3
    sweep_removals()
    assert len(stored(folder)) == 3, "what was refused is not kept"
    assert committed_tenant.api.delete(f"/files/{file_id}").status == 200
    assert upload(committed_tenant.api).status == 201


# --- crashes and outages --------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process is gone: nothing after this runs."""


def test_a_crash_after_the_bytes_leaves_no_row_and_later_no_bytes(
    committed_tenant: Account, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(committed_tenant)

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(services, "take_storage", crash)
        with pytest.raises(Crash):
            upload(committed_tenant.api)
    assert len(stored(folder)) == 1
    sweep_removals()
    assert len(stored(folder)) == 1, "an upload may still be under way"
    now = timezone.now() + services.UPLOAD_LEASE
    assert removals.sweep(services.remove_bytes, limit=10, now=now) == 1
    assert (contents(committed_tenant), stored(folder)) == (before, [])


def test_an_upload_that_comes_too_late_stores_nothing(
    committed_tenant: Account, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes were removed before its row came: it is refused rather than left without them."""
    before = contents(committed_tenant)
    save = storage.save

    def save_slowly(key: str, source: Any) -> None:
        save(key, source)
        removals.sweep(services.remove_bytes, limit=10, now=timezone.now() + services.UPLOAD_LEASE)

    monkeypatch.setattr(storage, "save", save_slowly)
    upload(committed_tenant.api).refuses(503, "service_unavailable")
    sweep_removals()
    assert (contents(committed_tenant), stored(folder)) == (before, [])


def test_a_storage_that_is_away_is_said_to_be(
    committed_tenant: Account, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(committed_tenant.api).data
    backend = storages["default"]

    def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route to bucket")

    with monkeypatch.context() as patched:
        for name in ("save", "open", "delete"):
            patched.setattr(backend, name, away)
        upload(committed_tenant.api).refuses(503, "service_unavailable")
        committed_tenant.api.get(f"/files/{file['id']}/content").refuses(503, "service_unavailable")
        assert committed_tenant.api.delete(f"/files/{file['id']}").status == 200
        assert sweep_removals() == 2
    assert sweep_removals() == 0, "not at once again"
    assert StorageRemoval.objects.filter(tenant_id=committed_tenant.id).count() == 2
    removals.sweep(services.remove_bytes, limit=10, now=timezone.now() + removals.RETRY_AFTER)
    assert stored(folder) == []
    assert StorageRemoval.objects.filter(tenant_id=committed_tenant.id).count() == 0


@pytest.mark.logs_errors
def test_bytes_that_the_storage_lost_are_an_outage(tenant: Account, folder: Path) -> None:
    file = upload(tenant.api).data
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    tenant.api.get(f"/files/{file['id']}/content").refuses(503, "service_unavailable")


def test_a_sweeper_that_dies_leaves_the_rest_to_the_next(
    committed_tenant: Account, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        file = upload(committed_tenant.api).data
        committed_tenant.api.delete(f"/files/{file['id']}")
    removed = []

    def die(key: str) -> bool:
        if removed:
            raise Crash
        removed.append(key)
        return services.remove_bytes(key)

    with pytest.raises(Crash):
        removals.sweep(die, limit=10, now=timezone.now())
    assert len(stored(folder)) == 2
    assert sweep_removals() == 3, "what is gone already counts as removed"
    assert stored(folder) == []
