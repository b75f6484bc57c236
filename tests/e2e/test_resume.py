"""Resuming over real processes: what was missed comes in order, completely and once, and the client is told of what it
cannot have."""

import asyncio
from typing import Any

import pytest

from tests.e2e.client import Refused, Socket, World, seqs
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

NOBODY = "01900000-0000-7000-8000-000000000000"


async def resumed(socket: Socket, held: dict[str, int]) -> dict[str, Any]:
    """The `resumed` data; what was missed has come before it."""
    answer: dict[str, Any] = await socket.command("resume", {"conversations": held})
    return answer


async def reopen(world: World, user: dict[str, Any], held: dict[str, int], server: int = 0) -> tuple[Socket, Any]:
    """A new connection that resumes right behind `authenticate`, without waiting for its answer."""
    socket = await world.raw_socket(server)
    await socket.send(
        "authenticate", {"apiKey": world.tenant.publishable_key, "token": world.tenant.token(user["externalUserId"])}
    )
    answer = await resumed(socket, held)
    return socket, answer


async def test_what_was_missed_comes_before_what_is_new(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    busy, quiet = await world.conversation(ann, ben), await world.conversation(ann, ben)
    talker = await world.socket(ben, 1)
    for number in range(30):
        await talker.say(busy, str(number))
    await talker.say(quiet, "once")
    socket, answer = await reopen(world, ann, {busy: 10, quiet: 1})
    await talker.say(busy, "new")
    await socket.expect("new_message", seq=31)
    assert seqs(socket, busy) == list(range(11, 32))
    assert seqs(socket, quiet) == []
    assert {id_: (one["seq"], one["complete"]) for id_, one in answer["conversations"].items()} == {
        busy: (30, True),
        quiet: (1, True),
    }
    assert answer["conversations"][busy]["membership"]["unreadCount"] == 30
    states = {frame["data"]["conversationId"]: frame["data"] for frame in socket.of_type("unread_updated")}
    assert (states[busy]["unreadCount"], states[busy]["lastSeq"], states[quiet]["unreadCount"]) == (30, 30, 1)
    assert answer["blockedUserIds"] == []


async def test_nothing_comes_before_the_resume_of_a_client_that_waits_for_its_answer(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    talker = await world.socket(ben, 1)
    for number in range(5):
        await talker.say(conversation, str(number))
    socket = await world.socket(ann)
    await talker.say(conversation, "between authenticated and resume")
    await asyncio.sleep(0.2)
    assert seqs(socket, conversation) == []
    await resumed(socket, {conversation: 2})
    assert seqs(socket, conversation) == [3, 4, 5, 6]


async def test_a_client_that_does_not_resume_hears_soon(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    talker = await world.socket(ben, 1)
    socket = await world.socket(ann)
    await talker.say(conversation, "hello")
    await socket.expect("new_message", seq=1)


async def test_resuming_again_goes_back(world: World) -> None:
    """A client that lost what it held asks for it on the same connection."""
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    talker = await world.socket(ben)
    for number in range(3):
        await talker.say(conversation, str(number))
    socket, _ = await reopen(world, ann, {conversation: 3})
    await talker.say(conversation, "live")
    await socket.expect("new_message", seq=4)
    answer = await resumed(socket, {conversation: 1})
    assert answer["conversations"][conversation]["seq"] == 4
    assert seqs(socket, conversation) == [4, 2, 3, 4]
    await talker.say(conversation, "more")
    await socket.expect("new_message", seq=5)
    assert seqs(socket, conversation) == [4, 2, 3, 4, 5]


async def test_either_id_names_a_conversation(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.rest(0)(
        "POST", "/conversations", {"type": "group", "participantIds": [ann["id"], ben["id"]], "externalId": "大厅 7"}
    )
    talker = await world.socket(ben)
    await talker.say(conversation["id"], "one")
    socket, answer = await reopen(world, ann, {"大厅 7": 0})
    assert (answer["conversations"]["大厅 7"]["seq"], answer["conversations"]["大厅 7"]["complete"]) == (1, True)
    assert seqs(socket, conversation["id"]) == [1]


async def test_what_the_client_did_not_name_is_announced_and_what_it_lost_is_removed(world: World) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    known, new, lost, others = [
        await world.conversation(*people) for people in ((ann, ben), (ann, ben), (ann, ben, eve), (ben, eve))
    ]
    talker = await world.socket(ben)
    await talker.say(new, "one")
    await world.rest(0)("DELETE", f"/conversations/{lost}/participants/{ann['id']}")
    socket, answer = await reopen(world, ann, {known: 0, lost: 0, others: 0, NOBODY: 3, "no such room": 0})
    (created,) = [frame["data"]["conversation"] for frame in socket.of_type("conversation_created")]
    assert (created["id"], created["lastSeq"], created["membership"]["unreadCount"]) == (new, 1, 1)
    removed = [(one["data"]["conversationId"], one["data"]["reason"]) for one in socket.of_type("conversation_removed")]
    # Nothing tells a conversation of others from one that does not exist.
    assert removed == [(lost, "removed"), (others, "removed"), (NOBODY, "removed")]
    gone = {"complete": False, "reason": "removed"}
    assert {name: one for name, one in answer["conversations"].items() if name != known} == {
        lost: {"seq": 0} | gone,
        others: {"seq": 0} | gone,
        NOBODY: {"seq": 3} | gone,
        "no such room": {"seq": 0} | gone,
    }
    await talker.say(new, "two")
    await socket.expect("new_message", seq=2)
    assert seqs(socket, new) == [2]


async def test_who_came_back_to_a_hidden_history_is_told_from_where_it_goes_on(world: World) -> None:
    ann, ben, eve = await world.users("ann", "ben", "eve")
    rest = world.rest(0)
    rooms = {}
    for history in ("hidden", "shown"):
        rooms[history] = await world.conversation(ann, ben, eve)
        settings = {"historyForNewcomers": history == "shown"}
        await rest("PATCH", f"/conversations/{rooms[history]}", {"settings": settings})  # seq 1
    talker = await world.socket(ben)
    for room in rooms.values():
        await rest("DELETE", f"/conversations/{room}/participants/{ann['id']}")  # 2
        await talker.say(room, "meanwhile")  # 3
        await rest("POST", f"/conversations/{room}/participants", {"participantIds": [ann["id"]]})  # 4
        await talker.say(room, "again")  # 5
    socket, answer = await reopen(world, ann, dict.fromkeys(rooms.values(), 1))
    first = answer["conversations"][rooms["hidden"]]["truncatedBefore"]
    assert answer["conversations"][rooms["hidden"]] | {"membership": None} == {
        "seq": 5,
        "complete": False,
        "truncatedBefore": first,
        "reason": "membership",
        "membership": None,
    }
    assert seqs(socket, rooms["hidden"]) == list(range(first, 6))
    assert first > 3
    assert answer["conversations"][rooms["shown"]]["complete"] is True
    assert seqs(socket, rooms["shown"]) == [2, 3, 4, 5]
    assert socket.of_type("conversation_removed") == []


async def test_what_blocked_people_wrote_is_hidden_at_its_place(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    talker = await world.socket(ben)
    for number in range(3):
        await talker.say(conversation, str(number))
    await world.rest(0)("POST", f"/users/{ann['id']}/blocks", {"userId": ben["id"]})
    socket, answer = await reopen(world, ann, {conversation: 0})
    assert [(frame["type"], frame["data"]["seq"]) for frame in socket.frames if "seq" in frame["data"]] == [
        ("event_hidden", 1),
        ("event_hidden", 2),
        ("event_hidden", 3),
    ]
    assert answer["blockedUserIds"] == [ben["id"]]
    assert answer["conversations"][conversation]["membership"]["unreadCount"] == 0


async def test_a_client_ahead_of_the_log_is_told_so(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    socket, answer = await reopen(world, ann, {conversation: 99})
    outcome = answer["conversations"][conversation]
    assert (outcome["seq"], outcome["complete"], outcome["reason"]) == (0, False, "ahead")
    await (await world.socket(ben)).say(conversation, "first")
    await socket.expect("new_message", seq=1)


async def test_many_conversations_and_long_gaps_interleave(world: World, cluster: Cluster) -> None:
    """Everything arrives once and in order while others go on writing."""
    ann, ben = await world.users("ann", "ben")
    rooms = [await world.conversation(ann, ben) for _ in range(12)]
    talker = await world.socket(ben, 1)
    for number in range(80):
        for room in rooms[: 12 if number < 5 else 3]:
            await talker.say(room, str(number))

    async def go_on() -> None:
        for number in range(60):
            await talker.say(rooms[number % 12], f"while resuming {number}")

    (socket, answer), _ = await asyncio.gather(reopen(world, ann, dict.fromkeys(rooms, 0)), go_on())
    ends = {room: (85 if place < 3 else 10) for place, room in enumerate(rooms)}
    for room, end in ends.items():
        await socket.until(lambda room=room, end=end: seqs(socket, room)[-1:] == [end], 15, "all is there")
        assert seqs(socket, room) == list(range(1, end + 1))
        assert answer["conversations"][room]["complete"] is True
    assert [fault for server in cluster.servers for fault in server.faults()] == []


async def test_garbage_is_refused_and_changes_nothing(world: World) -> None:
    ann, ben = await world.users("ann", "ben")
    conversation = await world.conversation(ann, ben)
    talker = await world.socket(ben)
    await talker.say(conversation, "one")
    raw = await world.raw_socket(0)
    await raw.send("resume", {"conversations": {}}, id="early")
    refused = await raw.expect("error")
    assert (refused["id"], refused["data"]["code"]) == ("early", "not_authenticated")
    socket = await world.socket(ann)
    for held in ([], {conversation: -1}, {conversation: "1"}, {"": 1}, None):
        with pytest.raises(Refused) as error:
            await socket.command("resume", {"conversations": held})
        assert error.value.code == "validation_failed"
    assert seqs(socket, conversation) == []
    await resumed(socket, {conversation: 0})
    assert seqs(socket, conversation) == [1]


async def test_who_begins_to_look_is_told_how_far_the_others_have_read(world: World) -> None:
    """Read positions that moved while nobody looked are found again."""
    ann, ben, eve = await world.users("ann", "ben", "eve")
    conversation = await world.conversation(ann, ben, eve)
    talker = await world.socket(ben, 1)
    for number in range(3):
        await talker.say(conversation, str(number))
    socket, _ = await reopen(world, ann, {conversation: 0})
    await socket.command("join_conversation", {"conversationId": conversation})
    shown = await socket.expect("conversation_read", userId=ben["id"])
    assert (shown["data"]["conversationId"], shown["data"]["lastReadSeq"]) == (conversation, 3)
    await world.rest(0, **{"X-Acting-User": eve["id"]})("POST", f"/conversations/{conversation}/read", {"seq": 2})
    heard = await socket.expect("conversation_read", userId=eve["id"])
    assert heard["data"]["lastReadSeq"] == 2
    assert heard["data"]["timestamp"] > shown["data"]["timestamp"]
    assert len(socket.of_type("conversation_read")) == 2
