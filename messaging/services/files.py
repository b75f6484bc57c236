"""Files: taking them in, linking messages to them, and letting go of those that nothing needs any more.

A row never stands for bytes that are not there: the bytes are stored first. Bytes that no row stands for do not stay:
a promise to remove them (`tenants.removals`) is committed before they are stored, and withdrawn by the transaction
that writes the row; the one that deletes the row promises it anew. So a crash at any moment leaves work for
`sweep_removals`, and nothing else.

Order of locks: conversations, then files in id order, then the tenant's counter.
"""

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import IO, Any, BinaryIO
from uuid import UUID

from django.utils import timezone

from messagecore.kernel.errors import (
    Conflict,
    FieldError,
    NotFound,
    PermissionDenied,
    ServiceUnavailable,
    UnsupportedMediaType,
    ValidationFailed,
)
from messagecore.kernel.ids import find_uuid
from messaging import storage
from messaging.access import find_acting_user
from messaging.models import File, MessageFile, MessageType, User
from messaging.queries import files as queries
from messaging.queries.files import Use
from quotas.services.limits import get_limits
from quotas.services.metering import check_storage, release_storage, take_storage
from tenants import removals
from tenants.cards import Caller
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

UPLOAD_LEASE = timedelta(hours=6)
"""Bytes of an upload that died on its way are removed after so long; none takes nearly as long."""

LINKING_TYPES = frozenset({MessageType.IMAGE, MessageType.FILE, MessageType.AUDIO, MessageType.VIDEO})
UNNAMED = "file"
UNTYPED = "application/octet-stream"

# RFC 9110: a type and a subtype, both tokens; parameters are not kept.
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_ALSO_FORBIDDEN = frozenset('/\\"')
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They turn what follows around: `gpj.exe` is shown as `exe.jpg`.
_TURNS_AROUND = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class FileNotFound(NotFound):
    code = "file_not_found"


def upload_file(
    *,
    caller: Caller,
    name: str | None,
    content_type: str | None,
    source: BinaryIO,
    size_bytes: int,
    now: datetime,
) -> File:
    """Stores a file of the acting user, or of nobody where the integrator acts as nobody.

    Two short transactions of its own, none of which is open while the bytes are on their way. Raises
    ValidationFailed (empty, or a name or type that cannot be), UnsupportedMediaType (a form), StorageQuotaExceeded,
    ServiceUnavailable, and what `find_acting_user` raises.
    """
    name, media_type = check_name(name or UNNAMED), check_media_type(content_type)
    if size_bytes == 0:
        raise ValidationFailed([FieldError("", "the body is empty")])
    tenant_id = caller.tenant.id
    limit = get_limits(tenant_id).max_storage_bytes
    key = storage.new_key(tenant_id, now)
    with tenant_scope(caller.tenant):
        find_acting_user(caller)
        check_storage(tenant_id, size_bytes, limit=limit)
        removals.promise(tenant_id, [key], due_at=now + UPLOAD_LEASE)
    try:
        storage.save(key, source)
        with tenant_scope(caller.tenant):
            # Locked: whoever erases the user comes before, and they are gone, or after, and finds the file.
            owner = _lock_owner(caller)
            if not removals.withdraw(key):
                raise ServiceUnavailable("The upload took too long.")
            file = File.objects.create(
                owner=owner,
                name=name,
                media_type=media_type,
                size_bytes=size_bytes,
                storage_key=key,
                created_at=now,
            )
            take_storage(tenant_id, size_bytes, limit=limit)
            return file
    except Exception:
        with tenant_scope(caller.tenant):
            removals.promise(tenant_id, [key], due_at=now)
        raise


def _lock_owner(caller: Caller) -> User | None:
    owner = find_acting_user(caller)
    if owner is not None and not User.objects.select_for_update(no_key=True).filter(pk=owner.pk).exists():
        return find_acting_user(caller)  # which says how one is told that one's user is gone
    return owner


def check_name(name: str) -> str:
    """The name as it is kept. Raises ValidationFailed: it is shown to people and offered as a file's name, so it is
    one component of a path, of at most 255 characters, and reads as it is written."""
    name = unicodedata.normalize("NFC", name.strip())
    problem = None
    if not name or set(name) <= {"."}:
        problem = "must name something"
    elif len(name) > 255:
        problem = "must be at most 255 characters"
    elif any(unicodedata.category(letter) in _FORBIDDEN_CATEGORIES for letter in name):
        problem = "must not hold control characters or line breaks"
    elif _TURNS_AROUND & set(name):
        problem = "must not hold characters that change the direction of writing"
    elif _ALSO_FORBIDDEN & set(name):
        problem = 'must not hold /, \\ or "'
    if problem is not None:
        raise ValidationFailed([FieldError("/name", problem)])
    return name


