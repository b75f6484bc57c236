"""Laws of the socket, over every command and every event of the catalogue: what a role may, that a repeat leaves one
message, and that another tenant's ids lead nowhere and its events come to nobody. A command or an event that these
tests cannot bring about fails until they can."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from psycopg import sql

from messagecore.kernel import catalogue
from messaging.models import Role
from messaging.roles import Action, may
from realtime.commands import HANDLERS
from tests.e2e.client import Refused, Socket, Tenant, World, eventually, unique
from tests.e2e.cluster import Cluster, Database

pytestmark = pytest.mark.e2e

SECRET = "for our eyes only"
NOWHERE = "019a2f53-b8f0-7d26-b3a9-1e5c7d904f62"
WITHOUT_IDS = {"authenticate", "set_presence", "ping"}

# What a role needs to use a command on somebody else's message; `edit_message` asks who wrote it, not for a role.
ACTIONS: dict[str, Action | None] = {
    "join_conversation": Action.READ,
    "leave_conversation": Action.READ,
    "typing_start": Action.READ,
    "typing_stop": Action.READ,
    "mark_read": Action.READ,
    "mark_delivered": Action.READ,
    "resume": Action.READ,
    "send_message": Action.SEND,
    "edit_message": None,
    "delete_message": Action.DELETE_ANY_MESSAGE,
    "add_reaction": Action.REACT,
    "remove_reaction": Action.READ,
}


def data_for(command: str, *, conversation: str, message: str, user: str) -> dict[str, Any]:
    """The catalogue's example of a command, with these ids in it."""
    schema = catalogue.definitions()[catalogue.commands()[command]["schema"]]
    named = {
        "conversationId": conversation,
        "messageId": message,
        "replyToId": message,
        "mentions": [user],
        "conversations": {conversation: 0},
        "clientMessageId": unique("c"),
        "seq": 1,
    }
    data = {name: named.get(name, value) for name, value in schema["examples"][0].items()}
    assert data.keys() & {"conversationId", "messageId", "conversations"}, f"say in this file what {command} names"
    return data


def test_every_command_is_tried() -> None:
    assert set(catalogue.commands()) == ACTIONS.keys() | WITHOUT_IDS, "say in ACTIONS what a role needs for it"


HANDLED = [command for command in ACTIONS if command in HANDLERS]


# --- roles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [str(role) for role in Role])
async def test_a_role_may_by_socket_what_the_table_says(world: World, role: str) -> None:
    rest = world.rest()
    actor, other = await world.users("actor", "other")
    room = await world.conversation(actor, other)
    if role != "member":
        await rest("PATCH", f"/conversations/{room}/participants/{actor['id']}", {"role": role})
    socket = await world.socket(actor)

    async def outcome(command: str, data: dict[str, Any]) -> str:
        try:
            await socket.command(command, data)
        except Refused as refused:
            return refused.code
        return ""

    async def message_of_the_other() -> str:
        body = {"conversationId": room, "senderId": other["id"], "type": "text", "content": {"text": "hi"}}
        return str((await rest("POST", "/messages/send", body))["id"])

    for command in HANDLED:
        message = await message_of_the_other()
        data = data_for(command, conversation=room, message=message, user=other["id"])
        action = ACTIONS[command]
        allowed = action is not None and may(role, action)
        before = len(await world.log(room)), await rest("GET", f"/messages/{message}")
        assert await outcome(command, data) == ("" if allowed else "permission_denied"), command
        if not allowed:
            assert (len(await world.log(room)), await rest("GET", f"/messages/{message}")) == before

    sends = data_for("send_message", conversation=room, message=NOWHERE, user=other["id"])
    await rest("PATCH", f"/conversations/{room}", {"settings": {"isFrozen": True}})
    frozen = "conversation_frozen" if may(role, Action.SEND) else "permission_denied"
    allowed = may(role, Action.SEND_WHEN_FROZEN)
    assert await outcome("send_message", sends | {"clientMessageId": unique("c")}) == ("" if allowed else frozen)
    await rest("PATCH", f"/conversations/{room}", {"settings": {"isFrozen": False, "slowModeSeconds": 600}})
    slow = "slow_mode" if may(role, Action.SEND) else "permission_denied"
    allowed = may(role, Action.IGNORE_SLOW_MODE)
    assert await outcome("send_message", sends | {"clientMessageId": unique("c")}) == ("" if allowed else slow)


