"""Accounts: a tenant with its credentials in clear, and the callers that speak for it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from django.db import connection, transaction
from psycopg import sql

from quotas.services.accounts import open_account
from tenants.models import KeyKind, OutboxEvent, Tenant
from tenants.services.keys import create_api_key, create_platform_token
from tests.api import Api

_numbers = itertools.count(1)


def unique(word: str) -> str:
    """`word` with a number that no other call of this process gets."""
    return f"{word}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant as its integrator holds it."""

    tenant: Tenant
    secret_key: str
    publishable_key: str
    token_secret: str

    @property
    def id(self) -> UUID:
        return self.tenant.id

    @property
    def schema_name(self) -> str:
        return str(self.tenant.schema_name)

    @property
    def api(self) -> Api:
        """The integrator's back end: the secret key, acting as nobody."""
        return Api({"X-API-Key": self.secret_key})

    def user_api(self, user: dict[str, Any]) -> Api:
        """That user's browser: the publishable key and a token of theirs."""
        token = self.token(user["externalUserId"])
        return Api({"X-API-Key": self.publishable_key, "Authorization": f"Bearer {token}"})

    def token(self, subject: str, **claims: Any) -> str:
        """A user token as an integrator signs it, good for an hour; a claim given as None is left out."""
        now = datetime.now(UTC)
        payload = {"iss": str(self.id), "sub": subject, "iat": now, "exp": now + timedelta(hours=1)} | claims
        return jwt.encode({name: value for name, value in payload.items() if value is not None}, self.token_secret)

    def key(self, *, kind: KeyKind = KeyKind.SECRET, **options: Any) -> str:
        """Another key of this tenant, in clear."""
        return create_api_key(tenant=self.tenant, kind=kind, **options).value

    # --- what most tests begin with, made through the API ---

    def user(self, external_id: str | None = None, **fields: Any) -> dict[str, Any]:
        answer = self.api.post("/users", {"externalUserId": external_id or unique("user"), **fields})
        assert answer.status == 201, answer.body
        user: dict[str, Any] = answer.data
        return user

    def users(self, count: int) -> list[dict[str, Any]]:
        bodies = [{"externalUserId": unique("user")} for _ in range(count)]
        users: list[dict[str, Any]] = self.api.post("/users/batch", {"users": bodies}).data
        return users

    def conversation(self, *users: dict[str, Any], type: str = "group", **fields: Any) -> dict[str, Any]:  # noqa: A002
        body = {"type": type, "participantIds": [user["id"] for user in users], **fields}
        answer = self.api.post("/conversations", body)
        assert answer.status == 201, answer.body
        conversation: dict[str, Any] = answer.data
        return conversation

    def message(self, conversation: dict[str, Any], sender: dict[str, Any], text: str = "hello", **fields: Any) -> Any:
        return self.api.post("/messages/send", draft(conversation, sender, text, **fields)).data

    def messages(self, conversation: dict[str, Any], sender: dict[str, Any], count: int) -> list[Any]:
        return [self.message(conversation, sender, f"message {number}") for number in range(1, count + 1)]


def draft(conversation: dict[str, Any], sender: dict[str, Any] | None, text: str = "hello", **fields: Any) -> Any:
    """A `SendMessage` body of a text."""
    body = {"conversationId": conversation["id"], "type": "text", "content": {"text": text}}
    if sender is not None:
        body["senderId"] = sender["id"]
    return body | fields


def open_test_account(plan_type: str = "basic", **names: str) -> Account:
    """A provisioned tenant, in the caller's transaction or, outside of one, committed."""
    subdomain = names.get("subdomain") or unique("tenant")
    made = open_account(name=names.get("name", f"Tenant {subdomain}"), subdomain=subdomain, plan_type=plan_type)
    return Account(made.tenant, made.secret_key.value, made.publishable_key.value, made.token_secret.value)


def drop_account(account: Account) -> None:
    """Takes a committed tenant away with all that it left."""
    with transaction.atomic():
        OutboxEvent.objects.filter(tenant_id=account.id).delete()
        Tenant.objects.filter(pk=account.id).delete()
        with connection.cursor() as cursor:
            statement = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(account.schema_name))
            cursor.execute(statement.as_string())


def platform_api(scopes: Sequence[str] = ()) -> Api:
    """Platform staff, with a new token of these scopes (none: all)."""
    token = create_platform_token(name="tests", scopes=scopes).value
    return Api({"Authorization": f"Bearer {token}"})
