"""Users: create or update, find, list, change; what a user may see of others."""

from typing import Any
from urllib.parse import quote

import pytest

from messaging.models import User
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Api
from tests.ports import FixedPresence
from tests.snapshots import contents

ADA = {
    "externalUserId": "ada",
    "displayName": "王芳",
    "avatarUrl": "https://example.com/a.png",
    "email": "ada@example.com",
    "metadata": {"team": "售后"},
}


@pytest.mark.core
def test_a_user_is_made_then_updated(tenant: Account, api: Api) -> None:
    made = api.post("/users", ADA)
    assert made.status == 201
    assert {name: made.data[name] for name in ADA} == ADA
    assert made.data["isActive"] is True
    same = api.post("/users", ADA)
    assert (same.status, same.data) == (200, made.data)
    changed = api.post("/users", {"externalUserId": "ada", "displayName": "Ada"})
    assert changed.status == 200
    assert changed.data == made.data | {"displayName": "Ada", "updatedAt": changed.data["updatedAt"]}
    assert api.get("/users/ada").data == changed.data


def test_null_leaves_and_an_empty_text_clears(api: Api) -> None:
    api.post("/users", ADA)
    nulls = dict.fromkeys(["displayName", "avatarUrl", "email", "metadata"])
    assert api.post("/users", {"externalUserId": "ada", **nulls}).data["displayName"] == "王芳"
    assert api.patch("/users/ada", nulls).data["metadata"] == {"team": "售后"}
    empty = {"displayName": "", "avatarUrl": "", "email": "", "metadata": {}}
    cleared = api.patch("/users/ada", empty).data
    assert [cleared[name] for name in empty] == [None, None, None, {}]
    made = api.post("/users", {"externalUserId": "new", **empty}).data
    assert [made[name] for name in empty] == [None, None, None, {}]


@pytest.mark.core
def test_a_batch_is_all_in_order(tenant: Account, api: Api) -> None:
    ada = api.post("/users", ADA).data
    bodies = [{"externalUserId": "zoe"}, {"externalUserId": "ada", "displayName": "A"}, {"externalUserId": "bob"}]
    answer = api.post("/users/batch", {"users": bodies})
    assert answer.status == 200
    assert [user["externalUserId"] for user in answer.data] == ["zoe", "ada", "bob"]
    assert answer.data[1]["id"] == ada["id"]
    assert answer.data[1]["displayName"] == "A"
    assert api.get("/usage").data["users"]["current"] == 3
    assert len(api.post("/users/batch", {"users": [{"externalUserId": str(n)} for n in range(97)]}).data) == 97


def test_nulls_in_a_batch_mean_absent(api: Api) -> None:
    api.post("/users", ADA)
    (user,) = api.post("/users/batch", {"users": [{"externalUserId": "ada", "displayName": None}]}).data
    assert user["displayName"] == "王芳"


@pytest.mark.core
def test_an_external_id_like_a_server_id_is_a_conflict(tenant: Account, api: Api) -> None:
    ada = tenant.user("ada")
    before = contents(tenant)
    api.post("/users", {"externalUserId": ada["id"]}).refuses(409, "id_conflict")
    batch = {"users": [{"externalUserId": "new"}, {"externalUserId": ada["id"]}]}
    api.post("/users/batch", batch).refuses(409, "id_conflict")
    assert contents(tenant) == before


@pytest.mark.core
def test_the_servers_id_wins(tenant: Account, api: Api) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    room = tenant.conversation(ada)
    with tenant_scope(tenant):
        User.objects.filter(pk=ada["id"]).update(external_user_id=bob["id"])
    assert api.get(f"/users/{bob['id']}").data["externalUserId"] == "bob"
    assert api.acting_as(bob["id"]).get("/conversations").data == []
    assert tenant.conversation(bob)["participantIds"] == [bob["id"]]
    assert api.acting_as(ada["id"]).get("/conversations").data[0]["id"] == room["id"]


