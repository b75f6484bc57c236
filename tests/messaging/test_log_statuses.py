"""A message's status is one rule, asked in two ways: of single messages, and of whole stretches of logs."""

import random
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.db.models import F

from messaging.models import Conversation, Message, Participant, User
from messaging.queries import messages
from messaging.queries.log import LogSpan
from tenants.scope import tenant_scope
from tests.accounts import Account

pytestmark = pytest.mark.core

SAID = 6


def _shake(dice: random.Random, room: Any) -> None:
    """Any state that a conversation can get into: people who are gone, who left, who read or were reached, or not."""
    Participant.objects.filter(conversation_id=room["id"]).update(last_read_seq=0, last_delivered_seq=0)
    for place in Participant.objects.filter(conversation_id=room["id"]):
        if dice.random() < 0.2:
            place.delete()
            Conversation.objects.filter(pk=room["id"]).update(participant_count=F("participant_count") - 1)
            continue
        place.last_read_seq = dice.choice([0, dice.randint(0, SAID), SAID])
        place.last_delivered_seq = dice.choice([0, dice.randint(0, SAID), SAID])
        place.save()
    authors = [*User.objects.all(), None]
    for message in Message.objects.filter(conversation_id=room["id"]):
        message.sender = dice.choice(authors)
        message.save()


@pytest.mark.parametrize("people", [1, 2, 3, 5])
def test_both_ways_say_the_same(tenant: Account, people: int) -> None:
    members = [tenant.user(f"user-{number}") for number in range(people)]
    rooms = [tenant.conversation(*members, type="group") for _ in range(2)]
    for room in rooms:
        for number in range(SAID):
            tenant.message(room, members[number % people])
    spans = [LogSpan(UUID(room["id"]), 1, SAID) for room in rooms]
    seen: set[str] = set()
    dice = random.Random(people)
    for _ in range(25):
        with tenant_scope(tenant):
            for room in rooms:
                _shake(dice, room)
            together = {view.id: view for view in messages.views_of(messages.in_spans(spans).fetch())}
            assert together == messages.get_messages(list(together))
            assert len(together) == 2 * SAID
            seen |= {view.status for view in together.values()}
            transaction.set_rollback(True)
    assert seen == ({"sent"} if people == 1 else {"sent", "delivered", "read"})


@pytest.mark.parametrize(("count", "expected"), [(100, "read"), (101, "sent")])
def test_above_100_people_nobody_looks(tenant: Account, count: int, expected: str) -> None:
    ada, bob = tenant.user("ada"), tenant.user("bob")
    room = tenant.conversation(ada, bob)
    message = tenant.message(room, ada)
    with tenant_scope(tenant):
        Participant.objects.update(last_read_seq=1)
        Conversation.objects.update(participant_count=count)
        (view,) = messages.views_of(messages.in_spans([LogSpan(UUID(room["id"]), 1, 1)]).fetch())
        assert (view.status, messages.get_messages([UUID(message["id"])])[view.id]) == (expected, view)
