"""What the database holds, to show that a refused request changed nothing."""

from django.db import connection
from psycopg import sql

from tests.accounts import Account

# `last_used_at` of a key is a note about the request, not an effect of it.
_PUBLIC = (
    "tenants_tenant",
    "tenants_domain",
    "tenants_tokensecret",
    "tenants_outboxevent",
    "quotas_subscription",
    "quotas_monthlyusage",
    "quotas_standingusage",
)


def contents(*accounts: Account) -> dict[str, tuple[int, str]]:
    """Every table of these tenants and of the public schema: how many rows, and a hash of them all."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)",
            [[account.schema_name for account in accounts]],
        )
        tables = [*cursor.fetchall(), *(("public", table) for table in _PUBLIC)]
        found = {}
        for schema, table in tables:
            statement = sql.SQL(
                "SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"
            )
            cursor.execute(statement.format(sql.Identifier(schema, table)).as_string())
            found[f"{schema}.{table}"] = cursor.fetchone()
    return found