# --- repeats --------------------------------------------------------------------------------------------------------


async def test_a_client_whose_acks_are_lost_leaves_one_message_each(world: World) -> None:
    """It cuts the line behind every send, comes back at the other server and says all of it again, in any order."""
    ann, ben = await world.users("ann", "ben")
    room = await world.conversation(ann, ben)
    names = [unique("c") for _ in range(12)]
    for number, name in enumerate(names):
        socket = await world.socket(ann, number % 2)
        data = {"conversationId": room, "type": "text", "content": {"text": name}, "clientMessageId": name}
        await socket.send("send_message", data, id="lost")
        await socket.cut()
    again = [await world.socket(ann, server) for server in range(2)]
    shown: dict[str, set[str]] = {name: set() for name in names}
    for socket, order in zip(again, (names[::-1], names), strict=True):
        for name in order:
            shown[name].add((await socket.say(room, name, client_id=name))["id"])
    assert [len(ids) for ids in shown.values()] == [1] * len(names)
    assert await world.log(room) == list(range(1, len(names) + 1))


# --- another tenant's ids -------------------------------------------------------------------------------------------


def everything_of(database: Database, tenant: Tenant) -> dict[str, Any]:
    """Every table of the tenant's schema: how many rows, and a hash of them all."""
    with database.connect() as connection:
        row = connection.execute("SELECT schema_name FROM tenants_tenant WHERE id = %s", [tenant.id]).fetchone()
        assert row is not None
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [row[0]]).fetchall()
        count = "SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"
        return {
            str(table): connection.execute(sql.SQL(count).format(sql.Identifier(str(row[0]), str(table)))).fetchone()
            for (table,) in tables
        }


async def test_another_tenants_ids_lead_nowhere(
    cluster: Cluster, make_world: Callable[[Cluster], Awaitable[World]], e2e_database: Database
) -> None:
    """Each command with their ids is answered as with ids of nothing, does nothing, and tells nothing."""
    ours, theirs = await make_world(cluster), await make_world(cluster)
    (ada,) = await theirs.users("ada")
    room = await theirs.conversation(ada, externalId="their-room", title=SECRET)
    body = {"conversationId": room, "senderId": ada["id"], "type": "text", "content": {"text": SECRET}}
    message = str((await theirs.rest()("POST", "/messages/send", body))["id"])
    (mallory,) = await ours.users("mallory")
    home = await ours.conversation(mallory)
    socket = await ours.socket(mallory)
    listening = await theirs.socket(ada)
    await listening.settle()
    before, heard = everything_of(e2e_database, theirs.tenant), len(listening.frames)

    async def answer(command: str, data: dict[str, Any]) -> Any:
        frame_id = unique("id")
        await socket.send(command, data, id=frame_id)
        frame = await socket.expect(lambda frame: frame.get("id") == frame_id)
        return {"type": frame["type"], "data": frame["data"]}

    for command in HANDLED:
        for conversation, nothing in ((room, NOWHERE), ("their-room", "no-room")):
            said = [
                await answer(command, data_for(command, conversation=one, message=other, user=who))
                for one, other, who in ((conversation, message, ada["id"]), (nothing, NOWHERE, NOWHERE))
            ]
            if command == "resume":  # its answer says which ids it was asked for
                said = [
                    json.loads(json.dumps(one).replace(name, ""))
                    for one, name in zip(said, (conversation, nothing), strict=True)
                ]
            assert said[0] == said[1], command
            if command != "resume":
                assert said[0]["type"] == "error"
                assert said[0]["data"]["code"] in {"conversation_not_found", "message_not_found"}
    for command, part in _parts(home, message, ada):
        said = [await answer(command, part), await answer(command, json.loads(_as_nothing(part, message, ada)))]
        assert said[0] == said[1], part
        assert said[0]["type"] == "error", part

    await listening.settle()
    assert everything_of(e2e_database, theirs.tenant) == before
    assert [frame["type"] for frame in listening.frames[heard:]] == ["ack"], "nothing but the answer to the ping"
    assert await ours.log(home) == []
    told = json.dumps(socket.frames, ensure_ascii=False)
    assert [word for word in (SECRET, room, message, ada["id"], ada["externalUserId"]) if word in told] == []


