"""Reads of one moment: every statement of a scope sees what the first one saw."""

from contextlib import suppress

import pytest
from django.db import DatabaseError, connection, transaction

from messaging.models import User
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.threads import at_once

pytestmark = pytest.mark.core


def level() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        return str(cursor.fetchone()[0])


def test_what_is_committed_meanwhile_is_not_seen(committed_tenant: Account) -> None:
    committed_tenant.user()
    with tenant_scope(committed_tenant, at_one_moment=True):
        before = User.objects.count()
        at_once(committed_tenant.user)
        assert User.objects.count() == before
    with tenant_scope(committed_tenant):
        before = User.objects.count()
        at_once(committed_tenant.user)
        assert User.objects.count() == before + 1


def test_the_next_transaction_is_as_ever(committed_tenant: Account) -> None:
    with tenant_scope(committed_tenant, at_one_moment=True):
        assert level() == "repeatable read"
    with tenant_scope(committed_tenant):
        assert level() == "read committed"


def test_so_it_is_after_a_failure_and_after_the_connection_broke(committed_tenant: Account) -> None:
    with suppress(ZeroDivisionError), tenant_scope(committed_tenant, at_one_moment=True):
        assert User.objects.count() / 0
    with tenant_scope(committed_tenant):
        assert level() == "read committed"
    with suppress(DatabaseError), tenant_scope(committed_tenant, at_one_moment=True):
        User.objects.extra(where=["pg_terminate_backend(pg_backend_pid())"]).count()
    connection.close()
    with tenant_scope(committed_tenant):
        assert level() == "read committed"


def test_inside_another_transaction_it_has_no_effect(committed_tenant: Account) -> None:
    with transaction.atomic(), tenant_scope(committed_tenant, at_one_moment=True):
        assert level() == "read committed"
