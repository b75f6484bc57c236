"""Every route, called with another tenant's ids: nothing is found, nothing changes, nothing is told.

The list of routes comes from the resolver, and what to send to each from its operation, so that a new route is tried
on the day it is made; one that these tests cannot fill in fails until they can.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from messagecore.kernel import catalogue, wire
from messagecore.kernel.api.operations import Operation
from messaging.models import Notification
from messaging.tasks import index_messages, sweep_outbox
from realtime.fallback.api import ConnectionView
from tenants.api.views import PlatformView, TenantView
from tenants.scope import tenant_scope
from tests.accounts import Account, draft, drop_account, open_test_account
from tests.api import Answer, Api
from tests.snapshots import contents

SECRET = "for our eyes only"
ASKED = {"q": SECRET}
NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    template: str
    operation: Operation
    view: type

    @property
    def names(self) -> list[str]:
        return [part[1:-1] for part in self.template.split("/") if part.startswith("{")]

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


def _patterns(resolver: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def _routes() -> Iterator[Route]:
    for route, callback in _patterns(get_resolver(), ""):
        if not route.startswith("api/v1/"):
            continue
        parts = route.removeprefix("api/v1").split("/")
        named = ["{" + part.strip("<>").partition(":")[2] + "}" if part.startswith("<") else part for part in parts]
        for method in ("get", "post", "put", "patch", "delete"):
            operation = getattr(getattr(callback.view_class, method, None), "operation", None)
            if operation is not None:
                yield Route(method.upper(), "/".join(named), operation, callback.view_class)


ROUTES = sorted(_routes(), key=str)
TENANT_ROUTES = [route for route in ROUTES if issubclass(route.view, TenantView)]
PLATFORM_ROUTES = [route for route in ROUTES if issubclass(route.view, PlatformView)]


def test_every_route_belongs_to_a_tenant_or_to_the_platform() -> None:
    assert len(ROUTES) == len(TENANT_ROUTES) + len(PLATFORM_ROUTES)
    assert len(TENANT_ROUTES) > 20
    assert all(route.template.startswith("/admin/") for route in PLATFORM_ROUTES)


# --- two tenants, and what to send ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """Our tenant with its user mallory, and theirs: a conversation, a message, a notification, and every id in it."""

    ours: Account
    mallory: Any
    theirs: Account
    ids: dict[str, list[str]]
    before: Any


@pytest.fixture(scope="module")
def scene(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Scene]:
    with django_db_blocker.unblock():
        ours, theirs = open_test_account(), open_test_account()
        mallory = ours.user("mallory")
        ids = _fill(theirs)
        yield Scene(ours, mallory, theirs, ids, contents(theirs))
        drop_account(ours)
        drop_account(theirs)
        connection.close()


def _fill(account: Account) -> dict[str, list[str]]:
    ada = account.user("their-ada", displayName=SECRET, email="secret@example.com")
    bob = account.user("their-bob", displayName=SECRET)
    room = account.conversation(ada, bob, externalId="their-room", title=SECRET)
    message = account.message(room, ada, SECRET, clientMessageId="their-message")
    file = account.api.acting_as("their-ada").raw(
        "POST", "/files", SECRET.encode(), content_type="text/plain", query={"name": f"{SECRET}.txt"}
    )
    sweep_outbox()
    index_messages()
    with tenant_scope(account):
        notification = Notification.objects.get()
    job = account.api.post("/imports", {"name": SECRET}).data
    send_at = wire.timestamp(timezone.now() + timedelta(days=1))
    scheduled = account.api.post("/messages/scheduled", draft(room, ada, SECRET) | {"sendAt": send_at})
    return {
        "conversationId": [room["id"], "their-room"],
        "userId": [ada["id"], "their-ada", bob["id"], "their-bob"],
        "blockedUserId": [bob["id"], "their-bob"],
        "messageId": [message["id"]],
        "fileId": [file.data["id"]],
        "importId": [job["id"]],
        "notificationId": [str(notification.id)],
        "scheduledMessageId": [scheduled.data["id"]],
        **_moderated(account, room, ada, bob, message),
        "tenantId": [str(account.id), account.tenant.subdomain],
        "name": ["👍"],
    }


def _moderated(account: Account, room: Any, ada: Any, bob: Any, message: Any) -> dict[str, list[str]]:
    """A filter, what it held, and a report."""
    words = {"name": SECRET, "kind": "words", "patterns": [f"{SECRET} held"], "action": "hold"}
    kept = account.api.post("/moderation/filters", words).data
    held = account.api.post("/messages/send", draft(room, ada, f"{SECRET} held")).error["details"]["heldMessageId"]
    complaint = {"reason": "spam", "comment": SECRET}
    report = account.api.acting_as(bob["id"]).post(f"/messages/{message['id']}/report", complaint).data
    return {"filterId": [kept["id"]], "heldMessageId": [held], "reportId": [report["id"]]}


def filled(route: Route, ids: dict[str, list[str]]) -> list[str]:
    """The route's paths with every combination of these ids."""
    assert set(route.names) <= set(ids), f"say in this file which ids of the other tenant fit {route.names}"
    choices = (ids[name] for name in route.names)
    return [
        route.template.format(**{name: quote(value, safe="") for name, value in zip(route.names, chosen, strict=True)})
        for chosen in itertools.product(*choices)
    ]


