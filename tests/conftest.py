"""Fixtures that every test may use."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cachetools import TTLCache
from django.db import connection
from pytest_django import DjangoDbBlocker
from xdist.remote import Producer

from messaging import ports
from messaging.services import filters
from messaging.services.filters import forget_cached_filters
from quotas.services import limits
from quotas.services.limits import forget_cached_limits
from tenants.services import authentication, provisioning
from tenants.services.authentication import forget_cached_credentials
from tests import databases, distribution
from tests.accounts import Account, drop_account, open_test_account, platform_api
from tests.api import Api
from tests.distribution import ByKind
from tests.ports import FixedPresence, RecordingAnnouncer
from tests.settings import WORKER

# Child processes run the product's own settings, not the tests'.
os.environ["DJANGO_SETTINGS_MODULE"] = "messagecore.settings"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "logs_errors: this test makes the server log an error, and means to")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How much the generated tests ran, which their names do not say: the sums of what they counted in `ran`."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    sums: Counter[str] = Counter()
    for report in reports:
        if getattr(report, "when", None) == "teardown":
            for name, counts in report.user_properties:
                if name == "ran":
                    sums.update(counts)
    if sums:
        terminalreporter.section("generated")
        for name in sorted(sums):
            terminalreporter.write_line(f"{name}: {sums[name]:,}")


@pytest.hookimpl(trylast=True)  # pytest-django puts those with a database first
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if WORKER:
        items.sort(key=lambda item: distribution.place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByKind:
    """For every run with workers."""
    config.option.loadscopereorder = False  # in our order, not by how many tests a file has
    return ByKind(config, log)


def pytest_sessionfinish() -> None:
    if not WORKER:  # the last one to end, whether there are workers or not
        databases.drop_template()


@pytest.fixture
def ran(record_property: Callable[[str, object], None]) -> Iterator[Counter[str]]:
    """What a generated test did, counted by name; printed at the end of the run."""
    counts: Counter[str] = Counter()
    yield counts
    record_property("ran", dict(counts))


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Once for each worker: a database without a tenant, prepared as an installation prepares it."""
    with django_db_blocker.unblock(), databases.test_database():
        yield


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """What a process remembers of the database must not outlive the transaction in which it was true."""
    yield
    forget_cached_credentials()
    forget_cached_limits()
    forget_cached_filters()
    provisioning._plans.clear()
    ports.announcer.cache_clear()
    ports.presence_reader.cache_clear()


@pytest.fixture(autouse=True)
def _no_error_is_logged(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client sends is answered, not logged as an error of ours."""
    yield
    if request.node.get_closest_marker("logs_errors") is None:
        errors = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
        assert not errors, f"logged as errors: {errors}"


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> RecordingAnnouncer:
    """Records what is announced. Announcements follow commits: see `django_capture_on_commit_callbacks`."""
    recorder = RecordingAnnouncer()
    monkeypatch.setattr(ports, "announcer", _as_cached(lambda: recorder))
    return recorder


@pytest.fixture
def presence(monkeypatch: pytest.MonkeyPatch) -> FixedPresence:
    """Who is online: `presence.online.add(user_id)`; everybody else is offline."""
    fixed = FixedPresence()
    monkeypatch.setattr(ports, "presence_reader", _as_cached(lambda: fixed))
    return fixed


def _as_cached(make: Callable[[], object]) -> Callable[[], object]:
    make.cache_clear = lambda: None  # type: ignore[attr-defined]
    return make


@pytest.fixture(autouse=True)
def seconds_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of this process's caches of credentials, limits and filters; no other clock. Unless a test does,
    it stands still: nothing is forgotten, and asked for once more, only because the machine is slow."""
    now = [0.0]

    def clock() -> float:
        return now[0]

    for cache in authentication._caches:
        size = cache._entries.maxsize
        monkeypatch.setattr(cache, "_entries", TTLCache(size, authentication.CACHE_SECONDS, timer=clock))
    monkeypatch.setattr(limits, "_cache", TTLCache(limits._cache.maxsize, limits.CACHE_SECONDS, timer=clock))
    monkeypatch.setattr(filters, "_ready", TTLCache(filters._ready.maxsize, filters.CACHE_SECONDS, timer=clock))

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


# --- accounts -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _standing_accounts(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> tuple[Account, Account]:
    """Two tenants, committed once; what a test does to them is rolled back with its transaction."""
    with django_db_blocker.unblock():
        accounts = open_test_account(subdomain="standing"), open_test_account(subdomain="other")
        connection.close()
    return accounts


@pytest.fixture
def tenant(db: None, _standing_accounts: tuple[Account, Account]) -> Account:
    """A tenant on the basic plan, empty. Everything happens in the test's transaction."""
    return _standing_accounts[0]


@pytest.fixture
def other_tenant(db: None, _standing_accounts: tuple[Account, Account]) -> Account:
    return _standing_accounts[1]


@pytest.fixture
def api(tenant: Account) -> Api:
    """The back end of `tenant`: its secret key."""
    return tenant.api


@pytest.fixture
def platform(db: None) -> Api:
    """Platform staff with every scope."""
    return platform_api()


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Real commits, for tests with several threads or processes. Nothing is rolled back: clean up what you make."""
    with django_db_blocker.unblock():
        try:
            yield
        finally:
            connection.close()


@pytest.fixture
def committed_tenant(committed: None) -> Iterator[Account]:
    """A tenant of its own whose transactions really commit; dropped afterwards."""
    account = open_test_account()
    yield account
    drop_account(account)


@pytest.fixture
def process_environment(django_db_setup: None) -> dict[str, str]:
    """The environment for child processes that shall work on this worker's database and Redis."""
    return databases.process_environment()
