"""`/events`: the tenant's feed, its cursors and its edges. Its order under concurrency: `test_feed_law.py`."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging.models import Conversation
from messaging.queries import retention as retention_queries
from messaging.services import retention
from messaging.services.retention import Purged
from messaging.tasks import index_messages, number_feeds, purge_tenant, sweep_outbox
from tenants import feed
from tenants.models import Feed, OutboxEvent
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Api
from tests.imports import LIVELY, imported
from tests.messaging.test_query_budgets import statements
from tests.ports import FixedPresence
from tests.snapshots import contents
from tests.threads import at_once

DAY = timedelta(days=1)


class Scene:
    """Two rooms: 1-3 and a rename (4) in the first, 1-2 in the second. The feed: in the order of writing."""

    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.ada, self.bob = tenant.user("ada", displayName="Ada"), tenant.user("bob")
        self.room = tenant.conversation(self.ada, self.bob, externalId="room")
        self.other = tenant.conversation(self.ada, self.bob)
        self.said = [
            tenant.message(self.room, self.ada, "one"),
            tenant.message(self.other, self.bob, "two"),
            tenant.message(self.room, self.bob, "three"),
            tenant.message(self.other, self.ada, "four"),
            tenant.message(self.room, self.ada, "five"),
        ]
        tenant.api.patch("/conversations/room", {"title": "renamed"})

    @property
    def expected(self) -> list[tuple[str, int]]:
        room, other = self.room["id"], self.other["id"]
        return [(room, 1), (other, 1), (room, 2), (other, 2), (room, 3), (room, 4)]


@pytest.fixture
def scene(tenant: Account) -> Scene:
    return Scene(tenant)


def read(api: Api, **query: Any) -> Any:
    answer = api.get("/events", query)
    assert answer.status == 200, answer.body
    return answer


def places(answer: Any) -> list[tuple[str, int]]:
    return [(item["conversationId"], item["data"]["seq"]) for item in answer.data]


def end_of(api: Api) -> str:
    cursor: str = read(api, after="latest").pagination["nextCursor"]
    return cursor


# --- reading --------------------------------------------------------------------------------------------------------


def test_what_was_committed_is_there_at_once_without_the_duty(scene: Scene) -> None:
    answer = read(scene.tenant.api)
    assert places(answer) == scene.expected
    assert [item["type"] for item in answer.data] == ["new_message"] * 5 + ["conversation_updated"]
    first = answer.data[0]
    assert (first["conversationId"], first["conversationExternalId"]) == (scene.room["id"], "room")
    assert first["recordedAt"] == first["data"]["timestamp"] == scene.said[0]["createdAt"]
    assert first["data"]["message"] == scene.said[0] | {"status": first["data"]["message"]["status"]}
    assert answer.data[1]["conversationExternalId"] is None
    assert answer.pagination == {"nextCursor": answer.data[-1]["cursor"], "hasMore": False}


def test_pages_of_any_size_make_the_same_feed(scene: Scene) -> None:
    whole = read(scene.tenant.api).data
    for limit in range(1, 8):
        seen: list[Any] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            answer = read(scene.tenant.api, **query)
            assert len(answer.data) <= limit
            seen += answer.data
            query["after"] = answer.pagination["nextCursor"]
            if not answer.pagination["hasMore"]:
                break
            assert len(answer.data) == limit
        assert seen == whole
        assert read(scene.tenant.api, after=query["after"]).data == []


def test_every_items_cursor_leads_behind_it(scene: Scene) -> None:
    whole = read(scene.tenant.api).data
    for place, item in enumerate(whole):
        assert read(scene.tenant.api, after=item["cursor"]).data == whole[place + 1 :]


def test_the_end_and_what_comes_behind_it(scene: Scene) -> None:
    at_end = read(scene.tenant.api, after="latest")
    assert at_end.data == []
    assert at_end.pagination["hasMore"] is False
    cursor = at_end.pagination["nextCursor"]
    nothing = read(scene.tenant.api, after=cursor)
    assert (nothing.data, nothing.pagination) == ([], {"nextCursor": cursor, "hasMore": False})
    scene.tenant.message(scene.other, scene.bob, "late")
    assert places(read(scene.tenant.api, after=cursor)) == [(scene.other["id"], 3)]


def test_an_empty_feed_has_an_end_too(tenant: Account) -> None:
    empty = read(tenant.api)
    assert (empty.data, empty.pagination["hasMore"]) == ([], False)
    assert empty.pagination["nextCursor"] == end_of(tenant.api)
    tenant.message(tenant.conversation(ada := tenant.user()), ada)
    assert len(read(tenant.api, after=empty.pagination["nextCursor"]).data) == 1


def test_what_is_in_no_log_is_not_in_the_feed(tenant: Account) -> None:
    """Conversations made and deleted have outbox rows, and no place in a log."""
    room = tenant.conversation(tenant.user())
    tenant.api.delete(f"/conversations/{room['id']}")
    assert read(tenant.api).data == []
    number_feeds()
    assert OutboxEvent.objects.filter(tenant_id=tenant.id).count() == 2
    assert not OutboxEvent.objects.filter(tenant_id=tenant.id, feed_seq__isnull=False).exists()


def test_items_are_rendered_as_things_are_now(scene: Scene) -> None:
    first, last = scene.said[0], scene.said[-1]
    cursor = read(scene.tenant.api).data[-1]["cursor"]
    scene.tenant.api.patch(f"/messages/{first['id']}", {"content": {"text": "one, edited"}})
    scene.tenant.api.delete(f"/messages/{last['id']}")
    answer = read(scene.tenant.api)
    assert answer.data[0]["data"]["message"]["content"] == {"text": "one, edited"}
    assert answer.data[4]["data"]["message"]["deletedAt"] is not None
    assert answer.data[4]["data"]["message"]["content"] == {}
    assert [item["type"] for item in read(scene.tenant.api, after=cursor).data] == [
        "message_updated",
        "message_deleted",
    ]


def test_erasing_a_person_erases_them_here(scene: Scene) -> None:
    assert "Ada" in json.dumps(read(scene.tenant.api).body)
    answer = scene.tenant.api.delete("/users/ada", {"messages": "erase"})
    assert answer.status in {200, 204}, answer.body
    feed_now = read(scene.tenant.api)
    text = json.dumps(feed_now.body)
    for word in ("Ada", '"one"', '"five"', '"four"', 'externalUserId": "ada"'):
        assert word not in text
    assert '"three"' in text
    assert places(feed_now)[:6] == scene.expected


def test_a_deleted_conversation_leaves_its_places(scene: Scene) -> None:
    before = read(scene.tenant.api).data
    scene.tenant.api.delete("/conversations/room")
    answer = read(scene.tenant.api)
    assert [item["cursor"] for item in answer.data] == [item["cursor"] for item in before]
    for item, was in zip(answer.data, before, strict=True):
        if was["conversationId"] == scene.room["id"]:
            assert item == was | {"data": None, "conversationExternalId": None}
        else:
            assert item == was


def test_an_import_is_in_the_feed_in_order_of_seq(tenant: Account) -> None:
    imported(tenant, b"".join(LIVELY))
    with tenant_scope(tenant):
        logs = dict(Conversation.objects.values_list("id", "last_seq"))
    answer = read(tenant.api, limit=200)
    assert sum(logs.values()) == len(answer.data) > 5
    for conversation_id, last_seq in logs.items():
        seqs = [seq for found, seq in places(answer) if found == str(conversation_id)]
        assert seqs == list(range(1, last_seq + 1))


# --- who may --------------------------------------------------------------------------------------------------------


def test_it_is_for_secret_keys_with_the_scope(scene: Scene) -> None:
    before = contents(scene.tenant)
    scene.tenant.user_api(scene.ada).get("/events").refuses(403, "permission_denied")
    Api({"X-API-Key": scene.tenant.publishable_key}).get("/events").refuses(401, "token_required")
    Api({"X-API-Key": scene.tenant.key(scopes=["messages:read"])}).get("/events").refuses(403, "scope_missing")
    Api({}).get("/events").refuses(401, "api_key_required")
    assert contents(scene.tenant) == before, "who is refused numbers nothing"
    assert len(read(Api({"X-API-Key": scene.tenant.key(scopes=["events:read"])})).data) == 6


def test_feeds_of_tenants_are_apart(scene: Scene, other_tenant: Account) -> None:
    eve = other_tenant.user("ada")
    room = other_tenant.conversation(eve, externalId="room")
    other_tenant.message(room, eve, "theirs")
    ours, theirs = read(scene.tenant.api), read(other_tenant.api)
    assert places(ours) == scene.expected
    assert places(theirs) == [(room["id"], 1)]
    before = contents(scene.tenant, other_tenant)
    for cursor in (theirs.data[0]["cursor"], theirs.pagination["nextCursor"], end_of(other_tenant.api)):
        scene.tenant.api.get("/events", {"after": cursor}).refuses(422, "invalid_cursor")
    for item in ours.data:
        other_tenant.api.get("/events", {"after": item["cursor"]}).refuses(422, "invalid_cursor")
    assert contents(scene.tenant, other_tenant) == before


# --- bad cursors ----------------------------------------------------------------------------------------------------


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _decoded(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=="))


GARBAGE = ["x", "0", "LATEST", "null", "W10", "💥", "a" * 255, "=", "..", "-1", _encoded([]), _encoded({}), _encoded(7)]


@pytest.mark.parametrize("cursor", GARBAGE)
def test_garbage_is_no_cursor(scene: Scene, cursor: str) -> None:
    scene.tenant.api.get("/events", {"after": cursor}).refuses(422, "invalid_cursor")


def test_a_cursor_that_was_tampered_with_is_none(scene: Scene) -> None:
    cursor = read(scene.tenant.api).data[2]["cursor"]
    seq, mark = _decoded(cursor)
    assert seq == 3
    changed: list[Any] = [
        [4, mark], [2, mark], [seq, mark[::-1]], [seq, mark.upper()], [seq, ""], [seq, None], [seq, 7],
        [str(seq), mark], [True, mark], [3.0, mark], [-3, mark], [2**63, mark], [10**30, mark], [seq],
        [seq, mark, 1], [mark, seq], None,
    ]  # fmt: skip
    for value in changed:
        scene.tenant.api.get("/events", {"after": _encoded(value)}).refuses(422, "invalid_cursor")
    users = scene.tenant.api.get("/users", {"limit": 1}).pagination["nextCursor"]
    scene.tenant.api.get("/events", {"after": users}).refuses(422, "invalid_cursor")
    assert len(read(scene.tenant.api, after=cursor).data) == 3


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("after=", "/after"),
        ("after=" + "a" * 256, "/after"),
        ("after=%00", "/after"),
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("wait=26", "/wait"),
        ("wait=-1", "/wait"),
        ("wait=1.5", "/wait"),
        ("wait=true", "/wait"),
        ("cursor=x", "/cursor"),
    ],
)
def test_garbage_parameters(scene: Scene, query: str, pointer: str) -> None:
    answer = scene.tenant.api.raw("GET", "/events", query=query, content_type=None)
    answer.refuses(422, "validation_failed", pointer)


def test_a_cursor_beyond_the_end_has_expired(scene: Scene) -> None:
    """The database was restored from before it: to wait there would be to miss what comes in its place."""
    cursor = end_of(scene.tenant.api)
    Feed.objects.filter(pk=scene.tenant.id).update(last_seq=5)
    OutboxEvent.objects.filter(tenant_id=scene.tenant.id, feed_seq=6).delete()
    answer = scene.tenant.api.get("/events", {"after": cursor})
    answer.refuses(410, "cursor_expired")
    assert answer.error["details"] == {"reason": "ahead"}


# --- retention ------------------------------------------------------------------------------------------------------


@pytest.fixture
def _everybody_is_away(presence: FixedPresence) -> None:
    """So that the sweep can handle its rows."""


def age_feed(account: Account, up_to: int, by: timedelta = 31 * DAY) -> None:
    """Makes the feed's first rows older."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tenants_outboxevent SET recorded_at = recorded_at - %s WHERE tenant_id = %s AND feed_seq <= %s",
            [by, account.id, up_to],
        )


