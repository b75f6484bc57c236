"""The embedded PostgreSQL and Valkey: lasting data, awkward paths, stale leftovers, and what a client may do there."""

import os
import signal
import stat
from pathlib import Path

import psycopg
import pytest
import redis

from scripts.launcher import embedded
from scripts.launcher.embedded import embedded_servers, throwaway_servers
from scripts.launcher.failures import LauncherError
from scripts.launcher.processes import of_run

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

PREFIX = "messagecore-throwaway-"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose path is too long for a socket, with blanks and letters beyond ASCII; each test goes on with it."""
    return tmp_path_factory.mktemp("ein Zuhause 家") / Path(*(["deeper"] * 15))


def test_data_lasts_and_a_stale_pid_file_does_not_block(home: Path) -> None:
    with embedded_servers(home, valkey_password="first") as servers:
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'Grüße 你好' AS words")
        with redis.Redis.from_url(servers.redis_url) as client:
            client.set("kept", "words")

    # What a killed machine leaves: a pid that a live process has since been given.
    (home / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{home / 'postgres'}\n0\n5432\n\n\n\nready\n")

    with embedded_servers(home, valkey_password="second") as servers:
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT words FROM kept").fetchone() == ("Grüße 你好",)
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.get("kept") == b"words"


def test_a_killed_postgres_recovers_with_everything_that_was_committed(home: Path) -> None:
    with embedded_servers(home) as servers:
        assert servers.postgres is not None
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE committed AS SELECT 1 AS one")
        os.kill(servers.postgres.child.pid, signal.SIGKILL)
        servers.postgres.child.process.wait()
    with embedded_servers(home) as servers, psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SELECT one FROM committed").fetchone() == (1,)


def test_the_application_is_no_superuser_but_may_make_roles_and_databases(home: Path) -> None:
    with embedded_servers(home) as servers, psycopg.connect(servers.database_url) as connection:
        row = connection.execute(
            "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles "
            "WHERE rolname = current_user"
        ).fetchone()
    assert row == ("messagecore", False, False, True, True)


def test_nothing_is_open_to_others_and_neither_server_trusts_a_stranger(home: Path) -> None:
    with embedded_servers(home, valkey_password="right") as servers:
        assert servers.postgres is not None
        assert stat.S_IMODE(servers.postgres.socket_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        stranger = servers.database_url.replace("messagecore@", "stranger@")
        with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
            psycopg.connect(stranger)
        wrong = redis.Redis.from_url(servers.redis_url.replace(":right@", ":wrong@"))
        with wrong, pytest.raises(redis.AuthenticationError):
            wrong.ping()


def test_a_server_that_is_given_is_not_started(home: Path) -> None:
    with embedded_servers(home, database_url="postgresql://given/db", redis_url="redis://given/0") as servers:
        assert (servers.database_url, servers.postgres) == ("postgresql://given/db", None)
        assert (servers.redis_url, servers.valkey) == ("redis://given/0", None)


def test_data_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir()
    (data / "PG_VERSION").write_text("12\n")
    with (
        pytest.raises(LauncherError, match=r"was written by PostgreSQL 12; this is PostgreSQL 18"),
        embedded_servers(tmp_path),
    ):
        pass


def test_throw_away_servers_leave_nothing() -> None:
    with throwaway_servers() as (directory, servers):
        assert servers.postgres is not None
        assert servers.valkey is not None
        pids = [servers.postgres.child.pid, servers.valkey.child.pid]
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("off",)
    assert not directory.exists()
    assert of_run(directory.name) == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_killed_runs_directory_is_swept_and_a_live_or_newborn_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed, newborn, strangers = (tmp_path / name for name in (PREFIX + "killed", PREFIX + "newborn", "strangers"))
    for directory in (killed, newborn, strangers):
        directory.mkdir()
    (killed / "lock").touch()
    (strangers / "lock").touch()
    given = {"database_url": "postgresql://given/db", "redis_url": "redis://given/0"}

    with throwaway_servers(**given) as (live, _), throwaway_servers(**given):
        assert live.exists()
        assert not killed.exists()
        assert newborn.exists()
        assert strangers.exists()


@pytest.mark.parametrize(
    ("asked", "plenty", "folder", "expected"),
    [(True, 1, None, "memory"), (True, 2**60, None, "disk"), (False, 1, None, "disk"), (True, 1, "chosen", "disk")],
)
def test_throw_away_servers_are_in_memory_where_there_is_plenty(  # noqa: PLR0917 - one a column
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool, plenty: int, folder: str | None, expected: str
) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    killed = memory / (PREFIX + "killed")
    for directory in (killed, disk):
        directory.mkdir(parents=True)
    (killed / "lock").touch()
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    monkeypatch.setattr(embedded, "_IN_MEMORY", memory)
    monkeypatch.setattr(embedded, "_PLENTY_BYTES", plenty)
    if folder is None:
        monkeypatch.delenv("TMPDIR", raising=False)
    else:
        monkeypatch.setenv("TMPDIR", folder)
    given = {"database_url": "postgresql://given/db", "redis_url": "redis://given/0"}
    with throwaway_servers(**given, in_memory=asked) as (live, _):
        assert live.parent.name == expected
        assert not killed.exists()
