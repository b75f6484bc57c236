"""The bytes of files, by key: the one place that talks to the storage which FILE_STORAGE_URL names."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, storages

from messagecore.kernel.errors import ServiceUnavailable

logger = logging.getLogger(__name__)


class BytesMissing(Exception):
    """Nothing is stored under the key."""


class LocalStorage(FileSystemStorage):
    """A folder of this machine. What was saved survives the machine, too: it is on the disk before the row is."""

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str:
        saved = super().save(name, content, max_length)
        path = Path(self.path(saved))
        _flush(path)
        # The names of new folders are entries of those above.
        for folder in path.parents:
            _flush(folder)
            if folder == Path(self.location):
                break
        return saved


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_key(tenant_id: UUID, now: datetime) -> str:
    """`<tenant id>/<yyyy>/<mm>/<128 random bits>`: the tenant's own folder, and a name that nobody can guess."""
    return f"{tenant_id}/{now.astimezone(UTC):%Y/%m}/{secrets.token_hex(16)}"


def save(key: str, source: BinaryIO) -> None:
    """Stores what the seekable `source` holds, in chunks. Raises ServiceUnavailable when the storage does not do it;
    something may be there then."""
    with _asked_of_storage():
        saved = storages["default"].save(key, File(source, name=key))
        if saved != key:  # the same 128 random bits twice
            storages["default"].delete(saved)
            raise ServiceUnavailable


def open_bytes(key: str) -> IO[bytes]:
    """The bytes, to be read and closed. Raises BytesMissing, ServiceUnavailable."""
    with _asked_of_storage():
        found: IO[bytes] = storages["default"].open(key, "rb")
        return found


def remove(key: str) -> None:
    """Removes the bytes; what is not there is removed already. Raises ServiceUnavailable."""
    with _asked_of_storage():
        storages["default"].delete(key)


@contextmanager
def _asked_of_storage() -> Iterator[None]:
    """Whatever a storage raises says the same to the caller: not now. Its own words go to the log."""
    try:
        yield
    except FileNotFoundError as error:
        raise BytesMissing from error
    except ServiceUnavailable:
        raise
    except Exception as error:
        logger.warning("the file storage did not do it: %s", error)
        raise ServiceUnavailable("The file storage does not answer; try again shortly.") from error