def purge(account: Account) -> Purged:
    now = timezone.now()
    return retention.purge(account.tenant, cutoff=now - 30 * DAY, now=now)


def left(account: Account) -> list[int]:
    found = OutboxEvent.objects.filter(tenant_id=account.id, feed_seq__isnull=False)
    return list(found.order_by("feed_seq").values_list("feed_seq", flat=True))


def tend(account: Account) -> list[Any]:
    """Handles, indexes and numbers everything; the feed."""
    sweep_outbox()
    index_messages()
    return list(read(account.api, limit=200).data)


@pytest.mark.usefixtures("_everybody_is_away")
def test_old_rows_go_and_the_edge_stays(scene: Scene) -> None:
    items = tend(scene.tenant)
    age_feed(scene.tenant, 4)
    purge(scene.tenant)
    assert left(scene.tenant) == [5, 6]
    assert read(scene.tenant.api).data == items[4:]
    for item in items[:3]:
        answer = scene.tenant.api.get("/events", {"after": item["cursor"]})
        answer.refuses(410, "cursor_expired")
        assert answer.error["details"] == {"reason": "retention"}
    assert read(scene.tenant.api, after=items[3]["cursor"]).data == items[4:], "who had the fourth missed nothing"


@pytest.mark.usefixtures("_everybody_is_away")
def test_the_edge_outlives_the_last_row(scene: Scene) -> None:
    items = tend(scene.tenant)
    age_feed(scene.tenant, 6)
    purge(scene.tenant)
    assert left(scene.tenant) == []
    assert read(scene.tenant.api).data == []
    for item in items[:-1]:
        scene.tenant.api.get("/events", {"after": item["cursor"]}).refuses(410, "cursor_expired")
    assert read(scene.tenant.api, after=items[-1]["cursor"]).data == []
    assert end_of(scene.tenant.api) == items[-1]["cursor"]
    scene.tenant.message(scene.room, scene.ada, "after it all")
    assert places(read(scene.tenant.api, after=items[-1]["cursor"])) == [(scene.room["id"], 5)]
    assert left(scene.tenant) == [7], "numbers are not given twice"


