"""`GET /search/messages`: who finds what, by which words, in which order, and at what cost."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from messaging.models import Message, Participant, SearchEntry, User, UserBlock
from messaging.queries import search as queries
from messaging.queries.search import Place, Search
from messaging.search.words import wanted
from messaging.services.indexing import index_messages as index_now
from messaging.tasks import index_messages
from tenants.scope import tenant_scope
from tests.accounts import Account, draft, drop_account, open_test_account
from tests.api import Answer, Api

pytestmark = pytest.mark.core


def search(api: Api, q: str, **query: Any) -> Answer:
    index_messages()
    return api.get("/search/messages", {"q": q, **query})


def found(api: Api, q: str, **query: Any) -> list[str]:
    """The texts that a search finds, in its order."""
    return [one["message"]["content"].get("text") for one in search(api, q, **query).data]


@pytest.fixture
def ada(tenant: Account) -> Any:
    return tenant.user("ada")


@pytest.fixture
def room(tenant: Account, ada: Any) -> Any:
    return tenant.conversation(ada, externalId="room")


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("order", ["ORDER shipped", "my Order, please"]),
        ("please order", ["my Order, please"]),
        ("ord", []),
        ("订单", ["您好，您的订单已经发货。"]),
        ("单已经发", ["您好，您的订单已经发货。"]),
        ("发", ["发现", "您好，您的订单已经发货。"]),
        ("货发", []),
        ("发货 订单", ["您好，您的订单已经发货。"]),
        ("您好 发现", []),
        ("ＳＨＩＰＰＥＤ", ["ORDER shipped"]),
        ("학교", ["학교에서 만나요"]),
        ("日本語の", ["日本語のテキスト"]),
        ("カタ", []),
        ("วัสดี", ["สวัสดีครับ"]),
        ("ПРИВЕТ", ["привет, мир"]),
        ("العالم", ["مرحبا العالم"]),
        ("🎉 order 🎉", ["ORDER shipped", "my Order, please"]),
    ],
)
def test_words_of_any_script_are_found(tenant: Account, room: Any, ada: Any, q: str, expected: list[str]) -> None:
    texts = [
        "my Order, please",
        "您好，您的订单已经发货。",
        "학교에서 만나요",
        "日本語のテキスト",
        "สวัสดีครับ",
        "привет, мир",
    ]
    for text in [*texts, "مرحبا العالم", "发现", "ORDER shipped"]:
        tenant.message(room, ada, text)
    assert found(tenant.api, q) == expected
    assert found(tenant.user_api(ada), q) == expected


def test_each_result_shows_where_its_words_are(tenant: Account, room: Any, ada: Any) -> None:
    sent = tenant.message(room, ada, "👨‍👩‍👧 您好，您的订单已经发货，order 发货。")
    (one,) = search(tenant.api, "发货 ORDER 您").data
    assert one["message"] == tenant.api.get(f"/messages/{sent['id']}").data
    (highlight,) = one["highlights"]
    assert highlight["field"] == "text"
    assert highlight["text"] == sent["content"]["text"]
    marked = [highlight["text"][start : start + length] for start, length in highlight["ranges"]]
    assert marked == ["您", "您", "发货", "order", "发货"]


def test_captions_names_and_places_are_searched_too(tenant: Account, room: Any, ada: Any) -> None:
    url = "https://example.com/invoice"
    image = tenant.message(
        room, ada, type="image", content={"url": url, "name": "发票-10.pdf", "caption": "the invoice"}
    )
    place = tenant.message(
        room, ada, type="location", content={"latitude": 1, "longitude": 2, "title": "人民广场", "address": "黄浦区"}
    )
    tenant.message(room, ada, type="custom", content={"text": ["invoice"], "name": 5, "kind": "invoice", "title": None})
    results = search(tenant.api, "发票 invoice").data
    assert [one["message"]["id"] for one in results] == [image["id"]]
    assert results[0]["highlights"] == [
        {"field": "caption", "text": "the invoice", "ranges": [[4, 7]]},
        {"field": "name", "text": "发票-10.pdf", "ranges": [[0, 2]]},
    ]
    assert [one["message"]["id"] for one in search(tenant.api, "广场 黄浦").data] == [place["id"]]


HOSTILE = [
    "it's",
    "a & b | !c",
    "a:* <-> b",
    "'quoted' \"words\"",
    "back\\slash \\' x",
    "); DROP TABLE messaging_message; --",
    "a" * 200,
    "中" * 200,
    "%s %(x)s {0} $1",
    "a\x01c b\x7f",
    "x\u0301\u0302\u0303 \u200b\ufeff y",
    "ﷺ ㍿ ½",
    "é" * 199 + "x",
    "\u202eabc\u202c",
]


@pytest.mark.parametrize("q", HOSTILE)
def test_a_hostile_query_is_only_words(tenant: Account, room: Any, ada: Any, q: str) -> None:
    tenant.message(room, ada, "something else")
    assert found(tenant.api, q) == []
    tenant.message(room, ada, q)
    assert found(tenant.user_api(ada), q) == [q]


@pytest.mark.parametrize("q", ["🎉" * 200, "&|!:*()", "'", "\\", "   ", "…", "\u200d", "\u0301"])
def test_what_holds_no_word_is_refused(tenant: Account, q: str) -> None:
    search(tenant.api, q).refuses(422, "validation_failed", "/q")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({}, "/q"),
        ({"q": ""}, "/q"),
        ({"q": "x" * 201}, "/q"),
        ({"q": "a\0b"}, "/q"),
        ({"q": "a", "limit": 51}, "/limit"),
        ({"q": "a", "limit": 0}, "/limit"),
        ({"q": "a", "type": "system"}, "/type"),
        ({"q": "a", "type": "sticker"}, "/type"),
        ({"q": "a", "since": "yesterday"}, "/since"),
        ({"q": "a", "until": "2025-13-01T00:00:00Z"}, "/until"),
        ({"q": "a", "colour": "red"}, "/colour"),
    ],
)
def test_a_bad_parameter_is_refused(tenant: Account, query: dict[str, Any], pointer: str) -> None:
    tenant.api.get("/search/messages", query).refuses(422, "validation_failed", pointer)


def test_a_bad_cursor_is_refused(tenant: Account) -> None:
    for cursor in ("x", "bm90IGpzb24", "W10", "WzEsMl0", "WyIyMDI1IiwgIngiXQ"):
        search(tenant.api, "a", cursor=cursor).refuses(422, "invalid_cursor")


# --- who finds what -------------------------------------------------------------------------------------------------


def test_a_user_finds_what_they_see(tenant: Account, room: Any, ada: Any) -> None:
    bob, eve = tenant.user("bob"), tenant.user("eve")
    theirs = tenant.conversation(bob, eve)
    tenant.message(theirs, bob, "secret words")
    tenant.message(room, ada, "words before")
    tenant.api.post(f"/conversations/{room['id']}/participants", {"participantIds": [bob["id"]], "showHistory": False})
    tenant.message(room, ada, "words behind")
    adas, bobs, eves = tenant.user_api(ada), tenant.user_api(bob), tenant.user_api(eve)
    assert found(adas, "words") == ["words behind", "words before"]
    assert found(bobs, "words") == ["words behind", "secret words"]
    assert found(bobs, "words", conversation=room["id"]) == ["words behind"]
    assert found(eves, "words") == ["secret words"]
    assert found(tenant.api.acting_as("bob"), "words") == ["words behind", "secret words"]
    assert found(tenant.api, "words") == ["words behind", "words before", "secret words"]
    assert found(tenant.user_api(tenant.user()), "words") == []
    search(adas, "words", conversation=theirs["id"]).refuses(404, "conversation_not_found")
    search(adas, "words", conversation="nowhere").refuses(404, "conversation_not_found")
    tenant.api.delete(f"/conversations/{theirs['id']}/participants/bob")
    assert found(bobs, "words") == ["words behind"]


def test_the_blocked_are_not_found_by_who_blocks_them(tenant: Account, room: Any, ada: Any) -> None:
    eve = tenant.user("eve")
    tenant.api.post(f"/conversations/{room['id']}/participants", {"participantIds": [eve["id"]]})
    for number in range(3):
        tenant.message(room, eve, f"words of eve {number}")
    tenant.message(room, ada, "words of ada")
    adas = tenant.user_api(ada)
    assert len(found(adas, "words")) == 4
    adas.post("/users/ada/blocks", {"userId": "eve"})
    assert found(adas, "words") == ["words of ada"]
    assert found(adas, "words", conversation="room", limit=1) == ["words of ada"]
    assert found(adas, "words", sender="eve") == []
    assert len(found(tenant.user_api(eve), "words")) == 4
    assert len(found(tenant.api, "words")) == 4
    adas.delete("/users/ada/blocks/eve")
    assert len(found(adas, "words")) == 4


def test_what_is_edited_or_deleted_is_not_found_by_its_old_words(tenant: Account, room: Any, ada: Any) -> None:
    edited = tenant.message(room, ada, "first words 旧的")
    deleted = tenant.message(room, ada, "other words")
    assert found(tenant.api, "words") == ["other words", "first words 旧的"]
    tenant.api.patch(f"/messages/{edited['id']}", {"content": {"text": "new words 新的"}})
    tenant.api.delete(f"/messages/{deleted['id']}")
    at_once = {q: tenant.api.get("/search/messages", {"q": q}).data for q in ("first", "旧的", "other", "words")}
    assert {q: len(rows) for q, rows in at_once.items()} == {"first": 0, "旧的": 0, "other": 0, "words": 1}
    assert found(tenant.api, "words") == found(tenant.api, "新的") == ["new words 新的"]
    assert found(tenant.api, "first") == found(tenant.api, "旧的") == found(tenant.api, "other") == []


def test_a_message_of_the_system_is_not_found(tenant: Account, room: Any, ada: Any) -> None:
    tenant.api.patch("/settings", {"membershipMessages": True})
    tenant.api.post(f"/conversations/{room['id']}/participants", {"participantIds": [tenant.user("zoe")["id"]]})
    tenant.message(room, ada, "participants_added")
    assert found(tenant.api, "participants") == ["participants_added"]


def test_the_results_are_of_one_tenant(tenant: Account, other_tenant: Account, room: Any, ada: Any) -> None:
    other = other_tenant.user("ada")
    theirs = other_tenant.conversation(other, externalId="theirs")
    other_tenant.message(theirs, other, "words of others")
    tenant.message(room, ada, "words of ours")
    assert found(tenant.api, "words") == found(tenant.user_api(ada), "words") == ["words of ours"]
    assert found(other_tenant.api, "words") == ["words of others"]
    search(tenant.api, "words", conversation=theirs["id"]).refuses(404, "conversation_not_found")
    search(tenant.api, "words", conversation="theirs").refuses(404, "conversation_not_found")
    search(tenant.api, "words", sender=other["id"]).refuses(404, "user_not_found")


# --- filters, order, pages ------------------------------------------------------------------------------------------


def test_filters_narrow_each_and_together(tenant: Account, room: Any, ada: Any) -> None:
    bob = tenant.user("bob")
    both = tenant.conversation(ada, bob, externalId="both")
    tenant.message(room, ada, "words 1")
    tenant.message(both, ada, "words 2")
    tenant.message(both, bob, "words 3")
    tenant.message(both, bob, type="image", content={"url": "https://a/b.png", "caption": "words", "text": "words 4"})
    for api in (tenant.api, tenant.user_api(ada)):
        assert found(api, "words") == ["words 4", "words 3", "words 2", "words 1"]
        assert found(api, "words", conversation=both["id"]) == ["words 4", "words 3", "words 2"]
        assert found(api, "words", conversation="both") == ["words 4", "words 3", "words 2"]
        assert found(api, "words", sender=bob["id"]) == ["words 4", "words 3"]
        assert found(api, "words", sender="ada") == ["words 2", "words 1"]
        assert found(api, "words", type="image") == ["words 4"]
        assert found(api, "words", type="text", sender="bob", conversation="both") == ["words 3"]
        assert found(api, "words", sender="bob", conversation="room") == []
        search(api, "words", sender="nobody").refuses(404, "user_not_found")


def timed(tenant: Account, room: Any, ada: Any, times: list[datetime]) -> list[str]:
    """Messages "words <n>" of these times, indexed; their ids."""
    sent = tenant.messages(room, ada, len(times))
    with tenant_scope(tenant):
        for number, (message, at) in enumerate(zip(sent, times, strict=True)):
            Message.objects.filter(pk=message["id"]).update(created_at=at, content={"text": f"words {number}"})
        index_now([UUID(message["id"]) for message in sent])
    return [message["id"] for message in sent]


def test_times_bound_the_search(tenant: Account, room: Any, ada: Any) -> None:
    start = datetime(2025, 10, 29, 8, 0, tzinfo=UTC)
    timed(tenant, room, ada, [start + timedelta(hours=number) for number in range(4)])
    at = [(start + timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M:%SZ") for number in range(4)]
    assert found(tenant.api, "words", since=at[2]) == ["words 3", "words 2"]
    assert found(tenant.api, "words", until=at[2]) == ["words 1", "words 0"]
    assert found(tenant.user_api(ada), "words", since=at[1], until=at[3]) == ["words 2", "words 1"]
    assert found(tenant.api, "words", since=at[3], until=at[1]) == []
    assert found(tenant.api, "words", since="9999-12-31T23:59:59Z") == []
    assert found(tenant.api, "words", until="0001-01-01T00:00:00Z") == []
    assert len(found(tenant.api, "words", since="0001-01-01T00:00:00Z", until="9999-12-31T23:59:59Z")) == 4


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_pages_meet_without_gap_or_repeat_also_at_equal_times(tenant: Account, room: Any, ada: Any, limit: int) -> None:
    at = datetime(2025, 10, 29, 8, 0, 0, 123_456, tzinfo=UTC)
    ids = timed(tenant, room, ada, [at, at, at, at - timedelta(microseconds=1), at, at + timedelta(days=1), at])
    expected = [ids[5], *sorted((ids[n] for n in (0, 1, 2, 4, 6)), reverse=True), ids[3]]
    for api in (tenant.api, tenant.user_api(ada)):
        seen: list[str] = []
        cursor: dict[str, Any] = {}
        while True:
            answer = search(api, "words", limit=limit, **cursor)
            assert 0 < len(answer.data) <= limit
            seen += [one["message"]["id"] for one in answer.data]
            assert answer.pagination["hasMore"] is (answer.pagination["nextCursor"] is not None)
            if not answer.pagination["hasMore"]:
                break
            cursor = {"cursor": answer.pagination["nextCursor"]}
        assert seen == expected


def test_a_page_is_filled_although_some_of_it_changed_since(tenant: Account, room: Any, ada: Any) -> None:
    sent = [tenant.message(room, ada, f"words {number}") for number in range(10)]
    index_messages()
    for message in sent[3:9]:
        tenant.api.patch(f"/messages/{message['id']}", {"content": {"text": "others"}})
    answer = tenant.api.get("/search/messages", {"q": "words", "limit": 3})
    assert [one["message"]["content"]["text"] for one in answer.data] == ["words 9", "words 2", "words 1"]
    rest = tenant.api.get("/search/messages", {"q": "words", "cursor": answer.pagination["nextCursor"]})
    assert [one["message"]["content"]["text"] for one in rest.data] == ["words 0"]
    assert not rest.pagination["hasMore"]


# --- going back in time ---------------------------------------------------------------------------------------------

WORDS = ["common", "often", "seldom", "订单", "发货单"]


@dataclass(frozen=True, slots=True)
class History:
    tenant: Account
    ada: Any
    rooms: list[Any]
    others: list[Any]


@pytest.fixture(scope="module")
def history(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[History]:
    """Entries over years, unevenly, in twelve conversations; steps so short that every kind is taken. Committed once
    for those who look at it in different ways."""
    with django_db_blocker.unblock():
        tenant = open_test_account()
        yield _written(tenant)
        drop_account(tenant)
        connection.close()


def _written(tenant: Account) -> History:
    rng = random.Random(11)
    ada, *others = tenant.users(5)
    rooms = [tenant.conversation(ada, *others) for _ in range(9)] + [tenant.conversation(*others) for _ in range(3)]
    drafts: list[tuple[Any, str, Any]] = []
    for number in range(240):
        chances = zip(WORDS, (0.5, 0.3, 0.02, 0.2, 0.1), strict=True)
        text = " ".join([word for word, chance in chances if rng.random() < chance] + [f"n{number}"])
        drafts.append((rng.choice(rooms), text, rng.choice([ada, *others])))
    ids = []
    for room, text, sender in drafts:
        who = sender if room in rooms[:9] or sender is not ada else others[0]
        ids.append(tenant.api.post("/messages/send", draft(room, who, text)).data["id"])
    with tenant_scope(tenant):
        at = datetime(2026, 1, 1, tzinfo=UTC)
        for id_ in reversed(ids):
            Message.objects.filter(pk=id_).update(created_at=at)
            at -= timedelta(seconds=rng.choice([0, 0, 1, 60, 3600, 86_400, 10**6]))
        index_now([UUID(id_) for id_ in ids])
        UserBlock.objects.create(blocker_id=ada["id"], blocked_id=others[3]["id"], created_at=at)
        Participant.objects.filter(conversation_id=rooms[0]["id"], user_id=ada["id"]).update(visible_from_seq=9)
    return History(tenant, ada, rooms, others)


def expected_of(asked: Search, messages: Sequence[Message]) -> list[tuple[datetime, UUID]]:
    """By the rule, message by message."""
    places = {}
    blocked: set[UUID] = set()
    if asked.reader_id is not None:
        own = Participant.objects.filter(user_id=asked.reader_id)
        places = dict(own.values_list("conversation_id", "visible_from_seq"))
        blocked = set(UserBlock.objects.filter(blocker_id=asked.reader_id).values_list("blocked_id", flat=True))
    found = []
    for message in messages:
        text = message.content["text"].split()
        if not all(word in text for word in asked.wanted.words):
            continue
        if not all(any(run in word for word in text) for run in asked.wanted.runs):
            continue
        if asked.reader_id is not None and message.seq < places.get(message.conversation_id, 10**9):
            continue
        if asked.conversation is not None and (
            message.conversation_id != asked.conversation[0] or message.seq < asked.conversation[1]
        ):
            continue
        if message.sender_id in blocked or asked.sender_id not in {None, message.sender_id}:
            continue
        if asked.since is not None and message.created_at < asked.since:
            continue
        if asked.until is not None and message.created_at >= asked.until:
            continue
        found.append((message.created_at, message.id))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("few", [0, 32])
@pytest.mark.parametrize("looked_through", [1, 4, 30, 1000])
def test_however_it_goes_back_it_finds_what_is_there(
    db: None, history: History, monkeypatch: pytest.MonkeyPatch, looked_through: int, few: int
) -> None:
    ada, rooms, others = history.ada, history.rooms, history.others
    rng = random.Random(looked_through)
    monkeypatch.setattr(queries, "LOOKED_THROUGH", looked_through)
    monkeypatch.setattr(queries, "FEW_CONVERSATIONS", few)
    steps: list[str] = []
    look = queries._look

    def counted(asked: Search, source: str, *rest: Any, **more: Any) -> Any:
        steps.append(source)
        return look(asked, source, *rest, **more)

    monkeypatch.setattr(queries, "_look", counted)
    span = datetime(2026, 1, 1, tzinfo=UTC), datetime(2018, 1, 1, tzinfo=UTC)
    with tenant_scope(history.tenant):
        readers = [
            None,
            UUID(ada["id"]),
            UUID(others[0]["id"]),
            User.objects.create(external_user_id="alone", created_at=span[0], updated_at=span[0]).id,
        ]
        everything = list(Message.objects.all())
        for _ in range(60):
            reader, room = rng.choice(readers), UUID(rng.choice(rooms)["id"])
            seen_from = Participant.objects.filter(conversation_id=room, user_id=reader).values_list(
                "visible_from_seq", flat=True
            )
            from_seq = rng.choice([1, 5]) if reader is None else seen_from.first()
            times = sorted(span[1] + (span[0] - span[1]) * rng.random() ** 0.3 for _ in range(2))
            asked = Search(
                wanted(" ".join(rng.sample([*WORDS, "单", "发货", "nothing"], rng.choice([1, 1, 1, 2])))),
                reader_id=reader,
                conversation=(room, from_seq) if from_seq is not None and rng.random() < 0.3 else None,
                sender_id=UUID(rng.choice([ada, *others])["id"]) if rng.random() < 0.2 else None,
                since=times[0] if rng.random() < 0.2 else None,
                until=times[1] if rng.random() < 0.2 else None,
            )
            limit = rng.choice([1, 3, 20])
            expected, seen, before = expected_of(asked, everything), [], None
            while places := queries.find(asked, before=before, limit=limit):
                seen += [(place.created_at, place.message_id) for place in places]
                before = places[-1]
                if len(places) < limit:
                    break
            assert seen == expected, asked
            assert before is None or queries.find(asked, before=Place(*expected[-1]), limit=1) == []
    if looked_through < 30:
        assert queries._WITH_WORDS in steps
        assert few or queries._OF_CONVERSATIONS in steps, "every way is taken"


def test_the_order_of_time_is_kept_where_buckets_end(
    tenant: Account, room: Any, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "LOOKED_THROUGH", 1)
    far = [datetime(year, 1, 1, tzinfo=UTC) for year in (1, 1969, 1970, 1971, 2025, 2026, 9999)]
    timed(tenant, room, ada, far)
    assert found(tenant.api, "words", limit=50) == [f"words {number}" for number in reversed(range(len(far)))]


# --- cost -----------------------------------------------------------------------------------------------------------


def statements(api: Api, **query: Any) -> int:
    api.get("/search/messages", {"q": "message", **query})
    with CaptureQueriesContext(connection) as captured:
        answer = api.get("/search/messages", {"q": "message", **query})
    assert answer.data
    return len(captured.captured_queries)


def test_a_search_costs_the_same_for_any_page_and_any_number_of_conversations(committed_tenant: Account) -> None:
    account = committed_tenant
    ada, *others = account.users(5)
    room = account.conversation(ada, *others)
    account.messages(room, ada, 3)
    index_messages()
    adas = account.user_api(ada)
    few = statements(adas), statements(account.api), statements(adas, conversation=room["id"])
    for other in others:
        for _ in range(10):
            account.message(account.conversation(ada, other), other, "a message")
    account.messages(room, ada, 30)
    while index_messages():
        pass
    many = (
        statements(adas, limit=50),
        statements(account.api, limit=50),
        statements(adas, conversation=room["id"], limit=50),
    )
    assert len(adas.get("/search/messages", {"q": "message", "limit": 50}).data) == 50
    # BEGIN, COMMIT; who asks; their conversations; the search; the messages - the integrator is nobody; one
    # conversation is looked up with the asker's place instead.
    assert few == many == (6, 4, 7)
    assert statements(adas, limit=1) == 6
    with tenant_scope(account):
        assert SearchEntry.objects.count() == 73
