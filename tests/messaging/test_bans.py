"""Bans: from one conversation and from the whole tenant, by whom, until when, and what they keep out."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from messagecore.kernel import wire
from messaging.events import DurableEvent, Expelled, Left
from messaging.models import Ban, User
from messaging.services import reading
from messaging.services.batching import SendBatcher
from messaging.services.sending import Draft
from tenants.scope import tenant_scope
from tenants.services.authentication import tenant_card
from tests.accounts import Account, draft
from tests.api import Answer
from tests.ports import RecordingAnnouncer
from tests.snapshots import contents
from tests.threads import at_once, times

pytestmark = pytest.mark.core

FAR = "2126-01-31T08:00:00.000Z"


class Room:
    """A group: its owner, an admin, a member; and somebody outside of it."""

    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.owner, self.admin, self.member, self.outsider = tenant.users(4)
        self.id = tenant.conversation(self.owner, self.admin, self.member)["id"]
        for user, role in ((self.owner, "owner"), (self.admin, "admin")):
            assert tenant.api.patch(f"{self.path}/participants/{user['id']}", {"role": role}).status == 200

    @property
    def path(self) -> str:
        return f"/conversations/{self.id}"

    @property
    def conversation(self) -> dict[str, Any]:
        return {"id": self.id}

    def ban(self, user: Any, by: Any = None, **fields: Any) -> Answer:
        api = self.tenant.api if by is None else self.tenant.user_api(by)
        return api.post(f"{self.path}/bans", {"userId": user["id"], **fields})

    def unban(self, user: Any, by: Any = None) -> Answer:
        api = self.tenant.api if by is None else self.tenant.user_api(by)
        return api.delete(f"{self.path}/bans/{user['id']}")

    def add(self, *users: Any) -> Answer:
        return self.tenant.api.post(f"{self.path}/participants", {"participantIds": [user["id"] for user in users]})

    def people(self) -> set[str]:
        return set(self.tenant.api.get(self.path).data["participantIds"])


@pytest.fixture
def room(tenant: Account) -> Room:
    return Room(tenant)


def end_bans(tenant: Account) -> None:
    """As if their time had come."""
    with tenant_scope(tenant):
        past = timezone.now() - timedelta(seconds=1)
        Ban.objects.update(until=past)
        User.objects.exclude(banned_until=None).update(banned_until=past)


# --- from a conversation --------------------------------------------------------------------------------------------


def test_a_ban_takes_out_and_keeps_out(
    tenant: Account, room: Room, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = room.ban(room.member, by=room.admin, until=FAR, reason="广告")
    assert answer.status == 201
    assert answer.data | {"createdAt": ""} == {
        "user": {key: room.member[key] for key in ("id", "externalUserId", "displayName", "avatarUrl")},
        "userId": room.member["id"],
        "externalUserId": room.member["externalUserId"],
        "conversationId": room.id,
        "conversationExternalId": None,
        "reason": "广告",
        "until": FAR,
        "bannedBy": {key: room.admin[key] for key in ("id", "externalUserId", "displayName", "avatarUrl")},
        "createdAt": "",
    }
    assert room.people() == {room.owner["id"], room.admin["id"]}
    (removed,) = [
        event.data
        for _, event in announced.announced
        if isinstance(event, DurableEvent) and event.type == "participant_removed"
    ]
    assert (removed["reason"], removed["userId"], removed["participantCount"]) == ("banned", room.member["id"], 2)
    (left,) = [event for _, event in announced.announced if isinstance(event, Left)]
    assert (str(left.user_id), left.reason) == (room.member["id"], "banned")
    tenant.user_api(room.member).get(room.path).refuses(404, "conversation_not_found")

    before = contents(tenant)
    refused = room.add(room.outsider, room.member)
    refused.refuses(403, "banned_from_conversation")
    assert refused.error["details"] == {"users": [{"userId": room.member["id"], "until": FAR}]}
    assert contents(tenant) == before, "nobody is added where somebody may not be"
    assert room.add(room.outsider).status == 200


def test_a_channel_is_not_joined_during_a_ban(tenant: Account) -> None:
    ada, bob = tenant.users(2)
    channel = tenant.conversation(ada, type="channel")
    path = f"/conversations/{channel['id']}"
    assert tenant.api.post(f"{path}/bans", {"userId": bob["externalUserId"]}).status == 201
    joining = tenant.user_api(bob).post(f"{path}/join")
    joining.refuses(403, "banned_from_conversation")
    assert joining.error["details"] == {"users": [{"userId": bob["id"], "until": None}]}
    end_bans(tenant)
    assert tenant.user_api(bob).post(f"{path}/join").status == 200
    assert tenant.api.get(f"{path}/bans").data == []


def test_a_second_ban_replaces_the_first(tenant: Account, room: Room) -> None:
    first = room.ban(room.member, by=room.owner, until=FAR, reason="one")
    second = room.ban(room.member)
    assert (first.status, second.status) == (201, 200)
    assert (second.data["until"], second.data["reason"], second.data["bannedBy"]) == (None, "", None)
    assert second.data["createdAt"] == first.data["createdAt"]
    assert tenant.api.get(f"{room.path}/bans").data == [second.data]
    end_bans(tenant)
    assert room.ban(room.member).status == 201, "one that ended is none"
    with tenant_scope(tenant):
        assert Ban.objects.count() == 1


def test_lifting_a_ban_lets_in_and_brings_nobody_back(tenant: Account, room: Room) -> None:
    room.ban(room.member)
    assert room.unban(room.member, by=room.admin).status == 200
    assert room.member["id"] not in room.people()
    assert room.add(room.member).status == 200
    room.unban(room.member).refuses(404, "ban_not_found")
    room.ban(room.member, until=FAR)
    end_bans(tenant)
    room.unban(room.member).refuses(404, "ban_not_found")


@pytest.mark.parametrize("banned", ["owner", "oneself"])
def test_an_admin_bans_neither_the_owner_nor_themselves(tenant: Account, room: Room, banned: str) -> None:
    before = contents(tenant)
    if banned == "owner":
        room.ban(room.owner, by=room.admin).refuses(403, "permission_denied")
    else:
        room.ban(room.admin, by=room.admin).refuses(409, "conflict")
    assert contents(tenant) == before


def test_a_secret_key_bans_the_owner_too(room: Room) -> None:
    assert room.ban(room.owner).status == 201
    assert room.owner["id"] not in room.people()


def test_members_neither_ban_nor_lift_nor_see_bans(tenant: Account, room: Room) -> None:
    room.ban(room.outsider)
    before = contents(tenant)
    room.ban(room.admin, by=room.member).refuses(403, "permission_denied")
    room.unban(room.outsider, by=room.member).refuses(403, "permission_denied")
    tenant.user_api(room.member).get(f"{room.path}/bans").refuses(403, "permission_denied")
    stranger = tenant.user_api(room.outsider)
    stranger.get(f"{room.path}/bans").refuses(404, "conversation_not_found")
    stranger.delete(f"{room.path}/bans/{room.outsider['id']}").refuses(404, "conversation_not_found")
    assert contents(tenant) == before


def test_nobody_is_banned_from_a_direct_conversation(tenant: Account) -> None:
    ada, bob = tenant.users(2)
    direct = tenant.conversation(ada, bob, type="direct")
    before = contents(tenant)
    tenant.api.post(f"/conversations/{direct['id']}/bans", {"userId": bob["id"]}).refuses(409, "conflict")
    assert contents(tenant) == before


@pytest.mark.parametrize("path", ["/bans", "conversation"])
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"until": "2020-01-01T00:00:00Z"}, "/until"),
        ({"until": "0001-01-01T00:00:00Z"}, "/until"),
        ({"until": "tomorrow"}, "/until"),
        ({"until": 5}, "/until"),
        ({"reason": "x" * 1001}, "/reason"),
        ({"reason": ["x"]}, "/reason"),
        ({"userId": ""}, "/userId"),
        ({"userId": None}, "/userId"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_a_bad_ban_is_refused(tenant: Account, room: Room, path: str, fields: Any, pointer: str) -> None:
    before = contents(tenant)
    where = f"{room.path}/bans" if path == "conversation" else path
    refused = tenant.api.post(where, {"userId": room.member["id"]} | fields)
    refused.refuses(422, "validation_failed")
    assert set(refused.pointers) == {pointer}
    tenant.api.post(where, {"userId": "nobody"}).refuses(404, "user_not_found")
    assert contents(tenant) == before


def test_bans_are_listed_by_pages_latest_first(tenant: Account, room: Room) -> None:
    users = tenant.users(5)
    for user in users:
        room.ban(user)
        tenant.api.post("/bans", {"userId": user["id"]})
    for path in (f"{room.path}/bans", "/bans"):
        tenant.api.get(path)
        first = tenant.api.get(path, {"limit": 3})
        second = tenant.api.get(path, {"limit": 3, "cursor": first.pagination["nextCursor"]})
        shown = [ban["userId"] for ban in (*first.data, *second.data)]
        assert shown == [user["id"] for user in reversed(users)]
        assert second.pagination == {"nextCursor": None, "hasMore": False}
        tenant.api.get(path, {"cursor": "x"}).refuses(422, "invalid_cursor")


def test_two_who_ban_at_once_leave_one_ban(committed_tenant: Account) -> None:
    room = Room(committed_tenant)
    answers = times(6, lambda _: room.ban(room.member))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
    answers = times(6, lambda _: committed_tenant.api.post("/bans", {"userId": room.outsider["id"]}))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
    with tenant_scope(committed_tenant):
        assert Ban.objects.count() == 2
    events = [room.people(), committed_tenant.api.get(room.path).data["participantCount"]]
    assert events == [{room.owner["id"], room.admin["id"]}, 2]


def test_who_is_banned_and_added_at_once_is_not_in(committed_tenant: Account) -> None:
    """Whichever comes first: a ban takes out whom it finds, and nobody comes in behind it."""
    room = Room(committed_tenant)
    for user in committed_tenant.users(6):
        at_once(lambda user=user: room.ban(user), lambda user=user: room.add(user))
        assert user["id"] not in room.people()


# --- from the tenant ------------------------------------------------------------------------------------------------


def test_a_banned_user_is_refused_everywhere(
    tenant: Account, room: Room, announced: RecordingAnnouncer, django_capture_on_commit_callbacks: Any
) -> None:
    body = {"userId": room.member["externalUserId"], "until": FAR, "reason": "spam"}
    with django_capture_on_commit_callbacks(execute=True):
        answer = tenant.api.post("/bans", body)
    assert (answer.status, answer.data["until"], answer.data["conversationId"]) == (201, FAR, None)
    assert [str(event.user_id) for _, event in announced.announced if isinstance(event, Expelled)] == [
        room.member["id"]
    ]
    mobile, acting = tenant.user_api(room.member), tenant.api.acting_as(room.member["id"])
    before = contents(tenant)
    refusals = [
        mobile.get("/conversations"),
        mobile.get(room.path),
        mobile.post("/messages/send", draft(room.conversation, None)),
        acting.get(room.path),
        acting.post(f"{room.path}/read", {"seq": 0}),
        acting.post("/messages/send", draft(room.conversation, None)),
        tenant.api.post("/messages/send", draft(room.conversation, room.member)),
        tenant.api.post(f"/users/{room.member['id']}/tokens"),
    ]
    for refused in refusals:
        refused.refuses(403, "user_banned")
        assert refused.error["details"] == {"until": FAR}
    assert contents(tenant) == before
    assert room.member["id"] in room.people(), "memberships stay"
    assert tenant.message(room.conversation, room.admin)["seq"] > 0, "others go on"


def test_a_tenant_ban_for_good_ends_when_it_is_lifted(tenant: Account, room: Room) -> None:
    mobile = tenant.user_api(room.member)
    assert tenant.api.acting_as(room.admin["id"]).post("/bans", {"userId": room.member["id"]}).data["bannedBy"] == {
        key: room.admin[key] for key in ("id", "externalUserId", "displayName", "avatarUrl")
    }
    refused = mobile.get(room.path)
    refused.refuses(403, "user_banned")
    assert refused.error["details"] == {"until": None}
    with tenant_scope(tenant):
        assert User.objects.get(pk=room.member["id"]).banned_until == datetime(9999, 12, 31, tzinfo=UTC)
    assert tenant.api.delete(f"/bans/{room.member['id']}").status == 200
    assert mobile.get(room.path).status == 200
    tenant.api.delete(f"/bans/{room.member['id']}").refuses(404, "ban_not_found")


def test_a_tenant_ban_ends_by_itself(tenant: Account, room: Room) -> None:
    mobile = tenant.user_api(room.member)
    tenant.api.post("/bans", {"userId": room.member["id"], "until": FAR})
    end_bans(tenant)
    assert mobile.get(room.path).status == 200
    assert tenant.api.post("/messages/send", draft(room.conversation, room.member)).status == 200
    assert tenant.api.post(f"/users/{room.member['id']}/tokens").status == 201
    assert tenant.api.get("/bans").data == []
    tenant.api.delete(f"/bans/{room.member['id']}").refuses(404, "ban_not_found")


def test_only_a_secret_key_bans_from_the_tenant(tenant: Account, room: Room) -> None:
    before = contents(tenant)
    owner = tenant.user_api(room.owner)
    owner.post("/bans", {"userId": room.member["id"]}).refuses(403, "permission_denied")
    owner.get("/bans").refuses(403, "permission_denied")
    owner.delete(f"/bans/{room.member['id']}").refuses(403, "permission_denied")
    tenant.api.acting_as(room.owner["id"]).post("/bans", {"userId": room.owner["id"]}).refuses(409, "conflict")
    assert contents(tenant) == before


def test_sockets_of_a_banned_user_are_not_let_in_nor_kept(tenant: Account, room: Room) -> None:
    card, user_id, other_id = tenant_card(tenant.tenant), UUID(room.member["id"]), UUID(room.admin["id"])
    assert reading.compare(card, [], [user_id, other_id]).refused == frozenset()
    tenant.api.post("/bans", {"userId": room.member["id"], "until": FAR})
    assert reading.compare(card, [], [user_id, other_id]).refused == {user_id}
    end_bans(tenant)
    assert reading.compare(card, [], [user_id, other_id]).refused == frozenset()


def test_a_ban_costs_a_send_nothing(committed_tenant: Account, django_assert_max_num_queries: Any) -> None:
    """The ban stands on rows that are read anyway."""
    room = Room(committed_tenant)
    api = committed_tenant.user_api(room.member)
    body = draft(room.conversation, None)
    api.post("/messages/send", body)
    with django_assert_max_num_queries(9):
        assert api.post("/messages/send", body).status == 200


def test_a_send_over_the_socket_is_refused_too(committed_tenant: Account) -> None:
    room = Room(committed_tenant)
    committed_tenant.api.post("/bans", {"userId": room.member["id"], "until": FAR})
    batcher = SendBatcher(threads=1)
    try:
        sent = batcher.submit(
            tenant_card(committed_tenant.tenant),
            Draft(room.id, room.member["id"], "text", {"text": "hi"}, hides_conversation=True),
            via="socket",
        )
        error: Any = sent.exception(timeout=30)
    finally:
        batcher.close(timeout_s=30)
    assert (error.code, error.details) == ("user_banned", {"until": FAR})


@pytest.mark.parametrize("messages", ["anonymise", "erase"])
def test_what_is_said_of_a_deleted_user_is_forgotten(tenant: Account, room: Room, messages: str) -> None:
    room.ban(room.member, reason="insults")
    tenant.api.post("/bans", {"userId": room.member["id"], "reason": "insults"})
    room.ban(room.outsider, by=room.admin, reason="their own word")
    assert tenant.api.delete(f"/users/{room.member['id']}", {"messages": messages}).status == 200
    assert tenant.api.delete(f"/users/{room.admin['id']}", {"messages": messages}).status == 200
    (ban,) = tenant.api.get(f"{room.path}/bans").data
    assert (ban["userId"], ban["reason"]) == (room.outsider["id"], "")
    assert tenant.api.get("/bans").data == []


def test_the_end_of_a_ban_is_told_to_the_millisecond(tenant: Account, room: Room) -> None:
    until = timezone.now() + timedelta(hours=1)
    answer = tenant.api.post("/bans", {"userId": room.member["id"], "until": until.isoformat()})
    assert answer.data["until"] == wire.timestamp(until)
    assert tenant.user_api(room.member).get(room.path).error["details"] == {"until": wire.timestamp(until)}
