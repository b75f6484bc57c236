"""A ban from the tenant closes every route, whatever the route does: tried on all there are."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.accounts import Account, drop_account, open_test_account
from tests.api import Answer, Api
from tests.files import upload
from tests.isolation.test_routes import NOWHERE, TENANT_ROUTES, Route, ask, bodies, filled
from tests.snapshots import contents

NOT_OF_USERS = {"permission_denied"}
"""What a route that is for back ends alone says to every user."""


class Scene:
    def __init__(self, account: Account) -> None:
        self.account = account
        self.ada, bob = account.user("ada"), account.user("bob")
        room = account.conversation(self.ada, bob, externalId="room")
        message = account.message(room, self.ada)
        names = {name for route in TENANT_ROUTES for name in route.names}
        self.ids = {name: [NOWHERE] for name in names} | {
            "conversationId": [room["id"]],
            "userId": ["ada"],
            "blockedUserId": ["bob"],
            "messageId": [message["id"]],
            "name": ["👍"],
        }
        assert account.api.post("/bans", {"userId": "ada"}).status == 201


@pytest.fixture(scope="module")
def scene(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Scene]:
    with django_db_blocker.unblock():
        account = open_test_account()
        yield Scene(account)
        drop_account(account)
        connection.close()


def _try(user: Api, route: Route, path: str, body: Any) -> Answer:
    return upload(user) if route.operation.upload else ask(user, route, path, body)


@pytest.mark.parametrize("route", TENANT_ROUTES, ids=str)
def test_a_banned_users_token_opens_no_route(db: None, route: Route, scene: Scene) -> None:
    (path,) = filled(route, scene.ids)
    before = contents(scene.account)
    user = scene.account.user_api(scene.ada)
    codes = {_try(user, route, path, body).code for body in bodies(route, scene.ids)}
    assert codes <= {"user_banned"} | NOT_OF_USERS, f"{route} said {codes}"
    assert contents(scene.account) == before
