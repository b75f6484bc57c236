"""The unread law: after any sequence, every unread count equals the one recounted from the log, for every member."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.queries.unread import UnreadTotal, recount, unread_counts, unread_total
from tenants.scope import tenant_scope
from tests.accounts import Account, unique
from tests.laws import examples

PEOPLE = 3
step = st.one_of(
    st.tuples(st.just("send"), st.integers(0, PEOPLE - 1), st.booleans(), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("read"), st.integers(0, PEOPLE - 1), st.integers(1, 40)),
    st.tuples(st.just("unread"), st.integers(0, PEOPLE - 1), st.integers(0, 30)),
    st.tuples(st.just("react"), st.integers(0, PEOPLE - 1), st.integers(0, 30)),
    st.tuples(st.just("edit"), st.integers(0, 30)),
    st.tuples(st.just("block"), st.integers(0, PEOPLE - 1), st.integers(0, PEOPLE - 1)),
    st.tuples(st.just("unblock"), st.integers(0, PEOPLE - 1), st.integers(0, PEOPLE - 1)),
    st.tuples(st.just("leave"), st.integers(0, PEOPLE - 1)),
    st.tuples(st.just("return"), st.integers(0, PEOPLE - 1), st.booleans()),
)


class _Group:
    """Drives one conversation through the public API."""

    def __init__(self, tenant: Account) -> None:
        self.tenant = tenant
        self.people = [tenant.user(unique("member")) for _ in range(PEOPLE)]
        self.conversation = tenant.conversation(*self.people)
        self.path = f"/conversations/{self.conversation['id']}"
        self.present = set(range(PEOPLE))
        self.messages: list[dict[str, Any]] = []

    def send(self, person: int, silent: bool, reply: bool) -> None:
        if person in self.present:
            answered = {"replyToId": self.messages[-1]["id"]} if reply and self.messages else {}
            sender = self.people[person]
            self.messages.append(self.tenant.message(self.conversation, sender, silent=silent, **answered))

    def delete(self, which: int) -> None:
        if which < len(self.messages):
            assert self.tenant.api.delete(f"/messages/{self.messages[which]['id']}").status == 200

    def edit(self, which: int) -> None:
        if which < len(self.messages):
            self.tenant.api.patch(f"/messages/{self.messages[which]['id']}", {"content": {"text": "edited"}})

    def read(self, person: int, seq: int) -> None:
        self._as(person).post(f"{self.path}/read", {"seq": seq})

    def unread(self, person: int, which: int) -> None:
        if which < len(self.messages):
            self._as(person).post(f"{self.path}/unread", {"messageId": self.messages[which]["id"]})

    def react(self, person: int, which: int) -> None:
        if which < len(self.messages):
            self._as(person).post(f"/messages/{self.messages[which]['id']}/reactions", {"name": "👍"})

    def leave(self, person: int) -> None:
        if person in self.present:
            assert self.tenant.api.delete(f"{self.path}/participants/{self.people[person]['id']}").status == 200
            self.present.discard(person)

    def return_(self, person: int, show_history: bool) -> None:
        body = {"participantIds": [self.people[person]["id"]], "showHistory": show_history}
        assert self.tenant.api.post(f"{self.path}/participants", body).status == 200
        self.present.add(person)

    def block(self, person: int, whom: int) -> None:
        if person != whom:
            self.tenant.api.post(f"/users/{self.people[person]['id']}/blocks", {"userId": self.people[whom]["id"]})

    def unblock(self, person: int, whom: int) -> None:
        path = f"/users/{self.people[person]['id']}/blocks/{self.people[whom]['id']}"
        assert self.tenant.api.delete(path).status == 200

    def _as(self, person: int) -> Any:
        return self.tenant.api.acting_as(self.people[person]["id"])


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=25))
@pytest.mark.core
def test_every_unread_count_equals_the_recount(tenant: Account, steps: list[tuple[Any, ...]]) -> None:
    group = _Group(tenant)
    conversation_id = UUID(group.conversation["id"])
    for name, *arguments in steps:
        getattr(group, "return_" if name == "return" else name)(*arguments)
        with tenant_scope(tenant):
            expected = recount(conversation_id)
            assert {UUID(group.people[person]["id"]) for person in group.present} == expected.keys()
            for user_id, count in expected.items():
                assert unread_counts(user_id, [conversation_id])[conversation_id] == count
                assert unread_total(user_id) == UnreadTotal(count, int(count > 0))


def test_the_total_is_the_sum_over_all_conversations(tenant: Account) -> None:
    ada, bob, eve = tenant.users(3)
    first, second, read, blocked = (tenant.conversation(ada, bob, eve) for _ in range(4))
    for room, count in ((first, 3), (second, 1), (read, 2)):
        tenant.messages(room, bob, count)
    gone = tenant.message(first, bob)
    assert tenant.api.delete(f"/messages/{gone['id']}").status == 200
    tenant.messages(blocked, eve, 2)
    api = tenant.api.acting_as(ada["id"])
    assert api.post(f"/users/{ada['id']}/blocks", {"userId": eve["id"]}).status == 201
    assert api.post(f"/conversations/{read['id']}/read", {"seq": 2}).status == 200
    path = f"/users/{ada['id']}/unread"
    assert api.get(path).data == {"unreadMessages": 4, "unreadConversations": 2}
    with tenant_scope(tenant):
        counts = unread_counts(UUID(ada["id"]))
    assert sorted(counts.values()) == [0, 0, 1, 3]
    nobody = tenant.user()
    assert tenant.api.get(f"/users/{nobody['id']}/unread").data == {"unreadMessages": 0, "unreadConversations": 0}
