"""The test databases: prepared once for a run as an installation prepares its own, copied for whoever needs one, and
dropped at the end."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection
from psycopg import sql

from scripts.launcher.home import ROOT

MISSING = (
    "{} is not set: these tests need a real PostgreSQL and Valkey. `scripts/test [arguments of pytest]` and "
    "`scripts/with-servers pytest …` start throw-away ones."
)

DROPPED_WITHIN_S = 30

# `manage.py prepare` runs every migration twice, which costs as much as a hundred tests: the run's workers share one
# prepared database that nobody works on. Its comment says whose it is; one that a killed run left is made anew.
_TEMPLATE = "test_messagecore_prepared"
_TEMPLATE_LOCK = 0x4D43_7E57
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex


def require_servers() -> None:
    """Ends the run with one clear sentence where no server was named."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        if not os.environ.get(name):
            pytest.exit(MISSING.format(name), returncode=4)


def create_database(name: str) -> str:
    """A database of that name on the tests' server, in place of what was there: with the public schema and the tenant
    template in it and nothing else, as `manage.py prepare` leaves it. Returns its URL."""
    drop_database(name)
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute("SELECT pg_advisory_lock(%s)", [_TEMPLATE_LOCK])  # until the connection ends
        if not _is_prepared(server):
            _prepare(server)
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_TEMPLATE))
        server.execute(copy)
    return _url(name)


def _is_prepared(server: psycopg.Connection[tuple[object, ...]]) -> bool:
    owner = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    return server.execute(owner, [_TEMPLATE]).fetchone() == (_RUN,)


def _prepare(server: psycopg.Connection[tuple[object, ...]]) -> None:
    drop_database(_TEMPLATE)
    server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
    done = subprocess.run(
        [sys.executable, "manage.py", "prepare"],
        cwd=ROOT,
        env=_environment(_url(_TEMPLATE)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    server.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(_TEMPLATE), sql.Literal(_RUN)))


def drop_template() -> None:
    """What `create_database` copied in this run. For the end of it: nobody may need another copy."""
    if os.environ.get("DATABASE_URL"):
        with suppress(psycopg.OperationalError):  # no server was needed, and none is there
            drop_database(_TEMPLATE)


def _url(name: str) -> str:
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))


def drop_database(name: str) -> None:
    """With whoever is connected. The server's own autovacuum may be, which nobody but a superuser can send away: it is
    done soon."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    deadline = time.monotonic() + DROPPED_WITHIN_S
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        while True:
            try:
                server.execute(drop)
            except psycopg.errors.InsufficientPrivilege:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return


@contextmanager
def test_database() -> Iterator[None]:
    """Points Django at an empty database with the public schema and the tenant template in it."""
    require_servers()
    original = connection.settings_dict["NAME"]
    create_database(settings.TEST_DATABASE)
    _point_at(settings.TEST_DATABASE)
    try:
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            client.flushdb()
        yield
    finally:
        _point_at(original)
        drop_database(settings.TEST_DATABASE)


def _point_at(name: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = name
    settings.DATABASES["default"]["NAME"] = name


def process_environment() -> dict[str, str]:
    """The environment for a child process that shall work on this worker's database and Redis."""
    return _environment(_url(settings.TEST_DATABASE))


def _environment(database_url: str) -> dict[str, str]:
    return dict(os.environ) | {
        "DATABASE_URL": database_url,
        "REDIS_URL": settings.REDIS_URL,
        "MESSAGECORE_MODE": "test",
        "DJANGO_SETTINGS_MODULE": "messagecore.settings",
    }
