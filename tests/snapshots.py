"""What the database holds, to show that a refused request changed nothing."""

from django.db import connection
from psycopg import sql

from tests.accounts import Account

# `last_used_at` of a key is a note about the request, not an effect of it.
_PUBLIC = {
    "tenants_tenant": "id",
    "tenants_domain": "tenant_id",
    "tenants_tokensecret": "tenant_id",
    "tenants_outboxevent": "tenant_id",
    "tenants_feed": "tenant_id",
    "tenants_storageremoval": "tenant_id",
    "quotas_subscription": "tenant_id",
    "quotas_monthlyusage": "tenant_id",
    "quotas_standingusage": "tenant_id",
}
_COUNT = sql.SQL("SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t")
_OF_TENANTS = sql.SQL(" WHERE {} = ANY(%s)")


def contents(*accounts: Account) -> dict[str, tuple[int, str]]:
    """Every table of these tenants, and their part of the public ones: how many rows, and a hash of them all."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)",
            [[account.schema_name for account in accounts]],
        )
        found = {}
        for schema, table in cursor.fetchall():
            cursor.execute(_COUNT.format(sql.Identifier(schema, table)).as_string())
            found[f"{schema}.{table}"] = cursor.fetchone()
        for table, owner in _PUBLIC.items():
            statement = _COUNT.format(sql.Identifier("public", table)) + _OF_TENANTS.format(sql.Identifier(owner))
            cursor.execute(statement.as_string(), [[account.id for account in accounts]])
            found[f"public.{table}"] = cursor.fetchone()
    return found