@pytest.mark.usefixtures("_everybody_is_away")
@pytest.mark.parametrize("lacking", ["handled_at", "indexed_at"])
def test_what_somebody_waits_for_stays_and_all_behind_it(scene: Scene, lacking: str) -> None:
    tend(scene.tenant)
    age_feed(scene.tenant, 6)
    OutboxEvent.objects.filter(tenant_id=scene.tenant.id, feed_seq=3).update(**{lacking: None})
    purge(scene.tenant)
    assert left(scene.tenant) == [3, 4, 5, 6]
    assert Feed.objects.get(pk=scene.tenant.id).purged_seq == 2
    tend(scene.tenant)
    purge(scene.tenant)
    assert left(scene.tenant) == []
    assert Feed.objects.get(pk=scene.tenant.id).purged_seq == 6


@pytest.mark.usefixtures("_everybody_is_away")
def test_what_has_no_number_is_not_purged(scene: Scene) -> None:
    sweep_outbox()
    index_messages()
    OutboxEvent.objects.filter(tenant_id=scene.tenant.id).update(recorded_at=timezone.now() - 31 * DAY)
    purge(scene.tenant)
    rows = OutboxEvent.objects.filter(tenant_id=scene.tenant.id)
    assert rows.count() == 6, "of the eight, two were in no log"
    assert len(read(scene.tenant.api).data) == 6
    purge(scene.tenant)
    assert rows.count() == 0


