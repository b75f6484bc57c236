"""Rows of a tenant's tables, written with COPY: every loader's one way to do so."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db.models import Model
from psycopg import sql

from tenants.models import Tenant


def table(tenant: Tenant, model: type[Model]) -> sql.Identifier:
    return sql.Identifier(tenant.schema_name, model._meta.db_table)


@dataclass(frozen=True, slots=True)
class Rows:
    """Takes rows of the columns that were named; the model's other columns get its defaults."""

    copy: psycopg.Copy
    defaults: tuple[Any, ...]

    def write_row(self, row: Sequence[Any]) -> None:
        self.copy.write_row((*row, *self.defaults))


@contextmanager
def copying(tenant: Tenant, model: type[Model], columns: str) -> Iterator[Rows]:
    """Rows of these columns into the model's table, on a connection of its own: two tables can be filled at once."""
    named = columns.split()
    others = {
        one.column or one.name: _plain(one.get_default())
        for one in model._meta.concrete_fields
        if one.column not in named and one.get_internal_type() not in {"AutoField", "BigAutoField"}
    }
    names = sql.SQL(", ").join(sql.Identifier(name) for name in (*named, *others))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table(tenant, model), names)
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(os.environ["DATABASE_URL"]))
        copy = stack.enter_context(connection.cursor().copy(statement))
        yield Rows(copy, tuple(others.values()))


def _plain(default: Any) -> Any:
    return json.dumps(default) if isinstance(default, dict | list) else default
