"""How many examples a law is tried with."""

import os

_PART = float(os.environ.get("MESSAGECORE_LAWS", "0.5"))


def examples(full: int) -> int:
    """The part of `full` that MESSAGECORE_LAWS says: half of it where nothing is said, so that the suite stays fast; 1
    or more for whoever changes what a law is about, or has a night; a tenth where everything runs once more on another
    PostgreSQL, which has every statement run many times over."""
    return max(3, round(full * _PART))
