"""The idempotency law: whatever is repeated, at once, late, out of order or in one batch, and whatever became of the
message meanwhile: one message for each `clientMessageId`, and a repeat is answered with what is there now."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from messagecore.kernel.errors import Refusal
from messaging.models import Message
from messaging.rendering import render_message
from messaging.services.batching import SendBatcher
from messaging.services.sending import Draft, Sent, draft_from_body, send_messages
from quotas.services.limits import get_limits
from tenants.scope import tenant_scope
from tenants.services.authentication import tenant_card
from tests.accounts import Account, draft, unique
from tests.laws import examples
from tests.ports import as_sent
from tests.threads import at_once

pytestmark = pytest.mark.core

WAYS = ("back end", "browser", "socket")
TEXTS = ("one", "two")

people = st.integers(0, 1)
rooms = st.integers(0, 1)
names = st.integers(0, 3)
texts = st.sampled_from(TEXTS)
ways = st.sampled_from(WAYS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sender is told, however it sent: a message, or why not."""

    message: Any = None
    code: str = ""


@dataclass
class Known:
    """A message that is there, as it has to be answered."""

    message_id: str
    person: int
    body: tuple[int, str]
    content: dict[str, Any]
    deleted: bool = False


@dataclass
class Sender:
    """Two people, two conversations, and every way to send from one to the other."""

    account: Account
    batcher: SendBatcher
    people: list[Any]
    rooms: list[Any] = field(default_factory=list)

    def body(self, person: int, room: int, name: str, text: str) -> dict[str, Any]:
        sent = draft(self.rooms[room], None, text, clientMessageId=name)
        return sent | {"senderId": self.people[person]["id"]}

    def send(self, way: str, body: dict[str, Any]) -> Outcome:
        person = next(person for person in self.people if person["id"] == body["senderId"])
        if way == "socket":
            return self._through_the_batcher(body)
        api = self.account.api if way == "back end" else self.account.user_api(person)
        answer = api.post("/messages/send", body)
        return Outcome(answer.data) if answer.status == 200 else Outcome(code=answer.code)

    def _through_the_batcher(self, body: dict[str, Any]) -> Outcome:
        sent = draft_from_body(body, sender=body["senderId"], hides_conversation=True)
        try:
            outcome = self.batcher.submit(tenant_card(self.account.tenant), sent, via="socket").result(30)
        except Refusal as refusal:
            return Outcome(code=refusal.code)
        return Outcome(as_sent(render_message(outcome.message)))

    def send_in_one_batch(self, bodies: list[dict[str, Any]]) -> list[Outcome]:
        drafts: list[Draft] = [
            draft_from_body(body, sender=body["senderId"], hides_conversation=True) for body in bodies
        ]
        get_limits(self.account.id)
        with tenant_scope(self.account):
            outcomes = send_messages(tenant_id=self.account.id, drafts=drafts, via="test")
        return [
            Outcome(as_sent(render_message(outcome.message)))
            if isinstance(outcome, Sent)
            else Outcome(code=outcome.code)
            for outcome in outcomes
        ]


