"""Users who go and come back: deactivation, revoked tokens, deletion, and that erasing leaves nothing."""

from typing import Any

import pytest
from django.db import connection
from psycopg import sql

from messaging.events import Expelled
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from tests.accounts import Account, draft
from tests.ports import RecordingAnnouncer
from tests.scheduling import schedule

pytestmark = pytest.mark.core

CANARY = "kanarienvogel"


def expelled(announced: RecordingAnnouncer) -> list[str]:
    return [str(event.user_id) for _, event in announced.announced if isinstance(event, Expelled)]


def test_a_deactivated_user_frees_a_place_and_may_no_longer_call(
    tenant: Account, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    ada = tenant.user("ada")
    mobile = tenant.user_api(ada)
    before = tenant.api.get("/usage").data["users"]["current"]
    with django_capture_on_commit_callbacks(execute=True):
        assert tenant.api.post("/users/ada/deactivate").data["isActive"] is False
        assert tenant.api.post("/users/ada/deactivate").data["isActive"] is False
    assert tenant.api.get("/usage").data["users"]["current"] == before - 1
    assert expelled(announced) == [ada["id"]]
    mobile.get("/conversations").refuses(403, "user_inactive")
    assert tenant.api.post("/users/ada/reactivate").data["isActive"] is True
    assert mobile.get("/conversations").status == 200
    assert tenant.api.get("/usage").data["users"]["current"] == before


def test_reactivating_beyond_the_quota_is_refused(tenant: Account) -> None:
    tenant.user("ada")
    tenant.api.post("/users/ada/deactivate")
    tenant.user("bob")
    change_plan(tenant=tenant.tenant, overrides={"max_users": tenant.api.get("/usage").data["users"]["current"]})
    forget_cached_limits()
    tenant.api.post("/users/ada/reactivate").refuses(429, "user_quota_exceeded")
    assert tenant.api.get("/users/ada").data["isActive"] is False


def test_revoked_tokens_are_refused_and_new_ones_work(
    tenant: Account, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    ada = tenant.user("ada")
    earlier = tenant.token("ada", iat=1_700_000_000)
    old = tenant.api.with_headers(X_API_Key=tenant.publishable_key, Authorization=f"Bearer {earlier}")
    assert old.get("/conversations").status == 200
    with django_capture_on_commit_callbacks(execute=True):
        assert tenant.api.post("/users/ada/tokens/revoke").status == 200
    old.get("/conversations").refuses(401, "invalid_token")
    assert expelled(announced) == [ada["id"]]
    assert tenant.user_api(ada).get("/conversations").status == 200


def _leave_traces(tenant: Account) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A person whose every word is the canary, in a conversation with somebody else."""
    person = tenant.user(
        f"{CANARY}-id", displayName=f"{CANARY} name", email=f"{CANARY}@example.com", metadata={"about": CANARY}
    )
    friend = tenant.user("friend")
    conversation = tenant.conversation(person, friend)
    root = tenant.message(conversation, friend, "hello")
    said = tenant.message(
        conversation, person, CANARY, metadata={"x": CANARY}, clientMessageId=CANARY, replyToId=root["id"]
    )
    as_person = tenant.api.acting_as(person["id"])
    as_person.patch(f"/messages/{said['id']}", {"content": {"text": f"{CANARY} again"}})
    as_person.post(f"/messages/{root['id']}/reactions", {"name": CANARY})
    tenant.api.acting_as("friend").post(f"/messages/{said['id']}/reactions", {"name": "👍"})
    tenant.api.put(f"/messages/{said['id']}/pin")
    gone = tenant.message(conversation, person, f"{CANARY} deleted")
    as_person.delete(f"/messages/{gone['id']}")
    later = schedule(tenant, conversation, person, CANARY, metadata={"x": CANARY}, clientMessageId=f"{CANARY}-later")
    assert later.status == 201
    return person, conversation, said


def rows_with_canary(tenant: Account) -> list[tuple[str, str]]:
    """Every row of the tenant's schema and of public that holds the canary, as text, in any column."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN (%s, 'public')", [tenant.schema_name]
        )
        for schema, table in cursor.fetchall():
            statement = sql.SQL("SELECT t::text FROM {} t WHERE t::text ILIKE {}").format(
                sql.Identifier(schema, table), sql.Literal(f"%{CANARY}%")
            )
            cursor.execute(statement.as_string())
            found += [(table, row) for (row,) in cursor.fetchall()]
    return found


def test_after_erasing_no_row_holds_anything_of_the_person(tenant: Account) -> None:
    person, conversation, said = _leave_traces(tenant)
    assert len(rows_with_canary(tenant)) >= 5
    assert tenant.api.delete(f"/users/{person['id']}", {"messages": "erase"}).status == 200
    assert rows_with_canary(tenant) == []
    tenant.api.get(f"/users/{person['id']}").refuses(404, "user_not_found")
    history = tenant.api.get(f"/messages/conversations/{conversation['id']}").data["messages"]
    assert [(message["content"], message["senderId"]) for message in history[1:]] == [({}, None), ({}, None)]
    assert [message["seq"] for message in history] == sorted(message["seq"] for message in history)
    assert tenant.api.get(f"/messages/{said['id']}").data["deletedAt"] is not None
    assert tenant.api.get(f"/conversations/{conversation['id']}").data["participantCount"] == 1
    assert tenant.api.get(f"/messages/{history[0]['id']}/thread").data["replyCount"] == 0
    assert tenant.api.post("/users", {"externalUserId": f"{CANARY}-id"}).status == 201


def test_anonymising_keeps_the_messages_and_nothing_of_the_person(tenant: Account) -> None:
    person, conversation, said = _leave_traces(tenant)
    before = tenant.api.get("/usage").data["users"]["current"]
    assert tenant.api.delete(f"/users/{person['id']}", {"messages": "anonymise"}).status == 200
    kept = tenant.api.get(f"/messages/{said['id']}").data
    assert kept["content"] == {"text": f"{CANARY} again"}
    assert kept["sender"] == {
        "id": person["id"],
        "externalUserId": f"deleted:{person['id']}",
        "displayName": None,
        "avatarUrl": None,
    }
    assert all(table != "messaging_user" for table, _ in rows_with_canary(tenant))
    assert tenant.api.get("/usage").data["users"]["current"] == before - 1
    tenant.api.post("/messages/send", draft(conversation, person)).refuses(403, "user_inactive")


def test_deleting_needs_to_be_told_what_becomes_of_the_messages(tenant: Account) -> None:
    tenant.user("ada")
    tenant.api.delete("/users/ada").refuses(422, "validation_failed", "/messages")
    tenant.api.delete("/users/ada", {"messages": "burn"}).refuses(422, "validation_failed", "/messages")
    assert tenant.api.get("/users/ada").status == 200


@pytest.mark.parametrize("path", ["deactivate", "reactivate", "tokens/revoke"])
def test_a_user_may_not_do_this_to_anybody(tenant: Account, path: str) -> None:
    ada = tenant.user("ada")
    tenant.user_api(ada).post("/users/ada/" + path).refuses(403, "permission_denied")
