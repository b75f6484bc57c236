"""The schema a statement runs in, kept out of session state."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import InternalError
from django.db.backends.postgresql.psycopg_any import BaseTzLoader
from django.utils.asyncio import async_unsafe
from django_tenants.postgresql_backend import base
from django_tenants.utils import quote_schema_name
from psycopg import Connection, Error, IsolationLevel, OperationalError
from psycopg.adapt import AdaptersMap, Loader
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

DEFAULT_PATH = ("public",)
"""What a new session resolves names in; PostgreSQL's own default, `"$user", public`, comes to the same."""


class UtcLoader(BaseTzLoader):
    """Times as Django's own loader reads them, in a fifth of the time: a tenth of reading messages was that."""

    timezone = UTC

    def load(self, data: Any) -> datetime:
        try:
            # The session's time zone is UTC; anything else (infinity, years before 1) is left to psycopg, and refused.
            return datetime.fromisoformat(str(data, "ascii"))
        except ValueError:
            loaded: datetime = super().load(data)
            return loaded


@lru_cache(16_384)
def _uuid(text: str) -> UUID:
    return UUID(text)


class UuidLoader(Loader):
    """Remembers: most ids in a page of rows are those of a few conversations and users, and making a UUID takes five
    times as long as finding it."""

    def load(self, data: Any) -> UUID:
        return _uuid(str(data, "ascii"))


@lru_cache
def _with_fast_loaders(adapters: AdaptersMap) -> AdaptersMap:
    made = AdaptersMap(adapters)
    made.register_loader("timestamptz", UtcLoader)
    made.register_loader("uuid", UuidLoader)
    return made


def failure(connection: Connection[Any], result: PGresult) -> Error:
    """What a statement's result says went wrong: as psycopg raises it, also where the connection broke."""
    if connection.pgconn.status == ConnStatus.BAD and result.error_field(DiagnosticField.SQLSTATE) is None:
        return OperationalError(result.get_error_message(connection.info.encoding))
    return error_from_result(result, connection.info.encoding)


class DatabaseWrapper(base.DatabaseWrapper):
    """Sets `search_path` with SET LOCAL inside a transaction, so that a transaction pooler may hand the session on.

    django-tenants sets it for the session and on every cursor (a third of the samples of a plain DRF request).
    Here a statement costs nothing extra while the path is already right, and the path of a tenant's transaction goes
    along with its BEGIN. Outside a transaction (migrations) the session's path is set as usual.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._session_path: tuple[str, ...] | None = DEFAULT_PATH
        self._transaction_path: tuple[str, ...] | None = None
        self._setting_search_path: bool = False
        super().__init__(*args, **kwargs)

    def get_connection_params(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super().get_connection_params()
        parameters["context"] = _with_fast_loaders(parameters["context"])
        return parameters

    def _handle_search_path(self, cursor: Any = None) -> None:
        if self._setting_search_path:
            return
        wanted = tuple(self._get_cursor_search_paths())
        if wanted == (self._session_path if self._transaction_path is None else self._transaction_path):
            return
        local = self.in_atomic_block
        statement = f"SET {'LOCAL ' if local else ''}search_path = {', '.join(map(quote_schema_name, wanted))}"
        if local and self.connection.info.transaction_status == TransactionStatus.IDLE:
            statement = f"{self._begin()}; {statement}"
        self._setting_search_path = True
        try:
            with self.wrap_database_errors:  # Django's, so that it knows of a broken connection
                self._execute_plainly(statement)
        except InternalError as error:
            if isinstance(error.__cause__, base.psycopg.errors.InFailedSqlTransaction):
                return  # Only a rollback can follow, and that forgets the path anyway.
            raise
        finally:
            self._setting_search_path = False
        if local:
            self._transaction_path = wanted
        else:
            self._session_path = wanted

    @staticmethod
    def search_path_of(schema_name: str) -> str:
        """What a tenant's schema goes by in `search_path`."""
        return f"{quote_schema_name(schema_name)}, public"

    def _begin(self) -> str:
        """What psycopg would begin the transaction with, in a round trip of its own."""
        level: IsolationLevel | None = self.connection.isolation_level
        return "BEGIN" if level is None else f"BEGIN ISOLATION LEVEL {level.name.replace('_', ' ')}"

    def _execute_plainly(self, statements: str) -> None:
        """Statements of ours, without parameters, in one round trip, past every cursor."""
        done = self.connection.pgconn.exec_(statements.encode())
        if done.status != ExecStatus.COMMAND_OK:
            raise failure(self.connection, done)

    @async_unsafe
    def commit(self) -> None:
        super().commit()
        self._transaction_path = None

    @async_unsafe
    def rollback(self) -> None:
        super().rollback()
        self._transaction_path = None

    @async_unsafe
    def savepoint_rollback(self, sid: str) -> None:
        super().savepoint_rollback(sid)
        # What was set after the savepoint is undone; the empty path equals none, so the next statement sets its own.
        self._transaction_path = ()

    @async_unsafe
    def close(self) -> None:
        super().close()
        self._session_path, self._transaction_path = DEFAULT_PATH, None
