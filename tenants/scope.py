"""The one door through which code gets into a tenant's schema."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

from django.db import transaction
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus

from messagecore.kernel import context
from tenants.connection import connection


class HasSchema(Protocol):
    @property
    def schema_name(self) -> str: ...


@contextmanager
def _snapshot() -> Iterator[None]:
    """The next transaction begins as `BEGIN ISOLATION LEVEL REPEATABLE READ`."""
    connection.ensure_connection()
    connected = connection.connection
    connected.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        yield
    finally:
        if connected.info.transaction_status == TransactionStatus.IDLE:
            connected.isolation_level = None
        else:  # it broke: what comes next shall not inherit the level
            connection.close()


@contextmanager
def tenant_scope(tenant: HasSchema, *, at_one_moment: bool = False) -> Iterator[None]:
    """Runs the block in `tenant`'s schema, in a transaction of its own (or a savepoint of the one around it).

    `at_one_moment`: every statement sees the database as the first one did (REPEATABLE READ), for reads whose parts
    must fit each other. It costs nothing; inside another transaction it has no effect.

    Thread-bound, like the connection: enter it in the function that runs on the thread, never around a hop.
    Commits when the block ends, rolls back when it raises.
    """
    previous = connection.tenant
    with _snapshot() if at_one_moment and not connection.in_atomic_block else nullcontext(), transaction.atomic():
        connection.set_tenant(tenant)
        token = context.tenant.set(tenant.schema_name)
        try:
            yield
        finally:
            context.tenant.reset(token)
            connection.set_tenant(previous)
