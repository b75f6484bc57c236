"""Files: taking them in whatever comes, who may see them, what links to them, and when their bytes go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.files.storage import storages
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messagecore.kernel.errors import ServiceUnavailable
from messaging import storage
from messaging.models import File, MessageFile
from messaging.services import files as services
from messaging.tasks import sweep_removals
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from tenants import removals
from tenants.models import StorageRemoval
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Answer, Api
from tests.snapshots import contents
from tests.threads import at_once, times

pytestmark = pytest.mark.core

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file storage of this test's own."""
    local = storages["default"]
    monkeypatch.setitem(storages._storages, "default", type(local)(location=str(tmp_path)))
    return tmp_path


def stored(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def upload(
    api: Api, data: bytes = PICTURE, *, name: str | None = "photo.png", content_type: str | None = "image/png"
) -> Answer:
    query = None if name is None else {"name": name}
    return api.raw("POST", "/files", data, content_type=content_type, query=query)


def picture(conversation: Any, sender: Any, file: Any, **fields: Any) -> dict[str, Any]:
    body = draft(conversation, sender) | {"type": "image", "content": {"fileId": file["id"]}}
    return body | fields


def storage_used(account: Account) -> int:
    used: int = account.api.get("/usage").data["storage"]["current"]
    return used


def linked(account: Account) -> int:
    with tenant_scope(account):
        return MessageFile.objects.count()


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
    assert content.headers.items() >= {
        "Content-Type": "image/png",
        "Content-Length": str(len(PICTURE)),
        "Content-Disposition": f"attachment; filename*=utf-8''{quote('发票 №1.png')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=3600",
    }.items()
