"""The test databases: made once for each worker, prepared as an installation prepares it, dropped at the end."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from psycopg import sql

MISSING = (
    "{} is not set: these tests need a real PostgreSQL and Valkey. `scripts/test [arguments of pytest]` and "
    "`scripts/with-servers pytest …` start throw-away ones."
)

DROPPED_WITHIN_S = 30


def require_servers() -> None:
    """Ends the run with one clear sentence where no server was named."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        if not os.environ.get(name):
            pytest.exit(MISSING.format(name), returncode=4)


def create_database(name: str) -> str:
    """An empty database of that name on the tests' server, in place of what was there. Returns its URL."""
    drop_database(name)
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
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
        call_command("prepare", stdout=StringIO())
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
    parts = urlsplit(os.environ["DATABASE_URL"])
    return dict(os.environ) | {
        "DATABASE_URL": urlunsplit(parts._replace(path=f"/{settings.TEST_DATABASE}")),
        "REDIS_URL": settings.REDIS_URL,
        "MESSAGECORE_MODE": "test",
        "DJANGO_SETTINGS_MODULE": "messagecore.settings",
    }
