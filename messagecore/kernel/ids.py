"""Identifiers: UUIDv7 made by the server, external ids brought by integrators."""

import re
from uuid import UUID

from uuid_utils.compat import uuid7

__all__ = ["find_uuid", "is_external_id", "new_id", "new_ids"]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Surrogates are no characters; JSON can smuggle them in, UTF-8 and the database cannot take them.
_EXTERNAL = re.compile("[^\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]{1,255}")


def new_id() -> UUID:
    """A new UUIDv7: unique, and increasing within a process, which keeps index inserts at the right-hand edge."""
    return uuid7()


def new_ids(count: int) -> list[UUID]:
    return [uuid7() for _ in range(count)]


def find_uuid(text: str) -> UUID | None:
    """The UUID that `text` is in the server's own spelling (lower case, hyphens), or None.

    Any other spelling is somebody's external id, never ours.
    """
    return UUID(text) if len(text) == 36 and _UUID.fullmatch(text) else None


def is_external_id(text: str) -> bool:
    """Whether `text` can be an integrator's id: 1-255 characters, none of them a control character. The catalogue's
    `ExternalId`, for ids that come outside of a body: in headers and tokens."""
    return _EXTERNAL.fullmatch(text) is not None
