"""Saying over a real socket that messages have arrived; and messages that are sent by a real worker at their time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async

from messagecore.kernel import wire
from tests.e2e.client import Refused, World
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e


async def test_what_arrived_is_told_to_onlookers_once_and_shown(world: World) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    room = await world.conversation(ann, ben)
    writer, reader = await world.socket(ann, 0), await world.socket(ben, 1)
    await writer.command("join_conversation", {"conversationId": room})
    message = await writer.say(room, "hello")
    await reader.expect("new_message", seq=1)
    for seq in (1, 1, 0, 99):
        assert await reader.command("mark_delivered", {"conversationId": room, "seq": seq}) == {}
    told = await writer.expect("conversation_delivered")
    assert {name: told["data"][name] for name in told["data"] if name != "timestamp"} == {
        "conversationId": room,
        "conversationExternalId": None,
        "userId": ben["id"],
        "externalUserId": ben["externalUserId"],
        "lastDeliveredSeq": 1,
    }
    await writer.settle()
    assert writer.of_type("conversation_delivered") == [told]
    assert reader.of_type("conversation_delivered") == [], "who does not look does not hear"
    rest = world.rest()
    shown = await rest("GET", f"/messages/{message['id']}")
    assert shown["status"] == "delivered"
    await reader.command("mark_read", {"conversationId": room, "seq": 1})
    assert (await rest("GET", f"/messages/{message['id']}"))["status"] == "read"

    stranger = await world.socket(eve)
    with pytest.raises(Refused) as refused:
        await stranger.command("mark_delivered", {"conversationId": room, "seq": 1})
    assert refused.value.code == "conversation_not_found"
    with pytest.raises(Refused) as refused:
        await reader.command("mark_delivered", {"conversationId": room, "seq": -1})
    assert refused.value.code == "validation_failed"


async def test_a_scheduled_message_is_sent_late_and_once_after_the_worker_was_down(
    make_cluster: Callable[..., Cluster], make_world: Callable[[Cluster], Awaitable[World]]
) -> None:
    """Its time comes while neither worker nor scheduler runs."""
    cluster = await sync_to_async(make_cluster)(1)
    world = await make_world(cluster)
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    reader = await world.socket(ben)
    send_at = datetime.now(UTC) + timedelta(seconds=8)
    body = {"conversationId": room, "senderId": ann["id"], "type": "text", "content": {"text": "on time"}}
    rest = world.rest()
    kept = await rest("POST", "/messages/scheduled", body | {"sendAt": wire.timestamp(send_at)})
    await asyncio.sleep((send_at - datetime.now(UTC)).total_seconds() + 0.5)
    await sync_to_async(cluster.start_worker)()
    came = await reader.expect("new_message", seq=1, timeout_s=60)
    assert came["data"]["message"]["content"] == {"text": "on time"}
    assert wire.parse_timestamp(came["data"]["message"]["createdAt"]) > send_at + timedelta(seconds=0.5)
    sent = await rest("GET", f"/messages/scheduled/{kept['id']}")
    assert (sent["status"], sent["messageId"]) == ("sent", came["data"]["message"]["id"])
    await reader.settle()
    assert len(reader.of_type("new_message")) == 1