def check_media_type(content_type: str | None) -> str:
    """Type and subtype in lower case; UNTYPED for none. Raises ValidationFailed, UnsupportedMediaType."""
    media_type = (content_type or "").partition(";")[0].strip().lower() or UNTYPED
    if media_type in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise UnsupportedMediaType("The body is the file's own bytes, not a form.")
    if len(media_type) > 255 or not _MEDIA_TYPE.fullmatch(media_type):
        raise ValidationFailed([FieldError("/Content-Type", "must be a media type, such as image/png")])
    return media_type


def access_file(file_id: str, actor: User | None) -> File:
    """`actor` None sees every file of the tenant; a user their own, and those that messages which they see link to.

    Raises FileNotFound.
    """
    uuid = find_uuid(file_id)
    file = None if uuid is None else File.objects.filter(pk=uuid).first()
    if file is None or (actor is not None and not queries.may_see(actor.id, file.id)):
        raise FileNotFound
    return file


def open_file(file: File) -> IO[bytes]:
    """Its bytes, to be read and closed. Raises ServiceUnavailable, FileNotFound (it was deleted at this moment)."""
    try:
        return storage.open_bytes(file.storage_key)
    except storage.BytesMissing:
        if File.objects.filter(pk=file.pk).exists():
            logger.error("the file storage lost %s", file.storage_key)
            raise ServiceUnavailable("The file's bytes are not in the storage.") from None
        raise FileNotFound from None


def delete_file(*, tenant_id: UUID, file_id: str, actor: User | None) -> None:
    """Deletes a file that no message links to. Its owner may, and the integrator.

    Raises FileNotFound, PermissionDenied, Conflict (a message links to it).
    """
    file = access_file(file_id, actor)
    if actor is not None and file.owner_id != actor.id:
        raise PermissionDenied("Only its owner may delete a file.")
    if File.objects.select_for_update().filter(pk=file.pk).first() is None:
        raise FileNotFound
    if MessageFile.objects.filter(file=file).exists():
        raise Conflict("A message links to the file.")
    release_files(tenant_id, [file.id])


# --- links ----------------------------------------------------------------------------------------------------------


def linked_file(type_: str, content: Mapping[str, Any]) -> UUID | None:
    """The file that a message of this type and content links to."""
    file_id = content.get("fileId") if type_ in LINKING_TYPES else None
    return find_uuid(file_id) if isinstance(file_id, str) else None


def usable_files(uses: Sequence[Use]) -> set[tuple[UUID, UUID]]:
    """The allowed (user, file) pairs, their files locked against deletion. No statement where there are none."""
    return queries.usable(uses) if uses else set()


def unusable() -> ValidationFailed:
    """The refusal of a message whose sender may not use the file."""
    return ValidationFailed([FieldError("/content/fileId", "names no file that the sender may use")])


def link_files(pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Links (message, file) pairs that `usable_files` allowed in this transaction."""
    if pairs:
        queries.link(pairs)


def link_edited(message_id: UUID, use: Use) -> None:
    """Links an edited message to the file that it names now; one that it named before stays linked, since its history
    names it. Raises ValidationFailed."""
    if MessageFile.objects.filter(message_id=message_id, file_id=use.file_id).exists():
        return
    if not usable_files([use]):
        raise unusable()
    queries.link([(message_id, use.file_id)])


def unlink_messages(tenant_id: UUID, message_ids: Sequence[UUID]) -> None:
    """Removes the messages' links, and the files that no other message links to. To be called before the messages go,
    in the same transaction. One statement where there is no link."""
    release_files(tenant_id, queries.unlink_messages(message_ids))


def release_files(tenant_id: UUID, file_ids: Sequence[UUID]) -> int:
    """Deletes those of the files that nothing links to, and returns how many: the rows now, their bytes soon after the
    commit, by `sweep_removals`. Five statements at most, whatever the number."""
    deleted = queries.delete_unlinked(file_ids) if file_ids else []
    if deleted:
        removals.promise(tenant_id, [one.storage_key for one in deleted], due_at=timezone.now())
        release_storage(tenant_id, sum(one.size_bytes for one in deleted))
    return len(deleted)


def forget_user(tenant_id: UUID, user: User, *, erase: bool) -> None:
    """Lets go of a deleted user's files. With `erase` their messages lose their links, and what other people's messages
    still link to becomes theirs. Without, the messages keep what they show; what none of them shows goes."""
    lost = queries.unlink_sender(user.id) if erase else []
    owned = File.objects.filter(owner=user).values_list("id", flat=True)
    release_files(tenant_id, list({*lost, *owned}))
    if erase:
        queries.hand_on(user.id)


def remove_bytes(storage_key: str) -> bool:
    """Removes what lies under a key; False if the storage does not do it now."""
    try:
        storage.remove(storage_key)
    except ServiceUnavailable:
        return False
    return True
