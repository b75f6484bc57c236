"""Every operation of the served OpenAPI document, called with what a generator makes of it: data as the document says,
and data that breaks it. No answer is a fault, undocumented, off its schema or of another content type, and what breaks
the document is refused.

Half of the calls name what is there, so that they get past what is not found. Each is undone before the next, so that
none takes away what others need. Generated the same each time; MESSAGECORE_SOAK=20 makes 20 times as many, at random.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connection, transaction
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoDbBlocker
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from messaging.models import Notification
from messaging.tasks import sweep_outbox
from quotas.services.accounts import change_plan
from quotas.services.limits import forget_cached_limits
from tenants.models import PlatformToken
from tenants.scope import tenant_scope
from tenants.services.authentication import forget_cached_credentials
from tests.accounts import Account, draft, drop_account, open_test_account, platform_api
from tests.e2e.client import SOAK
from tests.files import upload
from tests.scheduling import schedule

EXAMPLES = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 3}
"""Calls of each operation, by each credential."""

load_all_checks()
ALWAYS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
CHOSEN = {
    GenerationMode.POSITIVE: CHECKS.get_by_names(ALWAYS),
    GenerationMode.NEGATIVE: CHECKS.get_by_names([*ALWAYS, "negative_data_rejection"]),
}


@schemathesis.serializer("application/x-ndjson")
def _as_lines(context: Any, value: Any) -> bytes:
    return str(value).encode("utf-8", "replace")


@cache
def document() -> Any:
    """The document as it is served, less what the generator cannot read, which is spelled out for it."""
    served = json.loads(Client().get("/api/schema/").content)
    made = schemathesis.openapi.from_dict(_spelled_out(served))
    made.app = get_wsgi_application()
    made.config.generation.update(with_security_parameters=False)  # who calls is chosen here
    return made


def _spelled_out(served: Any) -> Any:
    """`ContentByType` is a chain of conditions; in a body it becomes the list of what they come to. The same holds
    afterwards, and answers are held to the document as it was."""
    schemas = served["components"]["schemas"]
    kinds = {
        rule["if"]["properties"]["type"]["const"]: rule["then"]["properties"]["content"]
        for rule in schemas["ContentByType"]["allOf"]
    }
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        for path in served["paths"].values()
        for operation in path.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    for name in bodies:
        rules = schemas[name].get("allOf", [])
        if any(rule.get("$ref", "").endswith("/ContentByType") for rule in rules):
            plain = {key: value for key, value in schemas[name].items() if key != "allOf"}
            sendable = [kind for kind in kinds if kind != "system"]
            schemas[name] = {"anyOf": [_of_kind(plain, kind, kinds[kind]) for kind in sendable]}
    media = {key: value for key, value in schemas["MediaContent"].items() if key not in {"if", "then"}}
    schemas["MediaContent"] = {
        "anyOf": [
            media | {"required": [name], "properties": media["properties"] | {name: source}}
            for name, source in (
                ("url", {"type": "string", "format": "uri", "pattern": "^https?://[a-z]{1,20}$"}),
                ("fileId", {"type": "string", "format": "uuid"}),
            )
        ]
    }
    return served


def _of_kind(schema: dict[str, Any], kind: str, content: Any) -> dict[str, Any]:
    return schema | {"properties": schema["properties"] | {"type": {"const": kind}, "content": content}}


@cache
def operations() -> dict[str, Any]:
    found = (result.ok() for result in document().get_all_operations())
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant with something of everything, and who calls it."""

    account: Account
    ids: dict[str, list[str]]
    callers: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def standing_scene(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Scene]:
    """Committed once: making it costs as much as the calls of an operation, and each call is undone."""
    with django_db_blocker.unblock():
        tenant, other_tenant = open_test_account(), open_test_account()
        before = set(PlatformToken.objects.values_list("pk", flat=True))
        yield _furnished(tenant, other_tenant)
        PlatformToken.objects.exclude(pk__in=before).delete()
        drop_account(tenant)
        drop_account(other_tenant)
        connection.close()


@pytest.fixture
def scene(standing_scene: Scene, db: None) -> Scene:
    return standing_scene


def _furnished(tenant: Account, other_tenant: Account) -> Scene:
    change_plan(tenant=tenant.tenant, plan_type="enterprise")
    forget_cached_limits()
    ada, bob = (tenant.user(name, displayName=name, email=f"{name}@example.com") for name in ("ada", "bob"))
    as_ada = tenant.api.acting_as("ada")
    group = as_ada.post("/conversations", {"type": "group", "externalId": "room", "participantIds": ["bob"]}).data
    direct = tenant.conversation(ada, bob, type="direct")
    channel = as_ada.post("/conversations", {"type": "channel", "title": "channel"}).data
    first, second = tenant.messages(group, ada, 2)
    reply = tenant.message(group, bob, "reply", replyToId=first["id"])
    as_ada.post(f"/messages/{reply['id']}/reactions", {"name": "👍"})
    as_ada.patch(f"/messages/{second['id']}", {"content": {"text": "edited"}})
    as_ada.put(f"/messages/{first['id']}/pin")
    said = tenant.message(direct, bob)
    words = {"name": "adverts", "kind": "words", "patterns": ["held for review"], "action": "hold"}
    words_id = tenant.api.post("/moderation/filters", words).data["id"]
    held = tenant.api.post("/messages/send", draft(group, ada, "held for review")).error["details"]["heldMessageId"]
    report = tenant.api.acting_as("bob").post(f"/messages/{first['id']}/report", {"reason": "spam"}).data
    tenant.api.post("/conversations/room/bans", {"userId": tenant.user("cyd")["id"]})
    sweep_outbox()
    with tenant_scope(tenant):
        notifications = [str(row.id) for row in Notification.objects.all()]
    ids = {
        "conversationId": ["room", direct["id"], channel["id"]],
        "userId": ["ada", bob["id"]],
        "messageId": [first["id"], reply["id"], said["id"]],
        "notificationId": notifications,
        "fileId": [upload(tenant.api).data["id"]],
        "filterId": [words_id],
        "heldMessageId": [held],
        "reportId": [report["id"]],
        "importId": [tenant.api.post("/imports", {}).data["id"]],
        "scheduledMessageId": [schedule(tenant, group, user).data["id"] for user in (ada, bob)],
        "position": ["0"],
        "name": ["👍"],
        "tenantId": [str(other_tenant.id), other_tenant.tenant.subdomain],
    }
    callers = {
        "key": tenant.api.headers,
        "acting": as_ada.headers,
        "user": tenant.user_api(bob).headers,
        "platform": platform_api().headers,
        "nobody": {},
    }
    return Scene(tenant, ids, callers)


