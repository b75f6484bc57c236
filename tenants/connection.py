"""The default database connection, typed as what it is: our engine, which knows schemas."""

from typing import cast

from django.db import connection as _connection

from tenants.postgresql.base import DatabaseWrapper

connection = cast(DatabaseWrapper, _connection)