@pytest.mark.usefixtures("_everybody_is_away")
def test_rows_of_no_log_go_when_they_are_old_and_done(scene: Scene) -> None:
    rows = OutboxEvent.objects.filter(tenant_id=scene.tenant.id, seq=None)
    old, young = rows.order_by("id").values_list("id", flat=True)
    rows.filter(id=old).update(recorded_at=timezone.now() - 31 * DAY)
    purge(scene.tenant)
    assert set(rows.values_list("id", flat=True)) == {old, young}, "it is still to be handled"
    tend(scene.tenant)
    purge(scene.tenant)
    assert set(rows.values_list("id", flat=True)) == {young}


@pytest.mark.usefixtures("_everybody_is_away")
def test_retention_works_in_batches_and_leaves_other_tenants_alone(
    scene: Scene, other_tenant: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 2)
    other_tenant.message(other_tenant.conversation(eve := other_tenant.user()), eve)
    tend(other_tenant)
    tend(scene.tenant)
    age_feed(scene.tenant, 5)
    age_feed(other_tenant, 1)
    theirs = contents(other_tenant)
    purge(scene.tenant)
    assert left(scene.tenant) == [6]
    assert contents(other_tenant) == theirs


@pytest.mark.usefixtures("_everybody_is_away")
def test_an_item_whose_event_went_earlier_keeps_its_place(scene: Scene) -> None:
    """The log's beginning is moved before the feed's is, and stays so if the run ends between them."""
    items = tend(scene.tenant)
    with connection.cursor() as cursor:
        cursor.execute(f'SET LOCAL search_path = "{scene.tenant.schema_name}"')
        cursor.execute("UPDATE messaging_conversation SET purged_seq = 2 WHERE external_id = 'room'")
        cursor.execute("SET LOCAL search_path = public")
    answer = read(scene.tenant.api).data
    assert [item["data"] is None for item in answer] == [True, False, True, False, False, False]
    assert answer[0] == items[0] | {"data": None}, "the conversation is still there, and so is its name"