@pytest.mark.parametrize(
    "name", ["a b", "å😀", "😀" * 255, "a?b#c", "a%2Fb", "+", "..", "ada@example.com", " ", "\u2028"]
)
def test_any_external_id_works_in_a_path(api: Api, name: str) -> None:
    made = api.post("/users", {"externalUserId": name}).data
    path = f"/users/{quote(name, safe='')}"
    assert api.get(path).data == made
    assert api.patch(path, {"displayName": "x"}).data["displayName"] == "x"
    assert api.post(f"{path}/tokens").status == 201
    assert api.get(f"{path}/conversations").data == []
    assert api.get(f"{path}/notifications").data == []


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_the_list_runs_in_order_of_creation_and_misses_nobody(tenant: Account, api: Api, limit: int) -> None:
    made = [*tenant.users(3), *(tenant.user() for _ in range(4))]
    found: list[Any] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        answer = api.get("/users", query)
        found += answer.data
        if answer.pagination["nextCursor"] is None:
            break
        query["cursor"] = answer.pagination["nextCursor"]
    assert {user["id"] for user in found[:3]} == {user["id"] for user in made[:3]}, "made together: in any order"
    assert [user["id"] for user in found[3:]] == [user["id"] for user in made[3:]]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("芳", ["a_1"]),
        ("A_1", ["a_1"]),
        ("%", ["100%"]),
        ("_", ["a_1"]),
        ("\\", []),
        ("FACTORY", ["100%"]),
        ("zzz", []),
    ],
)
def test_search_takes_its_words_as_they_are(tenant: Account, api: Api, search: str, found: list[str]) -> None:
    tenant.user("a_1", displayName="王芳")
    tenant.user("100%", displayName="Factory")
    tenant.user("bob")
    assert [user["externalUserId"] for user in api.get("/users", {"search": search}).data] == found


def test_the_list_can_be_of_the_active_or_the_others(tenant: Account, api: Api) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    with tenant_scope(tenant):
        User.objects.filter(pk=bob["id"]).update(is_active=False)
    assert [user["id"] for user in api.get("/users", {"isActive": "true"}).data] == [ada["id"]]
    assert [user["id"] for user in api.get("/users", {"isActive": "false"}).data] == [bob["id"]]
    assert len(api.get("/users").data) == 2


def test_presence_is_shown(tenant: Account, api: Api, presence: FixedPresence) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    with tenant_scope(tenant):
        presence.online.add(User.objects.get(pk=ada["id"]).id)
    shown = {user["externalUserId"]: user["presence"]["status"] for user in api.get("/users").data}
    assert shown == {"ada": "online", "bob": "offline"}
    assert api.get(f"/users/{bob['id']}").data["presence"] == {"status": "offline", "lastSeen": None}


# --- as a user ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tenant: Account) -> tuple[Any, Any]:
    return tenant.user("ada", email="ada@example.com"), tenant.user("bob", email="bob@example.com")


@pytest.mark.core
def test_an_address_is_shown_to_keys_and_to_its_owner(tenant: Account, api: Api, pair: Any) -> None:
    ada = tenant.user_api(pair[0])
    assert api.get("/users/bob").data["email"] == "bob@example.com"
    assert ada.get("/users/ada").data["email"] == "ada@example.com"
    assert "email" not in ada.get("/users/bob").data
    listed = {user["externalUserId"]: user.get("email") for user in ada.get("/users").data}
    assert listed == {"ada": "ada@example.com", "bob": None}
    assert ada.patch("/users/ada", {"displayName": "A"}).data["email"] == "ada@example.com"


@pytest.mark.core
def test_a_user_changes_and_reads_their_own_alone(tenant: Account, pair: Any) -> None:
    ada, bob = tenant.user_api(pair[0]), pair[1]
    assert ada.patch(f"/users/{pair[0]['id']}", {"displayName": "A"}).data["displayName"] == "A"
    before = contents(tenant)
    for name in ("bob", bob["id"], "nobody"):
        ada.patch(f"/users/{name}", {"displayName": "hacked"}).refuses(404, "user_not_found")
        ada.get(f"/users/{name}/conversations").refuses(404, "user_not_found")
        ada.get(f"/users/{name}/notifications").refuses(404, "user_not_found")
    assert contents(tenant) == before


@pytest.mark.core
def test_what_only_back_ends_may_is_denied(tenant: Account, pair: Any) -> None:
    ada = tenant.user_api(pair[0])
    before = contents(tenant)
    ada.post("/users", {"externalUserId": "new"}).refuses(403, "permission_denied")
    ada.post("/users/batch", {"users": [{"externalUserId": "new"}]}).refuses(403, "permission_denied")
    ada.post("/users/ada/tokens").refuses(403, "permission_denied")
    ada.post("/users/bob/tokens").refuses(403, "permission_denied")
    ada.get("/usage").refuses(403, "permission_denied")
    assert contents(tenant) == before


def test_a_publishable_key_does_not_act_as_others(tenant: Account, pair: Any) -> None:
    bobs = tenant.conversation(pair[1])
    ada = tenant.user_api(pair[0]).acting_as("bob")
    assert ada.get("/conversations").data == []
    ada.get(f"/conversations/{bobs['id']}").refuses(404, "conversation_not_found")
