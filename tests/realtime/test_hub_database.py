"""The hub over a real tenant's log, with every hint lost: comparisons alone make listeners' views equal the log."""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from django.db import connection

from messagecore.kernel import validation
from messaging.models import User
from realtime import hub as module
from realtime.connection import Connection
from realtime.database import READERS, _readers, read_in_database_thread
from realtime.hub import Hub
from tenants.scope import tenant_scope
from tenants.services.authentication import tenant_card
from tests.accounts import Account

Result = TypeVar("Result")


class Listener(Connection):
    def __init__(self, account: Account, user: dict[str, Any]) -> None:
        super().__init__(str(uuid4()), self._never, max_frames=10_000, max_bytes=10**9, write_now=lambda frame: True)
        self.tenant, self.user_id = tenant_card(account.tenant), UUID(user["id"])
        self.open("{}")
        self.seen: list[dict[str, Any]] = []

    async def _never(self, message: dict[str, Any]) -> None:
        raise AssertionError("nothing is written in these tests")

    def deliver_all(self, together: Sequence[str]) -> None:
        for frame in together:
            self.deliver(frame)

    def deliver(self, frame: str, *, ephemeral: bool = False) -> None:
        told = json.loads(frame)
        validation.validate("ServerFrame", told)
        self.seen.append(told)

    def view(self) -> list[tuple[str, int]]:
        return [(frame["type"], frame["data"].get("seq", 0)) for frame in self.seen]


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "OVERTAKING_S", 0)
    monkeypatch.setattr(module, "READ_AT_ONCE", 3)
    made = Hub()
    yield made
    await made.stop()
    await asyncio.to_thread(_close_database_threads)


def _close_database_threads() -> None:
    together = threading.Barrier(READERS)

    def close() -> None:
        together.wait(10)
        connection.close()

    for future in [_readers().submit(close) for _ in range(READERS)]:
        future.result()


async def beside(work: Callable[..., Result], *args: Any) -> Result:
    """Runs `work` on another thread, whose connection is closed behind it."""

    def run() -> Result:
        try:
            return work(*args)
        finally:
            connection.close()

    return await asyncio.to_thread(run)


async def attach(hub: Hub, account: Account, user: dict[str, Any]) -> Listener:
    listener = Listener(account, user)
    assert listener.tenant is not None
    await hub.attach(listener, listener.tenant)
    hub.release(listener)
    return listener


async def compared(hub: Hub) -> None:
    """A comparison, and all that it set going."""
    await hub.comparison.compare_all()
    async with asyncio.timeout(10):
        while running := _running(hub):
            await asyncio.wait(running)


def _running(hub: Hub) -> list[asyncio.Task[None]]:
    rooms = [room for tenant in hub.tenants.values() for room in tenant.rooms.values()]
    filling = [room.filling for room in rooms if room.filling is not None]
    return filling + [catch_up.task for catch_up in hub.catch_ups.values() if catch_up.task is not None]


async def test_comparisons_alone_complete_every_view(committed_tenant: Account, hub: Hub) -> None:
    def begin() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        users = committed_tenant.users(3)
        conversation = committed_tenant.conversation(users[0], users[1])
        committed_tenant.messages(conversation, users[0], 2)
        return users, conversation

    (ann, ben, eve), conversation = await beside(begin)
    path = f"/conversations/{conversation['id']}/participants"
    api = committed_tenant.api
    staying, leaving, coming = [await attach(hub, committed_tenant, user) for user in (ann, ben, eve)]

    def go_on() -> None:
        committed_tenant.messages(conversation, ann, 4)  # 3 … 6
        api.post(path, {"participantIds": [eve["id"]]})  # 7
        committed_tenant.messages(conversation, ben, 1)  # 8
        api.delete(f"{path}/{ben['id']}")  # 9
        committed_tenant.messages(conversation, eve, 1)  # 10
        committed_tenant.conversation(ann, eve)

    await beside(go_on)
    await compared(hub)
    messages = [("new_message", seq) for seq in range(3, 7)]
    both = [("participant_added", 7), ("new_message", 8), ("participant_removed", 9)]
    created = ("conversation_created", 0)
    assert sorted(staying.view()) == sorted([*messages, *both, ("new_message", 10), created])
    assert [one for one in staying.view() if one != created] == [*messages, *both, ("new_message", 10)]
    assert leaving.view() == [*messages, *both, ("conversation_removed", 0)]
    assert [one for one in coming.view() if one != created] == [*both, ("new_message", 10)]
    assert coming.view()[0] == created
    assert coming.view().count(created) == 2
    removed = leaving.seen[-1]["data"]
    assert (removed["conversationId"], removed["reason"]) == (conversation["id"], "removed")
    seen = [len(listener.seen) for listener in (staying, leaving, coming)]
    await compared(hub)
    assert [len(listener.seen) for listener in (staying, leaving, coming)] == seen


async def test_newcomers_are_not_shown_what_was_before_them(committed_tenant: Account, hub: Hub) -> None:
    def begin() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        users = committed_tenant.users(2)
        conversation = committed_tenant.conversation(users[0])
        committed_tenant.messages(conversation, users[0], 2)
        return users, conversation

    (_, eve), conversation = await beside(begin)
    coming = await attach(hub, committed_tenant, eve)
    body = {"participantIds": [eve["id"]], "showHistory": False}
    path = f"/conversations/{conversation['id']}/participants"
    await beside(committed_tenant.api.post, path, body)
    await compared(hub)
    assert coming.view() == [("conversation_created", 0), ("participant_added", 3)]
    assert coming.seen[0]["data"]["conversation"]["lastMessage"] is None


async def test_a_deactivated_user_is_sent_away(committed_tenant: Account, hub: Hub) -> None:
    (ann,) = await beside(committed_tenant.users, 1)
    listener = await attach(hub, committed_tenant, ann)

    def deactivate() -> None:
        with tenant_scope(committed_tenant.tenant):
            User.objects.filter(pk=ann["id"]).update(is_active=False)

    await beside(deactivate)
    await hub.comparison.compare_all()
    assert listener.is_closing


async def test_a_broken_connection_costs_a_reader_nothing(committed_tenant: Account, hub: Hub) -> None:
    def own_backend() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])

    backends = {await read_in_database_thread(own_backend) for _ in range(4)}

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS b(pid)", [list(backends)])

    await beside(terminate)
    assert backends.isdisjoint({await read_in_database_thread(own_backend) for _ in range(4)})