@pytest.mark.usefixtures("_everybody_is_away")
def test_the_hourly_task_does_it(scene: Scene) -> None:
    tend(scene.tenant)
    age_feed(scene.tenant, 6)
    purge_tenant(str(scene.tenant.id))
    assert left(scene.tenant) == []


def test_retention_that_has_no_time_left_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    number_feeds()
    OutboxEvent.objects.filter(tenant_id=scene.tenant.id).update(
        recorded_at=timezone.now() - 31 * DAY, handled_at=timezone.now(), indexed_at=timezone.now()
    )
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 2)
    now = timezone.now()
    purged = retention.purge(scene.tenant.tenant, cutoff=now - 30 * DAY, now=now, budget_s=0.0)
    assert purged.is_done is False
    assert left(scene.tenant) == [3, 4, 5, 6]


def test_retention_gives_way_to_a_sequencer(committed_tenant: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds the feed's row; the purge leaves it for later, and says nothing is wrong."""
    scene = Scene(committed_tenant)
    number_feeds()
    OutboxEvent.objects.filter(tenant_id=committed_tenant.id).update(
        recorded_at=timezone.now() - 31 * DAY, handled_at=timezone.now(), indexed_at=timezone.now()
    )
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)
    monkeypatch.setattr(retention_queries, "WAIT_AT_MOST_MS", 50)
    with transaction.atomic():
        Feed.objects.select_for_update().get(pk=committed_tenant.id)
        (purged,) = at_once(lambda: purge(committed_tenant))
        assert isinstance(purged, Purged)
    assert left(committed_tenant) == [1, 2, 3, 4, 5, 6]
    purge(committed_tenant)
    assert left(scene.tenant) == []


# --- what it costs --------------------------------------------------------------------------------------------------

EMPTY, MESSAGES, RENAMES = 5, 10, 1
"""Whether something waits, BEGIN, the edges, the rows, COMMIT; a savepoint around the messages and other events of the
page, and the names of its conversations; the conversations that were changed."""
NUMBERING = 4
"""BEGIN, the lock, the numbers, COMMIT."""


def counted(run: Callable[[], Any]) -> list[str]:
    """The statements of one run that is not the first."""
    with CaptureQueriesContext(connection) as captured:
        run()
    return [query["sql"] for query in captured.captured_queries]


def test_reading_costs_the_same_whatever_is_there(committed_tenant: Account) -> None:
    scene = Scene(committed_tenant)
    api = committed_tenant.api
    read(api)
    for limit, expected in ((1, MESSAGES), (5, MESSAGES), (200, MESSAGES + RENAMES)):
        assert len(counted(lambda limit=limit: read(api, limit=limit))) == expected
    committed_tenant.messages(scene.room, scene.ada, 20)
    assert len(counted(lambda: read(api, limit=200))) == MESSAGES + RENAMES + NUMBERING
    assert len(counted(lambda: read(api, limit=200))) == MESSAGES + RENAMES
    cursor = end_of(api)
    assert len(counted(lambda: read(api, after=cursor))) == EMPTY
    committed_tenant.message(scene.room, scene.ada)
    assert len(counted(lambda: read(api, after=cursor))) == MESSAGES + NUMBERING


def test_numbering_many_costs_what_numbering_one_costs(committed_tenant: Account) -> None:
    scene = Scene(committed_tenant)
    number_feeds()
    for count in (1, 20):
        committed_tenant.messages(scene.room, scene.ada, count)
        assert len(counted(lambda: feed.number(committed_tenant.id))) == 1 + NUMBERING
    assert feed.number(committed_tenant.id) == 0
    assert len(counted(lambda: feed.number(committed_tenant.id))) == 1
    assert left(committed_tenant) == list(range(1, 28))


def test_the_duty_costs_one_statement_when_nothing_waits(committed_tenant: Account) -> None:
    scene = Scene(committed_tenant)
    assert number_feeds() == 6
    assert len(counted(number_feeds)) == 1
    committed_tenant.message(scene.room, scene.ada)
    assert len(counted(number_feeds)) == 1 + NUMBERING


def test_a_send_does_nothing_for_the_feed(committed_tenant: Account) -> None:
    scene = Scene(committed_tenant)
    made = statements(lambda: committed_tenant.message(scene.room, scene.ada))
    assert [statement for statement in made if "feed" in statement] == []