_NAMES = {
    "senderId": "userId",
    "participant": "userId",
    "participantIds": "userId",
    "mentions": "userId",
    "userIds": "userId",
    "blockedUserId": "userId",
    "replyToId": "messageId",
    "messageIds": "messageId",
}


def name_what_is_there(case: Any, ids: dict[str, list[str]], draw: Any) -> None:
    """Puts ids of the scene wherever the call names something, in its path, query and body."""

    def real(name: str, present: Any) -> Any:
        kind = _NAMES.get(name, name)
        if kind not in ids:
            return present
        if isinstance(present, list):
            return draw(st.lists(st.sampled_from(ids[kind]), unique=True, max_size=2, min_size=1))
        return draw(st.sampled_from(ids[kind]))

    if case.path_parameters:
        case.path_parameters = {name: real(name, value) for name, value in case.path_parameters.items()}
    if isinstance(case.query, dict) and case.query:
        case.query = {name: real(name, value) for name, value in case.query.items()}
    if isinstance(case.body, dict):
        case.body = {name: value if value is None else real(name, value) for name, value in case.body.items()}


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """Whatever is written is taken back, and what the process remembers of it. As with Django's own test client the
    connection outlives requests: the transaction is its."""
    signals = request_started, request_finished
    with transaction.atomic():
        for signal in signals:
            signal.disconnect(close_old_connections)
        try:
            yield
        finally:
            for signal in signals:
                signal.connect(close_old_connections)
            transaction.set_rollback(True)
            connection.run_on_commit = []
            forget_cached_credentials()
            forget_cached_limits()


def drive(label: str, who: str, scene: Scene, *, mode: GenerationMode, ran: Counter[str], examples: int) -> None:
    """Calls one operation as one caller with generated data, and checks every answer."""
    operation = operations()[label]
    headers = scene.callers[who]

    @settings(
        max_examples=int(examples * (SOAK or 1)),
        derandomize=not SOAK,
        deadline=None,
        database=None,
        phases=[Phase.generate] if not SOAK else list(Phase),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def call(case: Any, data: Any) -> None:
        if mode is GenerationMode.POSITIVE and data.draw(st.integers(0, 3)):
            name_what_is_there(case, scene.ids, data.draw)
        with undone():
            response = case.call(headers=headers)
            ran[f"schemathesis {mode.value} {response.status_code}"] += 1
            case.validate_response(response, checks=CHOSEN[mode], headers=headers)

    call()


def callers_of(label: str) -> tuple[str, ...]:
    return ("platform",) if "/api/v1/admin/" in label else ("key", "acting", "user")


def can_be_broken(label: str) -> bool:
    """Whether there is anything in a call that could break the document."""
    operation = operations()[label]
    return bool(operation.body) or bool(operation.path_parameters) or bool(operation.query)


def test_every_id_in_a_path_is_of_something_that_is_there(scene: Scene) -> None:
    named = {parameter.name for operation in operations().values() for parameter in operation.path_parameters}
    assert {_NAMES.get(name, name) for name in named} <= scene.ids.keys(), "put one of it in the scene"


# Answered on the event loop of a real process, which there is none of here: tests/e2e/test_fallback_commands.py
# generates their calls.
SYNCHRONOUS = sorted(label for label in operations() if " /api/v1/realtime/" not in label)


@pytest.mark.parametrize("label", SYNCHRONOUS)
def test_an_operation_answers_as_documented(label: str, scene: Scene, ran: Counter[str]) -> None:
    for mode, examples in EXAMPLES.items():
        if mode is GenerationMode.POSITIVE or can_be_broken(label):
            for who in callers_of(label):
                drive(label, who, scene, mode=mode, ran=ran, examples=examples)
    for who in ("nobody", "user" if callers_of(label) == ("platform",) else "platform"):
        drive(label, who, scene, mode=GenerationMode.POSITIVE, ran=ran, examples=1)


def test_what_is_generated_covers_the_document(ran: Counter[str]) -> None:
    served = json.loads(Client().get("/api/schema/").content)
    described = {f"{method.upper()} {path}" for path, item in served["paths"].items() for method in item}
    assert operations().keys() == described
    assert len(described) > 45
