"""The fixed history route, held to a plain list: whatever is asked, the list and the answer say the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoDbBlocker

from messaging.models import Message
from tenants.scope import tenant_scope
from tests.accounts import Account, drop_account, open_test_account
from tests.api import Answer, Api
from tests.laws import examples
from tests.snapshots import contents

pytestmark = pytest.mark.core

COUNT = 40
JOINED_AT = 23
"""Bob's history begins with the event that added him."""


@dataclass(frozen=True, slots=True)
class Row:
    seq: int
    id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Scene:
    """A conversation of 40 messages with other events between them; imported ones are older than their place says."""

    account: Account
    path: str
    rows: list[Row]
    readers: dict[str, tuple[Api, int]]


@pytest.fixture(scope="module")
def scene(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Scene]:
    with django_db_blocker.unblock():
        account = open_test_account()
        made = _scene(account)
        yield made
        drop_account(account)
        connection.close()


def _scene(account: Account) -> Scene:
    ada, bob, *others = account.users(6)
    room = account.conversation(ada)
    path = f"/conversations/{room['id']}/participants"
    joins: dict[int, Any] = {5: others[0], 12: others[1], JOINED_AT: bob, 30: others[2]}
    sent: list[Any] = []
    seq = 0
    while len(sent) < COUNT:
        seq += 1
        if seq in joins:
            body = {"participantIds": [joins[seq]["id"]], "showHistory": False}
            assert account.api.post(path, body).data["lastSeq"] == seq
        else:
            sent.append(account.message(room, ada, str(seq)))
            assert sent[-1]["seq"] == seq
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    rows = []
    with tenant_scope(account):
        for place, message in enumerate(sent):
            # every third was imported: created long before, some at the same moment
            at = begin + timedelta(seconds=place // 6 if place % 3 == 0 else 1000 + place)
            Message.objects.filter(pk=message["id"]).update(created_at=at)
            rows.append(Row(message["seq"], message["id"], at))
    readers = {
        "key": (account.api, 1),
        "ada": (account.user_api(ada), 1),
        "bob": (account.user_api(bob), JOINED_AT),
        "key as bob": (account.api.acting_as(bob["id"]), JOINED_AT),
    }
    return Scene(account, f"/messages/conversations/{room['id']}", rows, readers)


@pytest.fixture(autouse=True)
def _in_a_transaction(db: None) -> None:
    """Reading needs the database too."""


def shown(answer: Answer) -> tuple[list[str], bool]:
    assert answer.data["pagination"]["total"] == COUNT
    return [message["id"] for message in answer.data["messages"]], answer.data["pagination"]["hasMore"]


# --- the model ------------------------------------------------------------------------------------------------------


def page_of(newest_first: list[Row], page: int, limit: int) -> tuple[list[str], bool]:
    start = (page - 1) * limit
    return [row.id for row in newest_first[start : start + limit][::-1]], len(newest_first) > start + limit


def expected(rows: list[Row], page: int, limit: int, anchor: tuple[str, Any] | None) -> tuple[list[str], bool]:
    """What the contract says, from a list of the visible messages, oldest first."""
    match anchor:
        case None:
            return page_of(rows[::-1], page, limit)
        case ("before", datetime() as at):
            earlier = sorted((row for row in rows if row.created_at < at), key=lambda row: (row.created_at, row.seq))
            return page_of(earlier[::-1], page, limit)
        case ("before", Row() as row):
            return page_of([other for other in rows if other.seq < row.seq][::-1], page, limit)
        case ("beforeSeq", int() as seq):
            return page_of([row for row in rows if row.seq < seq][::-1], 1, limit)
        case ("afterSeq", int() as seq):
            later = [row for row in rows if row.seq > seq][:limit]
            return [row.id for row in later], any(row.seq <= seq for row in rows)
        case ("around", Row() | int() as middle):
            seq = middle if isinstance(middle, int) else middle.seq
            older = [row for row in rows if row.seq < seq]
            near = older[-(limit // 2) :] if limit > 1 else []
            following = [row for row in rows if row.seq >= seq][: limit - len(near)]
            return [row.id for row in near + following], len(older) > len(near)
    raise AssertionError(anchor)


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_asked_the_list_says_the_same(scene: Scene, data: st.DataObject) -> None:
    api, visible_from = scene.readers[data.draw(st.sampled_from(sorted(scene.readers)))]
    rows = [row for row in scene.rows if row.seq >= visible_from]
    seqs = st.integers(0, scene.rows[-1].seq + 3)
    moments = st.sampled_from(rows).flatmap(
        lambda row: st.sampled_from([row.created_at, row.created_at + timedelta(milliseconds=1)])
    )
    anchor = data.draw(
        st.one_of(
            st.none(),
            st.tuples(st.just("before"), st.one_of(moments, st.sampled_from(rows))),
            st.tuples(st.sampled_from(["beforeSeq", "afterSeq"]), seqs),
            st.tuples(st.just("around"), st.one_of(seqs, st.sampled_from(rows))),
        )
    )
    limit = data.draw(st.integers(1, COUNT + 5))
    page = data.draw(st.integers(1, 5)) if anchor is None or anchor[0] == "before" else 1
    query: dict[str, Any] = {"limit": limit, "page": page}
    if anchor is not None:
        name, value = anchor
        query[name] = (
            value.id if isinstance(value, Row) else value.isoformat() if isinstance(value, datetime) else value
        )
    assert shown(api.get(scene.path, query)) == expected(rows, page, limit, anchor)


# --- walking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["key", "bob"])
@pytest.mark.parametrize("limit", [1, 7, 40])
@pytest.mark.parametrize("step", ["page", "beforeSeq", "before"])
def test_walking_back_meets_every_message_once(scene: Scene, reader: str, limit: int, step: str) -> None:
    api, visible_from = scene.readers[reader]
    walked: list[int] = []
    query: dict[str, Any] = {"limit": limit}
    for number in range(COUNT + 1):
        answer = api.get(scene.path, query).data
        walked = [message["seq"] for message in answer["messages"]] + walked
        if not answer["pagination"]["hasMore"]:
            break
        oldest = answer["messages"][0]
        query[step] = {"page": number + 2, "beforeSeq": oldest["seq"], "before": oldest["id"]}[step]
    assert walked == [row.seq for row in scene.rows if row.seq >= visible_from]


def test_walking_forward_meets_every_message_once(scene: Scene) -> None:
    api, _ = scene.readers["key"]
    walked: list[int] = []
    while messages := api.get(scene.path, {"limit": 7, "afterSeq": walked[-1] if walked else 0}).data["messages"]:
        walked += [message["seq"] for message in messages]
    assert walked == [row.seq for row in scene.rows]


# --- the answer -----------------------------------------------------------------------------------------------------


def test_the_defaults_are_page_1_and_50(scene: Scene) -> None:
    api, _ = scene.readers["key"]
    assert api.get(scene.path).data["pagination"] == {"page": 1, "limit": 50, "total": COUNT, "hasMore": False}
    assert api.get(scene.path, {"page": 2, "limit": 15}).data["pagination"] == {
        "page": 2,
        "limit": 15,
        "total": COUNT,
        "hasMore": True,
    }


@pytest.mark.parametrize("query", [{"beforeSeq": 9}, {"afterSeq": 9}, {"around": 9}])
def test_a_cursor_has_no_page_number(scene: Scene, query: dict[str, int]) -> None:
    api, _ = scene.readers["key"]
    assert api.get(scene.path, query).data["pagination"]["page"] is None


@pytest.mark.parametrize("reader", ["bob", "key as bob"])
@pytest.mark.parametrize("anchor", ["before", "around"])
def test_a_message_before_ones_time_is_no_anchor(scene: Scene, reader: str, anchor: str) -> None:
    api, _ = scene.readers[reader]
    api.get(scene.path, {anchor: scene.rows[0].id}).refuses(404, "message_not_found")


def test_a_message_of_another_conversation_is_no_anchor(tenant: Account, api: Api) -> None:
    ada = tenant.user()
    here, there = tenant.conversation(ada), tenant.conversation(ada)
    elsewhere = tenant.message(there, ada)
    for anchor in ("before", "around"):
        answer = api.get(f"/messages/conversations/{here['id']}", {anchor: elsewhere["id"]})
        answer.refuses(404, "message_not_found")


def test_tombstones_count_and_are_shown(tenant: Account, api: Api) -> None:
    ada = tenant.user()
    room = tenant.conversation(ada)
    first, second = tenant.messages(room, ada, 2)
    with tenant_scope(tenant):
        Message.objects.filter(pk=first["id"]).update(content={}, deleted_at=datetime(2026, 1, 1, tzinfo=UTC))
    answer = api.get(f"/messages/conversations/{room['id']}").data
    assert [message["content"] for message in answer["messages"]] == [{}, second["content"]]
    assert answer["pagination"]["total"] == 2


def test_an_empty_conversation_has_an_empty_history(tenant: Account, api: Api) -> None:
    room = tenant.conversation(tenant.user())
    assert api.get(f"/messages/conversations/{room['id']}").data == {
        "messages": [],
        "pagination": {"page": 1, "limit": 50, "total": 0, "hasMore": False},
    }
    assert api.get(f"/messages/conversations/{room['id']}", {"afterSeq": 5}).data["messages"] == []
    assert api.get(f"/messages/conversations/{room['id']}", {"around": 5}).data["messages"] == []


def test_reading_changes_nothing(scene: Scene) -> None:
    before = contents(scene.account)
    for api, _ in scene.readers.values():
        api.get(scene.path)
    assert contents(scene.account) == before


def test_a_stranger_finds_no_conversation(tenant: Account) -> None:
    ada, eve = tenant.user(), tenant.user()
    room = tenant.conversation(ada, externalId="room")
    for name in (room["id"], "room"):
        tenant.user_api(eve).get(f"/messages/conversations/{name}").refuses(404, "conversation_not_found")
        tenant.api.acting_as(eve["id"]).get(f"/messages/conversations/{name}").refuses(404, "conversation_not_found")
