"""A new tenant is all there or not at all, and its schema equals the template in everything that has a name."""

import re
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, models
from psycopg import sql

from quotas.models import StandingUsage, Subscription
from quotas.services.accounts import open_account
from tenants.models import ApiKey, Domain, Tenant, TokenSecret
from tenants.scope import tenant_scope
from tenants.services import provisioning
from tests.accounts import Account, drop_account, open_test_account, platform_api, unique
from tests.api import Api
from tests.threads import times

pytestmark = pytest.mark.core

# What a schema is made of, every name of the schema itself blotted out.
CATALOGUES = {
    "tables": """
        SELECT relname, relkind, reloptions, relpersistence FROM pg_class WHERE relnamespace = %s::regnamespace""",
    # Their order, not their numbers: a clone has no gap where the template dropped a column.
    "columns": """
        SELECT c.relname, rank() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
               format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               a.attgenerated, a.attstorage, a.attcompression, pg_get_expr(d.adbin, d.adrelid), a.attcollation
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = %s::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')""",
    "constraints": """
        SELECT t.relname, n.conname, n.contype, n.condeferrable, n.condeferred, n.convalidated,
               pg_get_constraintdef(n.oid)
        FROM pg_constraint n JOIN pg_class t ON t.oid = n.conrelid WHERE n.connamespace = %s::regnamespace""",
    "indexes": "SELECT indexname, tablename, indexdef FROM pg_indexes WHERE schemaname = %s",
    "sequences": """
        SELECT sequencename, data_type::text, start_value, min_value, max_value, increment_by, cycle, cache_size
        FROM pg_sequences WHERE schemaname = %s""",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = %s",
    "triggers": """
        SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = %s::regnamespace AND NOT t.tgisinternal""",
    "functions": "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = %s::regnamespace",
    "types": "SELECT typname, typtype FROM pg_type WHERE typnamespace = %s::regnamespace",
    "comments": """
        SELECT c.relname, d.objsubid, d.description FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
        WHERE c.relnamespace = %s::regnamespace""",
}


def describe(schema: str) -> dict[str, list[str]]:
    found = {}
    with connection.cursor() as cursor:
        for name, statement in CATALOGUES.items():
            cursor.execute(statement, [schema])
            found[name] = sorted(_plain(repr(row).replace(schema, "<schema>")) for row in cursor.fetchall())
        history = sql.SQL("SELECT app, name, applied FROM {}.django_migrations ORDER BY id").format(
            sql.Identifier(schema)
        )
        cursor.execute(history.as_string())
        found["migrations"] = [repr(row) for row in cursor.fetchall()]
    return found


def _plain(definition: str) -> str:
    """Without casts and brackets: PostgreSQL prints `x = ANY (ARRAY[…]::text[])` otherwise once it was read again."""
    return re.sub(r"::(character varying|text)|[()\[\]]", "", definition)


def test_a_tenants_schema_equals_the_template(tenant: Account) -> None:
    template, copy = describe(settings.TENANT_TEMPLATE_SCHEMA), describe(tenant.schema_name)
    assert copy == template
    assert len(copy["tables"]) > 10
    assert copy["constraints"]
    assert copy["sequences"]
    assert any("fillfactor" in table for table in copy["tables"]), "storage options are part of it"


def test_a_migrated_schema_equals_the_template_too(tenant: Account) -> None:
    """The template itself is what migrations make: no table of the models is missing."""
    tables = {model._meta.db_table for model in apps.get_app_config("messaging").get_models()}
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [tenant.schema_name])
        assert {row[0] for row in cursor.fetchall()} == tables | {"django_migrations"}


