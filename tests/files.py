"""Uploading files in tests, and looking at what the storage holds."""

from pathlib import Path
from typing import Any

from messaging.models import MessageFile
from tenants.scope import tenant_scope
from tests.accounts import Account, draft
from tests.api import Answer, Api

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


def stored(folder: Path) -> list[str]:
    """The keys below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def upload(
    api: Api, data: bytes = PICTURE, *, name: str | None = "photo.png", content_type: str | None = "image/png"
) -> Answer:
    query = None if name is None else {"name": name}
    return api.raw("POST", "/files", data, content_type=content_type, query=query)


def picture(conversation: Any, sender: Any, file: Any, **fields: Any) -> dict[str, Any]:
    """A `SendMessage` body of an image."""
    body = draft(conversation, sender) | {"type": "image", "content": {"fileId": file["id"]}}
    return body | fields


def sees(api: Api, file: Any) -> bool:
    """Whether the caller sees a file: the record and the bytes, or neither."""
    answers = [api.get(f"/files/{file['id']}"), api.get(f"/files/{file['id']}/content")]
    for answer in answers:
        if answer.status >= 400:
            answer.refuses(404, "file_not_found")
    (status,) = {answer.status for answer in answers}
    return status == 200


def linked(account: Account) -> int:
    """How many links from messages to files there are."""
    with tenant_scope(account):
        return MessageFile.objects.count()


def storage_used(account: Account) -> int:
    """The bytes that the tenant's counter says."""
    used: int = account.api.get("/usage").data["storage"]["current"]
    return used