def _parts(home: str, message: str, ada: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """In a conversation of ours, with what is theirs."""
    body = {"conversationId": home, "type": "text", "content": {"text": "hi"}}
    yield "send_message", body | {"replyToId": message}
    for name in (ada["id"], ada["externalUserId"]):
        yield "send_message", body | {"mentions": [name]}


def _as_nothing(part: dict[str, Any], message: str, ada: dict[str, Any]) -> str:
    text = json.dumps(part)
    for name in (message, ada["id"], ada["externalUserId"]):
        text = text.replace(name, NOWHERE)
    return text


# --- another tenant's events ----------------------------------------------------------------------------------------

ANSWERS = {"authenticated", "joined_conversation", "left_conversation", "pong", "ack", "error", "resumed"}
"""What comes only to who asked."""


async def _bring_about_everything(world: World, room: str, sockets: dict[str, Socket]) -> None:
    """Each event of the catalogue, for ann or ben."""
    rest = world.rest()
    ann, ben = sockets["ann"], sockets["ben"]
    cyd, dan = await world.users("cyd", "dan")
    message = (await ben.say(room, SECRET))["id"]
    await ben.command("typing_start", {"conversationId": room})
    await ben.command("edit_message", {"messageId": message, "content": {"text": SECRET}})
    await ben.command("add_reaction", {"messageId": message, "name": "👍"})
    await ben.command("remove_reaction", {"messageId": message, "name": "👍"})
    await rest("PUT", f"/messages/{message}/pin")
    await rest("DELETE", f"/messages/{message}/pin")
    await ann.command("mark_delivered", {"conversationId": room, "seq": 2})
    await ann.command("mark_read", {"conversationId": room, "seq": 3})
    await ben.command("delete_message", {"messageId": message})
    await rest("PATCH", f"/conversations/{room}", {"title": SECRET})
    people = f"/conversations/{room}/participants"
    await rest("POST", people, {"participantIds": [cyd["id"], dan["id"]]})
    await rest("PATCH", f"{people}/{cyd['id']}", {"role": "admin"})
    as_ann = world.rest(**{"X-Acting-User": ann.user_id})
    await as_ann("PATCH", f"/conversations/{room}/membership", {"pinned": True})
    await as_ann("POST", f"/users/{ann.user_id}/blocks", {"userId": ben.user_id})
    await ben.say(room, "unheard")
    await as_ann("DELETE", f"/users/{ann.user_id}/blocks/{ben.user_id}")
    other = await world.conversation({"id": ann.user_id}, cyd)
    await rest("DELETE", f"/conversations/{other}/participants/{ann.user_id}")
    await rest("DELETE", f"{people}/{dan['id']}")
    await world.socket(cyd)
    await eventually(_seen(ann, "user_presence"), bool)
    await rest("POST", f"/users/{ben.user_id}/deactivate")
    await ben.until_closed()


def _seen(socket: Socket, type_: str) -> Callable[[], Awaitable[Any]]:
    async def ask() -> Any:
        return socket.of_type(type_)

    return ask


async def test_no_event_comes_to_another_tenant(
    cluster: Cluster, make_world: Callable[[Cluster], Awaitable[World]]
) -> None:
    """Theirs have the same names for the same people and the same conversation, and look at it all the while."""
    worlds = [await make_world(cluster), await make_world(cluster)]
    rooms, sockets = [], []
    for world in worlds:
        rest = world.rest()
        people = [await rest("POST", "/users", {"externalUserId": name}) for name in ("ann", "ben")]
        rooms.append(await world.conversation(*people, externalId="same-room"))
        sockets.append({"ann": await world.socket(people[0], 0), "ben": await world.socket(people[1], 1)})
        for socket in sockets[-1].values():
            await socket.command("join_conversation", {"conversationId": "same-room"})
    for socket in sockets[1].values():
        await socket.settle()
    heard = {name: len(socket.frames) for name, socket in sockets[1].items()}

    await _bring_about_everything(worlds[0], rooms[0], sockets[0])

    for socket in sockets[1].values():
        await socket.settle()
    brought = {frame["type"] for socket in worlds[0].sockets for frame in socket.frames}
    assert set(catalogue.events()) - ANSWERS - brought == set(), "bring these about in this file"
    for name, socket in sockets[1].items():
        strange = [frame for frame in socket.frames[heard[name] :] if frame["type"] not in {"ack", "user_presence"}]
        assert strange == []
        told = json.dumps(socket.frames, ensure_ascii=False)
        assert SECRET not in told
        assert not any(other.user_id in told for other in worlds[0].sockets)
        assert rooms[0] not in told
