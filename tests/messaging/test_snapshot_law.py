"""The snapshot law: any state fetched earlier, plus the events since, equals the state fetched now."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from messaging.events import Announcement, BlockChanged, DurableEvent, Joined, Left, ToOnlookers, ToUser
from realtime.protocol import frames
from tests.accounts import Account, unique
from tests.folding import Client
from tests.laws import examples
from tests.logs import log_between
from tests.ports import RecordingAnnouncer

PEOPLE = 4
# Shrinking a failure takes minutes; the steps that are printed are few enough to read.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
person = st.integers(0, PEOPLE - 1)
room = st.integers(0, 1)
which = st.integers(0, 12)
Commit = Callable[..., AbstractContextManager[list[Any]]]


class Law(RuleBasedStateMachine):
    """Two conversations and four people who do whatever they may; each has a device that was last fetched at some
    moment and hears, or reads in the log later, what happened since."""

    tenant: Account
    announced: RecordingAnnouncer
    commits: Commit

    def __init__(self) -> None:
        super().__init__()
        self.before = transaction.savepoint()
        self.people = [self.tenant.user(unique("member")) for _ in range(PEOPLE)]
        self.apis = [self.tenant.api.acting_as(user["id"]) for user in self.people]
        with self.commits(execute=True):
            first = {"type": "group", "participantIds": [user["id"] for user in self.people]}
            second = {"type": "channel", "participantIds": [self.people[1]["id"]]}
            self.rooms = [self.apis[0].post("/conversations", body).data for body in (first, second)]
        self.messages: list[list[dict[str, Any]]] = [[], []]
        self.clients = [Client(user["id"], api) for user, api in zip(self.people, self.apis, strict=True)]
        for client in self.clients:
            client.fetch()
        self.heard: defaultdict[str, list[Announcement]] = defaultdict(list)
        for at, who in ((0, 0), (0, 1), (1, 0), (1, 1)):
            self.send(who, at, silent=False, reply=None)
        self.announced.announced.clear()

    def teardown(self) -> None:
        """Whoever is not up to date by now gets there, half of them by each way."""
        for who in range(PEOPLE):
            (self.catch_up if who % 2 else self.resume)(who)
        transaction.savepoint_rollback(self.before)

    def do(self, who: int | None, method: str, path: str, body: Any = None) -> Any:
        """Whatever is answered; what the commit announced goes to whom it concerns."""
        api = self.tenant.api if who is None else self.apis[who]
        with self.commits(execute=True):
            answer = api.request(method, path, body=body)
        for _, announcement in self.announced.announced:
            for client in self.clients:
                self.heard[client.user_id].append(announcement)
        self.announced.announced.clear()
        return answer

    def path(self, at: int, rest: str = "") -> str:
        return f"/conversations/{self.rooms[at]['id']}{rest}"

    def message(self, at: int, number: int) -> str:
        sent = self.messages[at]
        return str(sent[number % len(sent)]["id"])

    def spoken(self, at: int) -> bool:
        return bool(self.messages[at])

    # --- what people do ---------------------------------------------------------------------------------------------

    @rule(who=person, at=room, silent=st.booleans(), reply=st.none() | which)
    def send(self, who: int, at: int, silent: bool, reply: int | None) -> None:
        body = {"conversationId": self.rooms[at]["id"], "type": "text", "content": {"text": "hi"}, "silent": silent}
        if reply is not None and self.spoken(at):
            body["replyToId"] = self.message(at, reply)
        answer = self.do(who, "POST", "/messages/send", body)
        if answer.status == 200:
            self.messages[at].append(answer.data)

    @rule(who=st.none() | person, at=room, number=which, text=st.sampled_from(["new", "newer"]))
    def edit(self, who: int | None, at: int, number: int, text: str) -> None:
        if self.spoken(at):
            self.do(who, "PATCH", f"/messages/{self.message(at, number)}", {"content": {"text": text}})

    @rule(who=st.none() | person, at=room, number=which)
    def delete(self, who: int | None, at: int, number: int) -> None:
        if self.spoken(at):
            self.do(who, "DELETE", f"/messages/{self.message(at, number)}")

    @rule(who=person, at=room, number=which, name=st.sampled_from(["👍", "❤️"]), gives=st.booleans())
    def react(self, who: int, at: int, number: int, name: str, gives: bool) -> None:
        if self.spoken(at):
            path = f"/messages/{self.message(at, number)}/reactions"
            if gives:
                self.do(who, "POST", path, {"name": name})
            else:
                self.do(who, "DELETE", f"{path}/{name}")

    @rule(at=room, number=which, method=st.sampled_from(["PUT", "DELETE"]))
    def pin(self, at: int, number: int, method: str) -> None:
        if self.spoken(at):
            self.do(None, method, f"/messages/{self.message(at, number)}/pin")

    @rule(who=person, at=room, history=st.booleans())
    def add(self, who: int, at: int, history: bool) -> None:
        body = {"participantIds": [self.people[who]["id"]], "showHistory": history}
        self.do(None, "POST", self.path(at, "/participants"), body)

    @rule(who=person)
    def join(self, who: int) -> None:
        self.do(who, "POST", self.path(1, "/join"))

    @rule(who=person, at=room, leaves=st.booleans())
    def remove(self, who: int, at: int, leaves: bool) -> None:
        self.do(who if leaves else None, "DELETE", self.path(at, f"/participants/{self.people[who]['id']}"))

    @rule(who=person, at=room, role=st.sampled_from(["owner", "admin", "member", "observer"]))
    def change_role(self, who: int, at: int, role: str) -> None:
        self.do(None, "PATCH", self.path(at, f"/participants/{self.people[who]['id']}"), {"role": role})

    @rule(
        at=room,
        change=st.sampled_from(
            [
                {"title": "a"},
                {"title": ""},
                {"metadata": {"a": 1}},
                {"settings": {"isFrozen": True}},
                {"settings": {"isFrozen": False}},
            ]
        ),
    )
    def update(self, at: int, change: dict[str, Any]) -> None:
        self.do(None, "PATCH", self.path(at), change)

    @rule(who=person, at=room, seq=st.integers(0, 30))
    def read(self, who: int, at: int, seq: int) -> None:
        self.do(who, "POST", self.path(at, "/read"), {"seq": seq})

    @rule(who=person, at=room, number=which)
    def unread(self, who: int, at: int, number: int) -> None:
        if self.spoken(at):
            self.do(who, "POST", self.path(at, "/unread"), {"messageId": self.message(at, number)})

    @rule(
        who=person,
        at=room,
        change=st.sampled_from([{"pinned": True}, {"archived": True}, {"hidden": True}, {"hidden": False}]),
    )
    def set_membership(self, who: int, at: int, change: dict[str, Any]) -> None:
        self.do(who, "PATCH", self.path(at, "/membership"), change)

    @rule(who=person, whom=person, blocks=st.booleans())
    def block(self, who: int, whom: int, blocks: bool) -> None:
        path = f"/users/{self.people[who]['id']}/blocks"
        if blocks:
            self.do(who, "POST", path, {"userId": self.people[whom]["id"]})
        else:
            self.do(who, "DELETE", f"{path}/{self.people[whom]['id']}")

    @rule(tells=st.booleans())
    def choose(self, tells: bool) -> None:
        self.do(None, "PATCH", "/settings", {"membershipMessages": tells})

    # --- what their devices do --------------------------------------------------------------------------------------

    @rule(who=person)
    def fetch(self, who: int) -> None:
        self.clients[who].fetch()
        self.heard[self.people[who]["id"]].clear()

    @rule(who=person)
    def catch_up(self, who: int) -> None:
        """By what was announced, as a connected device hears it."""
        client = self.clients[who]
        for announcement in self.heard[client.user_id]:
            for type_, data in told(client, announcement):
                client.fold(type_, data)
        self.heard[client.user_id].clear()
        self.compare(client)

    @rule(who=person)
    def resume(self, who: int) -> None:
        """By what the log says, as a device that was away gets it; what is no part of a log it reads anew."""
        client = self.clients[who]
        now = Client(client.user_id, client.api)
        now.fetch()
        self.heard[client.user_id].clear()
        rejoined = {key for key, held in now.conversations.items() if self.place_is_other(client, key, held)}
        hidden_changed = now.blocked != client.blocked
        for conversation_id in list(client.conversations):
            if conversation_id not in now.conversations or conversation_id in rejoined or hidden_changed:
                del client.conversations[conversation_id]
        client.blocked = now.blocked
        for conversation_id, held in now.conversations.items():
            if conversation_id not in client.conversations:
                client.conversations[conversation_id] = held
                continue
            for type_, data in self.replayed(client, conversation_id):
                client.fold(type_, data)
            client.conversations[conversation_id]["conversation"]["membership"] = held["conversation"]["membership"]
        self.compare(client)

    def place_is_other(self, client: Client, key: str, held: dict[str, Any]) -> bool:
        """Whether they went and came back meanwhile: their view may begin elsewhere."""
        known = client.conversations.get(key)
        if known is None:
            return False
        mine = [
            [one["joinedAt"] for one in state["conversation"]["participants"] if one["userId"] == client.user_id]
            for state in (known, held)
        ]
        return mine[0] != mine[1]

    def replayed(self, client: Client, conversation_id: str) -> list[tuple[str, Any]]:
        first = client.conversations[conversation_id]["conversation"]["lastSeq"] + 1
        entries = log_between(self.tenant.tenant, UUID(conversation_id), first, 2**53)
        return [shown(client, entry.author_id, entry.type, entry.data) for entry in entries]

    @staticmethod
    def compare(client: Client) -> None:
        now = Client(client.user_id, client.api)
        now.fetch()
        assert client.blocked == now.blocked
        assert list(differences(client.state(), now.state())) == []


def differences(kept: Any, now: Any, path: str = "") -> Iterator[str]:
    """Where two states differ, for people to read."""
    if isinstance(kept, dict) and isinstance(now, dict):
        for key in kept.keys() | now.keys():
            yield from differences(kept.get(key, "absent"), now.get(key, "absent"), f"{path}/{key}")
    elif kept != now:
        yield f"{path}: kept {kept!r}, now {now!r}"


def shown(client: Client, author_id: UUID | None, type_: str, data: Any) -> tuple[str, Any]:
    if author_id is not None and str(author_id) in client.blocked:
        hidden = frames.event_hidden(UUID(data["conversationId"]), data["conversationExternalId"], data["seq"])
        return "event_hidden", json.loads(hidden)["data"]
    return type_, data


def told(client: Client, announcement: Announcement) -> list[tuple[str, Any]]:  # noqa: PLR0911 - one return a kind
    """What the user's connections are told of an announcement."""
    match announcement:
        case DurableEvent():
            return [shown(client, announcement.author_id, announcement.type, announcement.data)]
        case Joined() if UUID(client.user_id) in announcement.user_ids:
            return [("conversation_created", {"conversation": announcement.conversation})]
        case Left() if str(announcement.user_id) == client.user_id:
            return [("conversation_removed", {"conversationId": str(announcement.conversation_id)})]
        case ToUser() if str(announcement.user_id) == client.user_id:
            return [(announcement.type, announcement.data)]
        case ToOnlookers():
            return [(announcement.type, announcement.data)]
        case BlockChanged() if str(announcement.user_id) == client.user_id:
            return [("user_blocked" if announcement.is_blocked else "user_unblocked", announcement.data)]
    return []


def test_a_state_and_the_events_since_are_the_state_now(
    tenant: Account,
    announced: RecordingAnnouncer,
    django_capture_on_commit_callbacks: Commit,
) -> None:
    Law.tenant, Law.announced, Law.commits = tenant, announced, staticmethod(django_capture_on_commit_callbacks)
    run_state_machine_as_test(
        Law,
        settings=settings(
            max_examples=examples(10),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
        ),
    )