def test_later_migrations_find_everything_by_name(committed_tenant: Account) -> None:
    before = describe(settings.TENANT_TEMPLATE_SCHEMA)
    with tenant_scope(committed_tenant), connection.schema_editor() as editor:
        for model in apps.get_app_config("messaging").get_models():
            for index in model._meta.indexes:
                editor.remove_index(model, index)
            for constraint in model._meta.constraints:
                editor.remove_constraint(model, constraint)
        # found by introspection, under whatever name Django gave it
        conversation = apps.get_model("messaging", "Conversation")
        old = conversation._meta.get_field("external_id")
        new = models.CharField(max_length=200, null=True)
        new.set_attributes_from_name("external_id")
        new.model = conversation
        editor.alter_field(conversation, old, new)
    left = " ".join(describe(committed_tenant.schema_name)["indexes"])
    assert "conversation_listed" not in left
    assert "message_sent_once" not in left
    assert "external_id" not in left
    assert describe(settings.TENANT_TEMPLATE_SCHEMA) == before, "the template was not touched"


def traces(subdomain: str) -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 't\\_%%'")
        (schemas,) = cursor.fetchone()
    return {
        "schemas": schemas,
        "tenants": Tenant.objects.count(),
        "of that name": Tenant.objects.filter(subdomain=subdomain).count(),
        "domains": Domain.objects.count(),
        "keys": ApiKey.objects.count(),
        "secrets": TokenSecret.objects.count(),
        "subscriptions": Subscription.objects.count(),
        "usage": StandingUsage.objects.count(),
    }


@pytest.mark.parametrize("fails_at", ["middle", "end"])
def test_a_copy_that_fails_leaves_nothing(
    committed_tenant: Account, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    with connection.cursor() as cursor:
        plan = provisioning._clone_plan(cursor)
    broken = [*plan[: len(plan) // 2], "SELECT 1/0", *plan[len(plan) // 2 :]] if fails_at == "middle" else [*plan, "x"]
    monkeypatch.setattr(provisioning, "_clone_plan", lambda cursor: broken)
    before = traces("half")
    with pytest.raises((DatabaseError, Exception), match=r"division by zero|syntax error"):
        open_account(name="Half", subdomain="half", plan_type="basic")
    assert traces("half") == before
    monkeypatch.undo()
    drop_account(open_test_account(subdomain="half"))
    assert committed_tenant.api.get("/users").data == [], "the connection still finds its way"


def test_a_plan_that_cannot_be_given_leaves_nothing(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**fields: Any) -> None:
        raise IntegrityError("no")

    monkeypatch.setattr(StandingUsage.objects, "create", refuse)
    before = traces("half")
    with pytest.raises(IntegrityError, match="no"):
        open_account(name="Half", subdomain="half", plan_type="basic")
    assert traces("half") == before


@pytest.mark.logs_errors
def test_a_sign_up_without_a_template_can_be_tried_again(platform: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "TENANT_TEMPLATE_SCHEMA", "not_prepared")
    before = traces("early")
    answer = platform.post("/admin/tenants", {"name": "Early", "subdomain": "early", "planType": "basic"})
    answer.refuses(503, "service_unavailable")
    assert traces("early") == before


def test_two_sign_ups_for_one_subdomain_at_once_are_one_tenant(committed: None) -> None:
    subdomain = unique("race")
    api = platform_api()
    body = {"name": "Race", "subdomain": subdomain, "planType": "basic"}
    before = traces(subdomain)
    answers = times(4, lambda _: api.post("/admin/tenants", body))
    try:
        assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]
        assert {answer.code for answer in answers if answer.status == 409} == {"subdomain_taken"}
        after = traces(subdomain)
        assert {name: after[name] - before[name] for name in after} == {
            "schemas": 1,
            "tenants": 1,
            "of that name": 1,
            "domains": 1,
            "keys": 2,
            "secrets": 1,
            "subscriptions": 1,
            "usage": 1,
        }
    finally:
        made = Tenant.objects.get(subdomain=subdomain)
        drop_account(Account(made, "", "", ""))


def test_sign_ups_at_once_all_work(committed: None) -> None:
    accounts = times(4, lambda _: open_test_account())
    try:
        for account in accounts:
            ada = account.user("ada")
            assert account.message(account.conversation(ada), ada)["seq"] == 1
    finally:
        for account in accounts:
            drop_account(account)
