"""Imports in tests: files of lines, sending them, and what they leave, without what no two runs share."""

import json
from typing import Any

from messaging.models import Conversation, ConversationEvent, Message, Participant, Reaction, User
from tenants.scope import tenant_scope
from tests.accounts import Account
from tests.api import Answer, Api

NDJSON = "application/x-ndjson"


def line(kind: str, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, **fields}, ensure_ascii=False).encode() + b"\n"


def message(original: str, conversation: str, sender: str, text: str = "hello", **fields: Any) -> bytes:
    given = {"type": "text", "content": {"text": text}, "createdAt": "2024-05-01T10:00:00Z"} | fields
    return line("message", id=original, conversationId=conversation, senderId=sender, **given)


def open_import(api: Api) -> str:
    answer = api.post("/imports", {"name": "from elsewhere"})
    assert answer.status == 201, answer.body
    return str(answer.data["id"])


def feed(api: Api, job: str, chunk: bytes, position: int) -> Answer:
    return api.raw("POST", f"/imports/{job}/chunks", chunk, content_type=NDJSON, query={"position": position})


def imported(tenant: Account, *chunks: bytes) -> Any:
    """One import of these chunks; the last one's answer."""
    job, position, answer = open_import(tenant.api), 0, None
    for chunk in chunks:
        answer = feed(tenant.api, job, chunk, position)
        position += len(chunk)
        assert answer.data["import"]["positionBytes"] == position
    assert answer is not None
    return answer.data


LIVELY = [
    line("user", externalUserId="ada", displayName="Ada", createdAt="2019-01-01T00:00:00Z"),
    line("user", externalUserId="bob", displayName="Bob", email="bob@example.com", metadata={"team": "售后"}),
    line("user", externalUserId="cyd", isActive=False),
    line(
        "conversation",
        externalId="room",
        type="group",
        title="旧的房间",
        createdAt="2019-02-01T00:00:00Z",
        participants=[
            {"userId": "ada", "role": "owner", "joinedAt": "2019-02-01T00:00:00Z"},
            {"userId": "bob", "joinedAt": "2019-02-02T00:00:00Z"},
        ],
    ),
    message("m-1", "room", "ada", "first", createdAt="2019-02-01T10:00:00Z", mentions=["bob", "here"]),
    message("m-2", "room", "bob", "answer", createdAt="2019-02-01T10:01:00Z", replyToId="m-1"),
    b"\n",
    message(
        "m-3",
        "room",
        "ada",
        "edited",
        createdAt="2019-02-01T10:02:00Z",
        editedAt="2019-02-01T10:03:00Z",
        replyToId="m-2",
        reactions=[{"name": "👍", "userIds": ["bob", "cyd"]}, {"name": "ok", "userIds": ["ada"]}],
        clientMessageId="c-3",
        metadata={"k": [1, None]},
    ),
    message(
        "m-4",
        "room",
        "cyd",
        "gone",
        createdAt="2019-02-01T10:04:00Z",
        deletedAt="2019-02-01T10:05:00Z",
        replyToId="m-1",
    ),
    line("user", externalUserId="dan"),
    line(
        "conversation",
        externalId="pair",
        type="direct",
        createdAt="2019-03-01T00:00:00Z",
        participants=[{"userId": "bob"}, {"userId": "dan"}],
    ),
    message("019a2f53-b8f0-7d26-b3a9-1e5c7d904f62", "pair", "dan", "uuid kept", createdAt="2019-03-01T10:00:00Z"),
    message("m-5", "room", "dan", "from outside", createdAt="2018-01-01T00:00:00Z", replyToId="m-3"),
    message(
        "m-6",
        "pair",
        "bob",
        "",
        type="location",
        content={"latitude": 1, "longitude": 2},
        createdAt="2019-03-02T10:00:00Z",
    ),
]
"""A file with everything in it, each line good."""


def state(tenant: Account) -> dict[str, Any]:
    """What an import leaves, by the other system's ids, without the server's own ids and the time of the import."""
    with tenant_scope(tenant):
        users = {user.id: user for user in User.objects.all()}
        names = {user_id: user.external_user_id for user_id, user in users.items()}
        rooms = {room.id: room for room in Conversation.objects.all()}
        log = sorted(
            [
                (rooms[one.conversation_id].external_id, one.seq, "new_message", _message(one, names))
                for one in Message.objects.all()
            ]
            + [
                (rooms[one.conversation_id].external_id, one.seq, one.type, names.get(one.subject_id))
                for one in ConversationEvent.objects.all()
            ],
            key=lambda entry: entry[:2],
        )
        return {
            "users": sorted(
                (user.external_user_id, user.display_name, user.email, user.metadata, user.is_active)
                for user in users.values()
            ),
            "rooms": sorted(_room(room) for room in rooms.values()),
            "places": sorted(
                (
                    rooms[one.conversation_id].external_id,
                    names[one.user_id],
                    one.role,
                    one.read_index,
                    one.own_since_read,
                )
                for one in Participant.objects.all()
            ),
            "log": log,
            "reactions": sorted(
                (str(one.message_id), names[one.user_id], one.name, one.created_at) for one in Reaction.objects.all()
            ),
        }


def _room(room: Conversation) -> tuple[Any, ...]:
    return (
        room.external_id,
        room.type,
        room.title,
        room.last_seq,
        room.message_count,
        room.unread_total,
        room.participant_count,
        str(room.last_message_id),
        room.last_message_at,
        room.oldest_at if room.message_count else None,
    )


def _message(one: Message, names: dict[Any, str]) -> dict[str, Any]:
    fields = ("id", "message_index", "type", "content", "reply_to_id", "thread_id", "reply_count", "reaction_count")
    kept = (*fields, "client_message_id", "metadata", "silent", "unread_index", "created_at", "edited_at", "deleted_at")
    mentions = [names.get(name, name) for name in one.mentions if name in {"here", "channel"}]
    return {name: getattr(one, name) for name in kept} | {"sender": names[one.sender_id], "mentions": mentions}