def bodies(route: Route, ids: dict[str, list[str]]) -> list[Any]:
    """Good bodies for a route, from the catalogue's examples, with every id in them replaced by one of theirs."""
    if route.operation.request is None:
        return [None]
    examples = catalogue.definitions()[route.operation.request].get("examples", [])
    assert examples, f"{route.operation.request} has no examples"
    return [
        {name: _theirs_for(name, value, ids, place) for name, value in example.items() if name != "externalId"}
        if isinstance(example, dict)
        else example
        for example in examples
        for place in (0, -1)
    ]


def _theirs_for(name: str, value: Any, ids: dict[str, list[str]], place: int) -> Any:
    match name:
        case "conversationId":
            return ids["conversationId"][place]
        case "senderId" | "userId":
            return ids["userId"][place]
        case "participantIds" | "mentions":
            return [ids["userId"][place]]
        case "replyToId" | "messageId":
            return ids["messageId"][0]
    return value


def ask(caller: Api, route: Route, path: str, body: Any) -> Answer:
    """With the query parameters that the route cannot do without."""
    required = [param for param in route.operation.query if param.required]
    fillable = all(param.name in ASKED or param.choices or param.kind == "integer" for param in required)
    assert fillable, f"say in this file what to ask of {route}"
    query = {
        param.name: ASKED.get(param.name) or (param.choices[0] if param.choices else param.minimum)
        for param in required
    }
    if route.operation.raw_body is not None:
        return caller.raw(route.method, path, b"", content_type=route.operation.raw_body, query=query)
    return caller.request(route.method, path, body=body, query=query)


def names_theirs(body: Any, scene: Scene) -> bool:
    text = json.dumps(body)
    kinds = ("conversationId", "userId", "messageId")
    return any(f'"{name}"' in text for kind in kinds for name in scene.ids[kind])


def callers(scene: Scene) -> dict[str, Api]:
    """Everything that our side can call as: its back end, one of its users, and impostors."""
    ours, theirs = scene.ours, scene.theirs
    their_token = f"Bearer {theirs.token('their-ada')}"
    return {
        "key": ours.api,
        "key as ours": ours.api.acting_as("mallory"),
        "user": ours.user_api(scene.mallory),
        "key as theirs": ours.api.acting_as("their-ada"),
        "key as theirs by id": ours.api.acting_as(scene.ids["userId"][0]),
        "user with their name": ours.user_api({"externalUserId": "their-ada"}),
        "user with their id": ours.user_api({"externalUserId": scene.ids["userId"][0]}),
        "our key, their token": Api({"X-API-Key": ours.publishable_key, "Authorization": their_token}),
        "their key on our host": theirs.api.with_headers(Host=f"{ours.tenant.subdomain}.localhost"),
        "our key on their host": ours.api.with_headers(Host=f"{theirs.tenant.subdomain}.localhost"),
    }


def tells(answer: Answer, scene: Scene) -> list[str]:
    """What of theirs an answer holds that the caller cannot have known."""
    text = json.dumps([answer.body, answer.headers], ensure_ascii=False)
    return [word for word in (SECRET, "secret@example.com", scene.theirs.schema_name) if word in text]


@pytest.fixture(autouse=True)
def _they_are_untouched(db: None, scene: Scene) -> Iterator[None]:
    yield
    assert contents(scene.theirs) == scene.before


WITH_IDS = [route for route in TENANT_ROUTES if route.names]


@pytest.mark.parametrize("route", WITH_IDS, ids=str)
def test_their_ids_in_a_path_are_not_found(route: Route, scene: Scene) -> None:
    body = bodies(route, scene.ids)[0]
    for path in filled(route, scene.ids):
        said = {}
        for who, caller in callers(scene).items():
            answer = ask(caller, route, path, body)
            assert tells(answer, scene) == [], f"{who}: {route}"
            said[who] = answer.status
        assert set(said.values()) <= {400, 401, 403, 404}, f"{route} said {said}"
        assert 404 in {said["key"], said["key as ours"]}, f"{route} was refused for another reason: {said}"


@pytest.mark.parametrize("route", WITH_IDS, ids=str)
def test_their_ids_are_answered_as_ids_of_nothing_are(route: Route, scene: Scene) -> None:
    """Status, code and words are the same for what is theirs and for what is not there at all."""
    nothing = {
        kind: [NOWHERE if len(value) == 36 else f"no-{value}" for value in values] for kind, values in scene.ids.items()
    } | {"name": scene.ids["name"]}
    body = bodies(route, scene.ids)[0]
    for caller in (scene.ours.api, scene.ours.api.acting_as("mallory"), scene.ours.user_api(scene.mallory)):
        for theirs, absent in zip(filled(route, scene.ids), filled(route, nothing), strict=True):
            answers = [ask(caller, route, path, body) for path in (theirs, absent)]
            said = [(answer.status, answer.error | {"requestId": ""}) for answer in answers]
            assert said[0] == said[1]


