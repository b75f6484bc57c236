"""Listing who is in a conversation."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.accounts import Account
from tests.api import Api

pytestmark = pytest.mark.core


def everyone(api: Api, path: str, **query: Any) -> list[str]:
    """The external ids over all pages."""
    found: list[str] = []
    while True:
        page = api.get(path, query)
        found += [place["externalUserId"] for place in page.data]
        if not page.pagination["hasMore"]:
            return found
        query["cursor"] = page.pagination["nextCursor"]


def test_they_come_in_order_of_joining_page_by_page(tenant: Account) -> None:
    first = [user["externalUserId"] for user in tenant.users(3)]
    later = [user["externalUserId"] for user in tenant.users(4)]
    room = tenant.api.post("/conversations", {"type": "group", "participantIds": first}).data
    path = f"/conversations/{room['id']}/participants"
    tenant.api.post(path, {"participantIds": later})
    for limit in (1, 2, 7, 100):
        assert everyone(tenant.api, path, limit=limit) == first + later, limit
    assert [
        place["externalUserId"] for place in tenant.api.get(f"/conversations/{room['id']}").data["participants"]
    ] == (first + later)


def test_by_role_and_by_a_part_of_the_name(tenant: Account) -> None:
    ada, bob = tenant.user("ada", displayName="Ada Lovelace"), tenant.user("bob-1", displayName="王芳")
    room = tenant.user_api(ada).post("/conversations", {"type": "group", "participantIds": ["bob-1"]}).data
    path = f"/conversations/{room['id']}/participants"
    adas = tenant.user_api(ada)
    assert everyone(adas, path, role="owner") == ["ada"]
    assert everyone(adas, path, role="observer") == []
    assert everyone(adas, path, search="love") == ["ada"]
    assert everyone(adas, path, search="芳") == ["bob-1"]
    assert everyone(adas, path, search="OB-") == ["bob-1"]
    assert bob["id"] in str(adas.get(path).data)


def test_only_those_who_are_in_and_the_integrator(tenant: Account) -> None:
    ada, eve = tenant.users(2)
    room = tenant.conversation(ada)
    assert tenant.user_api(eve).get(f"/conversations/{room['id']}/participants").code == "conversation_not_found"


@pytest.mark.parametrize(
    "query", [{"cursor": "x"}, {"cursor": "WyJhIiwxXQ"}, {"role": "king"}, {"limit": 0}, {"limit": 101}]
)
def test_bad_parameters(tenant: Account, query: dict[str, Any]) -> None:
    room = tenant.conversation(tenant.user())
    assert tenant.api.get(f"/conversations/{room['id']}/participants", query).status in {400, 422}


def test_the_first_hundred_of_each_are_one_statement(tenant: Account) -> None:
    users = tenant.users(5)
    for size in (1, 3, 5):
        tenant.conversation(*users[:size])
    with CaptureQueriesContext(connection) as captured:
        listed = tenant.api.get("/conversations").data
    assert sorted(len(conversation["participants"]) for conversation in listed) == [1, 3, 5]
    about_participants = [one["sql"] for one in captured.captured_queries if "messaging_participant" in one["sql"]]
    assert len(about_participants) == 1
