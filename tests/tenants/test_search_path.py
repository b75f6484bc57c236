"""The schema a statement runs in: set for a transaction alone, right after every turn, nothing left behind."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from messaging.models import Conversation, User
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.accounts import Account, draft, unique

pytestmark = pytest.mark.core

DEFAULT = ('"$user", public', "public")


def names() -> list[str]:
    return sorted(User.objects.values_list("external_user_id", flat=True))


def raw(statement: str) -> list[tuple[Any, ...]]:
    """Straight to the server, past the backend that sets paths."""
    connection.ensure_connection()
    with connection.connection.cursor() as cursor:
        cursor.execute(statement)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def session_path() -> str:
    return str(raw("SHOW search_path")[0][0])


def make(name: str) -> None:
    User.objects.create(external_user_id=name, created_at="2026-01-01T00:00Z", updated_at="2026-01-01T00:00Z")


def make_twice(account: Account, name: str) -> None:
    with tenant_scope(account):
        make(name)
        make(name)


def make_and_fail(account: Account, name: str) -> None:
    with tenant_scope(account):
        make(name)
        raise ZeroDivisionError


def test_nothing_of_a_request_stays_in_the_session(committed_tenant: Account) -> None:
    ada = committed_tenant.user("ada")
    room = committed_tenant.conversation(ada)
    api = committed_tenant.api
    backend = raw("SELECT pg_backend_pid()")
    for answer in (
        api.post("/messages/send", draft(room, ada)),
        api.get(f"/messages/conversations/{room['id']}"),
        api.get("/users"),
        api.get("/conversations/nowhere"),
        api.post("/messages/send", {}),
    ):
        assert answer.status in {200, 404, 422}
        assert session_path() in DEFAULT
        assert raw("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
        assert raw("SELECT count(*) FROM pg_cursors") == [(0,)]
        assert raw("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()") == [(0,)]
    assert raw("SELECT pg_backend_pid()") == backend, "all of it on one connection"


def test_a_long_read_holds_no_cursor_in_the_session(pair: tuple[Account, Account]) -> None:
    seen = 0
    for _ in Tenant.objects.iterator(chunk_size=1):
        assert raw("SELECT count(*) FROM pg_cursors") == [(0,)]
        seen += 1
    assert seen >= 2


def test_a_connection_serves_tenant_after_tenant(pair: tuple[Account, Account]) -> None:
    first, second = pair
    for _ in range(3):
        with tenant_scope(first):
            assert names() == ["a"]
        with tenant_scope(second):
            assert names() == ["b"]
        assert Tenant.objects.filter(pk=first.id).exists(), "plain queries are in public again"
        assert session_path() in DEFAULT


def test_a_pooler_may_hand_the_session_on_between_transactions(pair: tuple[Account, Account]) -> None:
    first, second = pair
    for account, name in ((first, "a"), (second, "b"), (first, "a")):
        connection.connection.execute("DISCARD ALL")
        with tenant_scope(account):
            assert names() == [name]
        connection.connection.execute("DISCARD ALL")
        assert [user["externalUserId"] for user in account.api.get("/users").data] == [name]
        connection.connection.execute("DISCARD ALL")
        assert Tenant.objects.filter(pk=account.id).exists()


def test_scopes_nest(pair: tuple[Account, Account]) -> None:
    first, second = pair
    with tenant_scope(first):
        assert names() == ["a"]
        with tenant_scope(second):
            assert names() == ["b"]
            with tenant_scope(first):
                assert names() == ["a"]
            assert names() == ["b"]
        assert names() == ["a"]
    assert connection.schema_name == "public"


def test_a_scope_that_runs_nothing_changes_nothing(pair: tuple[Account, Account]) -> None:
    first, second = pair
    with tenant_scope(first), tenant_scope(second):
        pass
    with tenant_scope(first):
        with tenant_scope(second):
            pass
        assert names() == ["a"]


def test_an_inner_scope_that_fails_is_undone_alone(pair: tuple[Account, Account]) -> None:
    first, second = pair
    with tenant_scope(first):
        make("kept")
        with pytest.raises(IntegrityError):
            make_twice(second, "lost")
        assert names() == ["a", "kept"]
    with tenant_scope(second):
        assert names() == ["b"]


def test_an_error_in_a_scope_leaves_the_connection_whole(pair: tuple[Account, Account]) -> None:
    first, second = pair
    with pytest.raises(ZeroDivisionError):
        make_and_fail(first, "lost")
    assert connection.schema_name == "public"
    assert session_path() in DEFAULT
    with tenant_scope(second):
        assert names() == ["b"]
    with tenant_scope(first):
        assert names() == ["a"]


@pytest.mark.parametrize("visited_before", [True, False])
def test_a_savepoint_that_rolls_back_does_not_move_the_path(
    pair: tuple[Account, Account], visited_before: bool
) -> None:
    first, _ = pair
    with tenant_scope(first):
        if visited_before:
            assert names() == ["a"]
        with pytest.raises(IntegrityError), transaction.atomic():
            make("a")
        assert names() == ["a"]
        with transaction.atomic():
            savepoint = transaction.savepoint()
            make("lost")
            transaction.savepoint_rollback(savepoint)
            make(unique("kept"))
        assert len(names()) == 2


def test_what_was_set_inside_a_lost_savepoint_is_set_again(pair: tuple[Account, Account]) -> None:
    first, second = pair
    with transaction.atomic():
        assert Tenant.objects.count() >= 2
        with pytest.raises(ZeroDivisionError):
            make_and_fail(first, "lost")
        assert Tenant.objects.count() >= 2
        with tenant_scope(second):
            assert names() == ["b"]


def test_a_path_that_went_with_its_savepoint_is_set_again(pair: tuple[Account, Account]) -> None:
    first, _ = pair
    with transaction.atomic():
        assert Tenant.objects.count() >= 2
        savepoint = transaction.savepoint()
        connection.set_tenant(first)
        try:
            assert names() == ["a"]
            transaction.savepoint_rollback(savepoint)
            assert names() == ["a"]
        finally:
            connection.set_schema_to_public()


def test_a_lost_connection_is_made_anew_with_the_right_path(pair: tuple[Account, Account]) -> None:
    first, second = pair
    with tenant_scope(first):
        assert names() == ["a"]
    connection.close()
    with tenant_scope(second):
        assert names() == ["b"]


def test_without_a_scope_a_tenants_tables_are_not_there(pair: tuple[Account, Account]) -> None:
    assert raw("SELECT to_regclass('messaging_user')") == [(None,)]
    with transaction.atomic():
        assert raw("SELECT to_regclass('messaging_user')") == [(None,)]


def test_tasks_after_the_commit_run_outside_the_scope(pair: tuple[Account, Account]) -> None:
    first, _ = pair
    seen: list[str] = []
    with tenant_scope(first):
        assert not Conversation.objects.exists()
        transaction.on_commit(lambda: seen.append(session_path()))
        transaction.on_commit(lambda: seen.append(connection.schema_name))
    assert seen[0] in DEFAULT
    assert seen[1] == "public"