class Law(RuleBasedStateMachine):
    """Sends under a few names, again and again, in every way, with edits and deletions in between."""

    sender: Sender
    ran: Counter[str]

    @initialize()
    def begin(self) -> None:
        self.prefix = unique("c")
        self.known: dict[tuple[int, str], Known] = {}
        self.sender.rooms = [self.sender.account.conversation(*self.sender.people) for _ in range(2)]

    def _name(self, name: int) -> str:
        return f"{self.prefix}-{name}"

    def _hold(self, person: int, body: dict[str, Any], outcome: Outcome, *, wanted: tuple[int, str]) -> None:
        """One outcome against what is known: the first of its name, a repeat, or another message under the name."""
        key = person, body["clientMessageId"]
        known = self.known.get(key)
        self.ran["idempotency law sends"] += 1
        if known is None:
            assert outcome.message is not None, outcome.code
            self.known[key] = Known(outcome.message["id"], person, wanted, outcome.message["content"])
            assert outcome.message["content"] == {"text": wanted[1]}
        elif known.body != wanted:
            assert outcome == Outcome(code="idempotency_conflict")
        else:
            assert outcome.message is not None, outcome.code
            shown = outcome.message
            assert (shown["id"], shown["content"], shown["deletedAt"] is not None) == (
                known.message_id,
                known.content,
                known.deleted,
            )

    @rule(person=people, room=rooms, name=names, text=texts, way=ways)
    def send(self, person: int, room: int, name: int, text: str, way: str) -> None:
        """Also the repeat whose first ack was lost: it is the same call again."""
        body = self.sender.body(person, room, self._name(name), text)
        self._hold(person, body, self.sender.send(way, body), wanted=(room, text))

    @rule(person=people, room=rooms, name=names, text=texts, same=st.lists(ways, min_size=2, max_size=4))
    def send_at_once(self, person: int, room: int, name: int, text: str, same: list[str]) -> None:
        body = self.sender.body(person, room, self._name(name), text)
        for outcome in at_once(*(lambda way=way: self.sender.send(way, body) for way in same)):
            self._hold(person, body, outcome, wanted=(room, text))

    @rule(person=people, name=names, text=texts, same=st.tuples(ways, ways))
    def send_to_both_at_once(self, person: int, name: int, text: str, same: tuple[str, str]) -> None:
        """One name in two conversations at the same moment: one of them wins, whichever."""
        bodies = [self.sender.body(person, room, self._name(name), text) for room in range(2)]
        outcomes = at_once(
            *(lambda way=way, body=body: self.sender.send(way, body) for way, body in zip(same, bodies, strict=True))
        )
        order = sorted(range(2), key=lambda room: outcomes[room].message is None)
        if (person, self._name(name)) not in self.known:
            assert [outcomes[room].code for room in order] == ["", "idempotency_conflict"]
        for room in order:
            self._hold(person, bodies[room], outcomes[room], wanted=(room, text))

    @rule(drafts=st.lists(st.tuples(people, rooms, names, texts), min_size=2, max_size=6), seed=st.integers(0, 99))
    def send_in_one_batch(self, drafts: list[tuple[int, int, int, str]], seed: int) -> None:
        """Each draft twice, shuffled: what comes first in the batch is the message."""
        doubled = drafts * 2
        random.Random(seed).shuffle(doubled)
        bodies = [self.sender.body(person, room, self._name(name), text) for person, room, name, text in doubled]
        outcomes = self.sender.send_in_one_batch(bodies)
        for (person, room, _, text), body, outcome in zip(doubled, bodies, outcomes, strict=True):
            self._hold(person, body, outcome, wanted=(room, text))

    @rule(person=people, name=names, text=texts)
    def edit(self, person: int, name: int, text: str) -> None:
        known = self.known.get((person, self._name(name)))
        if known is not None and not known.deleted:
            content = {"text": f"{text}, edited"}
            answer = self.sender.account.api.patch(f"/messages/{known.message_id}", {"content": content})
            assert answer.status == 200
            known.content = content

    @rule(person=people, name=names)
    def delete(self, person: int, name: int) -> None:
        known = self.known.get((person, self._name(name)))
        if known is not None:
            assert self.sender.account.api.delete(f"/messages/{known.message_id}").status == 200
            known.content, known.deleted = {}, True

    @invariant()
    def there_is_one_message_for_each_name(self) -> None:
        if not self.sender.rooms:
            return
        with tenant_scope(self.sender.account):
            rows = Message.objects.filter(conversation_id__in=[UUID(room["id"]) for room in self.sender.rooms])
            stored = {
                str(row.id): (str(row.sender_id), row.client_message_id, str(row.conversation_id)) for row in rows
            }
        assert stored == {
            known.message_id: (
                self.sender.people[person]["id"],
                name,
                self.sender.rooms[known.body[0]]["id"],
            )
            for (person, name), known in self.known.items()
        }


def test_one_message_whatever_is_repeated(committed_tenant: Account, ran: Counter[str]) -> None:
    batcher = SendBatcher(threads=2)
    sender = Sender(committed_tenant, batcher, committed_tenant.users(2))

    class Bound(Law):
        pass

    Bound.sender, Bound.ran = sender, ran
    try:
        run_state_machine_as_test(
            Bound, settings=settings(max_examples=examples(20), stateful_step_count=15, deadline=None)
        )
    finally:
        batcher.close(timeout_s=10)
    used = committed_tenant.api.get("/usage").data["messages"]["current"]
    with tenant_scope(committed_tenant):
        assert used == Message.objects.count(), "a repeat costs nothing"
    assert ran["idempotency law sends"] > 15 * examples(20)


def test_reordered_retries_of_many_messages_keep_what_came_first(committed_tenant: Account) -> None:
    """A client without acks sends everything again, newest first, on several connections at once."""
    batcher = SendBatcher(threads=2)
    sender = Sender(committed_tenant, batcher, committed_tenant.users(1))
    sender.rooms = [committed_tenant.conversation(sender.people[0])]
    bodies = [sender.body(0, 0, f"c-{number}", f"text {number}") for number in range(12)]
    try:
        first = [sender.send("socket", body).message["id"] for body in bodies]
        again = at_once(
            *(
                lambda way=way, order=order: [sender.send(way, bodies[number]).message["id"] for number in order]
                for way, order in zip(
                    WAYS, (range(11, -1, -1), range(12), random.Random(1).sample(range(12), 12)), strict=True
                )
            )
        )
    finally:
        batcher.close(timeout_s=10)
    assert again[0] == first[::-1]
    assert again[1] == first
    assert sorted(again[2]) == sorted(first)
    page = committed_tenant.api.get(f"/messages/conversations/{sender.rooms[0]['id']}").data["messages"]
    assert [(message["id"], message["seq"]) for message in page] == [
        (message_id, seq) for seq, message_id in enumerate(first, start=1)
    ]
