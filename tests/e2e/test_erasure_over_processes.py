"""Erasing a person, on running processes: their word is found nowhere in the database, in Valkey and in file storage,
while sockets, worker and scheduler are at work."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from psycopg import sql

from tests import canary
from tests.e2e.client import World, eventually
from tests.e2e.cluster import Cluster, until

pytestmark = pytest.mark.e2e

WORD = "kanarienvogel"


def _rows_with(cluster: Cluster, tenant_id: str) -> list[str]:
    """The tables of the tenant and of the public schema of which a row holds the word."""
    schemas = [f"t_{tenant_id.replace('-', '')}", "public"]
    found = []
    with cluster.database.connect() as connection:
        tables = connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)", [schemas])
        for schema, table in tables.fetchall():
            statement = sql.SQL("SELECT count(*) FROM {} t WHERE t::text ILIKE ANY({})").format(
                sql.Identifier(str(schema), str(table)), sql.Literal([f"%{WORD}%", f"%{WORD.encode().hex()}%"])
            )
            row = connection.execute(statement).fetchone()
            assert row is not None
            found += [str(table)] * bool(row[0])
    return found


async def test_a_person_is_erased_everywhere(
    make_cluster: Callable[..., Cluster], make_world: Callable[[Cluster], Awaitable[World]], tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    cluster = await sync_to_async(make_cluster)(2, worker=True, FILE_STORAGE_URL=f"file://{folder}")
    world = await make_world(cluster)
    api = world.rest()
    person = await api("POST", "/users", {"externalUserId": f"{WORD}-id", "displayName": WORD, "metadata": {"x": WORD}})
    friend = await api("POST", "/users", {"externalUserId": "friend"})
    offline = await api("POST", "/users", {"externalUserId": "offline"})
    ids = [person["id"], friend["id"], offline["id"]]
    room = await api("POST", "/conversations", {"type": "group", "participantIds": ids, "externalId": "room"})

    socket = await world.socket(person)
    reader = await world.socket(friend, server=1)
    await socket.command("join_conversation", {"conversationId": room["id"]})
    await reader.command("join_conversation", {"conversationId": room["id"]})
    await socket.command("typing_start", {"conversationId": room["id"]})
    headers = {"X-API-Key": world.tenant.secret_key, "X-Acting-User": f"{WORD}-id", "Content-Type": "text/plain"}
    async with httpx.AsyncClient(base_url=f"{cluster.servers[0].url}/api/v1", headers=headers, trust_env=False) as raw:
        uploaded = await raw.post("/files", params={"name": f"{WORD}.txt"}, content=f"bytes of {WORD}".encode())
    file = uploaded.json()["data"]
    for number in range(20):
        text = {"type": "text", "content": {"text": f"{WORD} {number}"}, "clientMessageId": f"{WORD}-{number}"}
        await socket.command("send_message", {"conversationId": room["id"], **text})
    body = {"type": "file", "content": {"fileId": file["id"], "caption": WORD}, "metadata": {WORD: WORD}}
    shown = await socket.command("send_message", {"conversationId": room["id"], **body})
    await socket.command(
        "edit_message", {"messageId": shown["id"], "content": {"fileId": file["id"], "caption": WORD * 2}}
    )
    await socket.command("add_reaction", {"messageId": shown["id"], "name": WORD})

    await eventually(lambda: api("GET", "/users/offline/notifications"), lambda found: len(found) == 21, 60)
    assert "messaging_message" in _rows_with(cluster, world.tenant.id)
    assert len(canary.files_with(WORD, folder)) == 1

    await api("DELETE", f"/users/{person['id']}?messages=erase")
    await socket.until_closed()
    assert _rows_with(cluster, world.tenant.id) == []
    await sync_to_async(until)(lambda: canary.files_with(WORD, folder) == [], "the worker removed the bytes")
    with cluster.valkey.client() as client:
        await sync_to_async(until)(lambda: _settled(client, person["id"]), "their presence is gone")
        assert canary.keys_with(WORD, client) == []
        assert list(client.scan_iter(count=10)), "there was something to look at"
    history = await api("GET", "/messages/conversations/room")
    assert [message["content"] for message in history["messages"]] == [{}] * 21
    assert _rows_with(cluster, world.tenant.id) == [], "nor does the worker bring anything back"


def _settled(client: Any, user_id: str) -> bool:
    return canary.keys_with(user_id, client) == []