# Answered on the event loop of a real process: tests/e2e/test_fallback_commands.py and test_polling.py try them.
WITH_BODIES = [r for r in TENANT_ROUTES if r.operation.request and not issubclass(r.view, ConnectionView)]


@pytest.mark.parametrize("route", WITH_BODIES, ids=str)
def test_their_ids_in_a_body_are_not_found(route: Route, scene: Scene) -> None:
    """In a place of ours, with a body that names theirs."""
    ada = scene.ours.user()
    room = scene.ours.conversation(ada, scene.mallory)
    message = scene.ours.message(room, ada)
    ours = {
        "conversationId": [room["id"]],
        "userId": [ada["id"]],
        "blockedUserId": [NOWHERE],
        "messageId": [message["id"]],
        "notificationId": [NOWHERE],
        "scheduledMessageId": [NOWHERE],
        "filterId": [NOWHERE],
        "heldMessageId": [NOWHERE],
        "reportId": [NOWHERE],
        "importId": [NOWHERE],
        "name": ["👍"],
    }
    for path, body in itertools.product(filled(route, ours), bodies(route, scene.ids)):
        for who, caller in callers(scene).items():
            answer = ask(caller, route, path, body)
            assert tells(answer, scene) == [], f"{who}: {route}"
            if names_theirs(body, scene):
                assert answer.status in {400, 401, 403, 404, 422}, f"{who}: {route} said {answer.status} to {body}"


@pytest.mark.parametrize(
    "route", [route for route in TENANT_ROUTES if route.method == "GET" and not route.names], ids=str
)
def test_lists_hold_nothing_of_theirs(route: Route, scene: Scene) -> None:
    for who, caller in callers(scene).items():
        answer = ask(caller, route, route.template, None)
        text = json.dumps(answer.body)
        assert tells(answer, scene) == [], f"{who}: {route}"
        assert not any(f'"{name}"' in text for names in scene.ids.values() for name in names), f"{who}: {route}"


def test_their_messages_are_not_on_our_bill(scene: Scene) -> None:
    assert scene.ours.api.get("/usage").data["messages"]["current"] == 0
    assert scene.theirs.api.get("/usage").data["messages"]["current"] == 1


def test_their_search_words_find_nothing(scene: Scene) -> None:
    for word in ("their", "only", scene.ids["userId"][0]):
        assert scene.ours.api.get("/users", {"search": word}).data == []


def test_their_anchors_and_cursors_lead_nowhere(scene: Scene) -> None:
    room = scene.ours.conversation(scene.mallory)
    for anchor in ("before", "around"):
        answer = scene.ours.api.get(f"/messages/conversations/{room['id']}", {anchor: scene.ids["messageId"][0]})
        answer.refuses(404, "message_not_found")
    cursor = scene.theirs.api.get("/users", {"limit": 1}).pagination["nextCursor"]
    assert cursor is not None
    assert tells(scene.ours.api.get("/users", {"cursor": cursor}), scene) == []


def test_what_they_named_is_free_here(scene: Scene) -> None:
    ada = scene.ours.user("their-ada")
    room = scene.ours.conversation(ada, externalId="their-room")
    sent = scene.ours.message(room, ada, clientMessageId="their-message")
    assert ada["id"] not in scene.ids["userId"]
    assert room["id"] not in scene.ids["conversationId"]
    assert (sent["seq"], sent["content"]) == (1, {"text": "hello"})


@pytest.mark.parametrize("route", PLATFORM_ROUTES, ids=str)
def test_no_tenant_credential_opens_the_platform(route: Route, scene: Scene) -> None:
    ours = {"tenantId": [str(scene.ours.id), scene.ours.tenant.subdomain]}
    body = bodies(route, scene.ids)[0]
    for path in dict.fromkeys(filled(route, scene.ids) + filled(route, ours)):
        for caller in (
            Api(),
            scene.ours.api,
            scene.ours.user_api(scene.mallory),
            Api({"Authorization": f"Bearer {scene.ours.secret_key}"}),
            Api({"Authorization": f"Bearer {scene.ours.token_secret}"}),
        ):
            answer = ask(caller, route, path, body)
            assert answer.status == 401
            assert answer.code in {"platform_token_required", "invalid_platform_token"}


@pytest.mark.parametrize("route", TENANT_ROUTES, ids=str)
def test_every_route_of_a_tenant_asks_for_a_key_and_a_scope(route: Route, scene: Scene) -> None:
    path, body = filled(route, scene.ids)[0], bodies(route, scene.ids)[0]
    ask(Api(), route, path, body).refuses(401, "api_key_required")
    assert route.operation.scope is not None, "a route without a scope cannot be kept from a narrow key"
    narrow = Api({"X-API-Key": scene.ours.key(scopes=["nothing:at_all"])})
    ask(narrow, route, path, body).refuses(403, "scope_missing")
