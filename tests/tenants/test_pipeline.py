"""Reads in one round trip: the same as cursors read, in the right schema, whatever breaks, and nothing left behind."""

from operator import itemgetter
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, DataError, OperationalError, connection, transaction
from psycopg.pq import TransactionStatus

from messaging.models import User
from messaging.queries import users
from tenants.pipeline import Read, read_together
from tenants.scope import tenant_scope
from tests.accounts import Account

pytestmark = pytest.mark.core


def value(sql: str, *parameters: Any) -> Read[Any]:
    return Read(sql, parameters, itemgetter(0))


NAMES = value("SELECT external_user_id FROM messaging_user ORDER BY 1")
PATH = value("SELECT current_setting('search_path')")


def test_each_tenant_reads_its_own(pair: tuple[Account, Account]) -> None:
    a, b = pair
    for _ in range(3):
        assert read_together(a.tenant, NAMES) == (["a"],)
        assert read_together(b.tenant, NAMES, PATH) == (["b"], [f'"{b.tenant.schema_name}", public'])


def test_nothing_stays_behind(pair: tuple[Account, Account]) -> None:
    a, _ = pair
    read_together(a.tenant, NAMES)
    assert connection.connection.info.transaction_status == TransactionStatus.IDLE
    with connection.connection.cursor() as plain:
        plain.execute("SHOW search_path")
        assert plain.fetchone() == ('"$user", public',)
    connection.connection.rollback()
    with pytest.raises(DatabaseError, match="messaging_user"):
        User.objects.count()


def test_it_reads_what_a_model_reads(pair: tuple[Account, Account]) -> None:
    a, _ = pair
    a.user("blocked")
    fields = ("id", "external_user_id", "is_active", "banned_until", "tokens_valid_after")
    with tenant_scope(a.tenant):
        User.objects.filter(external_user_id="a").update(banned_until="9999-12-31T23:59:59.999999Z")
        expected = [users.UserRow._make(row) for row in User.objects.filter(external_user_id="a").values_list(*fields)]
        assert users.by_external_id("a").fetch() == expected
        assert read_together(a.tenant, users.by_external_id("a"), users.by_external_id("nobody")) == (expected, [])
    assert read_together(a.tenant, users.by_external_id("a"), users.by_external_id("nobody")) == (expected, [])


def test_inside_a_transaction_it_sees_what_is_not_committed(pair: tuple[Account, Account]) -> None:
    a, b = pair
    with transaction.atomic():
        with tenant_scope(a.tenant):
            User.objects.create(external_user_id="c", created_at="2026-01-01T00:00Z", updated_at="2026-01-01T00:00Z")
        assert read_together(a.tenant, NAMES) == (["a", "c"],)
        assert read_together(b.tenant, NAMES) == (["b"],)
        transaction.set_rollback(True)
    assert read_together(a.tenant, NAMES) == (["a"],)


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (value("SELECT 1 / %s::int", 0), DataError),
        (value("SELECT * FROM nowhere"), DatabaseError),
        (value("SELECT %s::uuid", "x"), DataError),
        (value("SELECT 1; SELECT 2"), DatabaseError),
    ],
)
def test_a_statement_that_fails_fails_alone(
    pair: tuple[Account, Account], failing: Read[Any], error: type[Exception]
) -> None:
    a, _ = pair
    for reads in ((failing, NAMES), (NAMES, failing)):
        with pytest.raises(error):
            read_together(a.tenant, *reads)
        assert read_together(a.tenant, NAMES) == (["a"],)


def test_a_value_that_cannot_be_sent_leaves_the_connection_usable(pair: tuple[Account, Account]) -> None:
    a, _ = pair
    for wrong in ("nul\0", object()):
        with pytest.raises(Exception, match=r"NUL|adapt"):
            read_together(a.tenant, NAMES, value("SELECT %s", wrong))
        assert read_together(a.tenant, NAMES) == (["a"],)


def test_a_broken_connection_is_an_operational_error_once(pair: tuple[Account, Account]) -> None:
    a, _ = pair
    (backend,) = read_together(a.tenant, value("SELECT pg_backend_pid()"))[0]
    with pytest.raises(OperationalError):
        read_together(a.tenant, value("SELECT pg_terminate_backend(%s)", backend), NAMES)
    connection.close_if_unusable_or_obsolete()
    assert read_together(a.tenant, NAMES) == (["a"],)


def test_a_connection_that_broke_meanwhile_is_an_operational_error(pair: tuple[Account, Account]) -> None:
    """Wherever it is noticed: by the first statement of a scope, or by reads in one round trip."""
    a, _ = pair

    def in_a_scope() -> None:
        with tenant_scope(a.tenant):
            User.objects.count()

    for act in (in_a_scope, lambda: read_together(a.tenant, NAMES)):
        (backend,) = read_together(a.tenant, value("SELECT pg_backend_pid()"))[0]
        with psycopg.connect(**connection.get_connection_params()) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        with pytest.raises(OperationalError):
            act()
        connection.close_if_unusable_or_obsolete()
        assert read_together(a.tenant, NAMES) == (["a"],)


def test_a_percent_sign_is_one(pair: tuple[Account, Account]) -> None:
    a, _ = pair
    like = value("SELECT %s || '%%' WHERE 'ab' LIKE 'a%%' AND %s = 7 %% 4", "100", 3)
    assert read_together(a.tenant, like) == (["100%"],)
    with tenant_scope(a.tenant):
        assert like.fetch() == ["100%"]


def test_much_in_both_directions(pair: tuple[Account, Account]) -> None:
    """Far more than the buffers between us hold, so that both sides have to read while they write."""
    a, _ = pair
    much = "界" * 2_000_000
    sent, counted, back = (
        value("SELECT length(%s)", much),
        value("SELECT count(*) FROM generate_series(1, 100000)"),
        value("SELECT repeat('x', 1000) || n FROM generate_series(1, 20000) n"),
    )
    lengths, counts = read_together(a.tenant, sent, counted)
    assert (lengths, counts) == ([2_000_000], [100_000])
    echoed, rows = read_together(a.tenant, value("SELECT %s::text", much), back)
    assert echoed == [much]
    assert (len(rows), rows[-1]) == (20_000, "x" * 1000 + "20000")
