"""How many examples a law is tried with."""

import os

_PART = float(os.environ.get("MESSAGECORE_LAWS", "1"))


def examples(full: int) -> int:
    """`full`, or the part of it that MESSAGECORE_LAWS says: where a law was tried in full and only runs once more, on
    another PostgreSQL, a tenth still has every statement run many times over."""
    return max(3, round(full * _PART))
