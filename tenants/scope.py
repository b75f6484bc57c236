"""The one door through which code gets into a tenant's schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from django.db import transaction

from messagecore.kernel import context
from tenants.connection import connection


class HasSchema(Protocol):
    @property
    def schema_name(self) -> str: ...


@contextmanager
def tenant_scope(tenant: HasSchema) -> Iterator[None]:
    """Runs the block in `tenant`'s schema, in a transaction of its own (or a savepoint of the one around it).

    Thread-bound, like the connection: enter it in the function that runs on the thread, never around a hop.
    Commits when the block ends, rolls back when it raises.
    """
    previous = connection.tenant
    with transaction.atomic():
        connection.set_tenant(tenant)
        token = context.tenant.set(tenant.schema_name)
        try:
            yield
        finally:
            context.tenant.reset(token)
            connection.set_tenant(previous)
