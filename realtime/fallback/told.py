"""What a polling client was told already, in a string that it brings back: so no process has to remember it."""

import base64
import binascii
from collections.abc import Iterable
from hashlib import blake2b

from messagecore.kernel.errors import FieldError, ValidationFailed

VERSION = b"\1"
MARK_BYTES = 6


def mark(*facts: object) -> bytes:
    """A short mark of one fact: the same for the same fact, by chance for no other (one in 2⁴⁸)."""
    return blake2b(repr(facts).encode(), digest_size=MARK_BYTES).digest()


def encode(marks: Iterable[bytes]) -> str:
    return base64.urlsafe_b64encode(VERSION + b"".join(sorted(marks))).decode().rstrip("=")


def decode(state: str | None) -> frozenset[bytes]:
    """Raises ValidationFailed for what `encode` did not make. Marks of another version tell nothing."""
    if state is None:
        return frozenset()
    try:
        raw = base64.b64decode(state + "=" * (-len(state) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _not_ours() from None
    if raw[:1] != VERSION:
        return frozenset()
    if (len(raw) - 1) % MARK_BYTES:
        raise _not_ours()
    return frozenset(raw[start : start + MARK_BYTES] for start in range(1, len(raw), MARK_BYTES))


def _not_ours() -> ValidationFailed:
    return ValidationFailed([FieldError("/state", "is not the `state` of an answer")])
