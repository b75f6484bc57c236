"""Fixtures of the tenants' tests."""

from collections.abc import Callable

import pytest
from cachetools import TTLCache

from quotas.services import limits
from tenants.services import authentication


@pytest.fixture
def seconds_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of this process's caches of credentials and limits; no other clock."""
    now = [0.0]

    def clock() -> float:
        return now[0]

    for cache in authentication._caches:
        monkeypatch.setattr(cache, "_entries", TTLCache(100, authentication.CACHE_SECONDS, timer=clock))
    monkeypatch.setattr(limits, "_cache", TTLCache(100, limits.CACHE_SECONDS, timer=clock))

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance
