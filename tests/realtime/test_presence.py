"""Presence in a real Redis: several devices, leases, grace, no ghosts; what watchers are told, and what REST reads."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis

from messagecore.kernel.errors import ServiceUnavailable
from messaging.ports import Presence
from realtime.presence import keeper as keeper_module
from realtime.presence import reader as reader_module
from realtime.presence.keeper import PresenceKeeper
from realtime.presence.reader import RedisPresenceReader
from realtime.presence.store import COLLECT_S, USERS_AT_ONCE, Change, PresenceStore

LEASE, GRACE = 45, 15


class Clock:
    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


class Process:
    """A web process with presence, whose duties are done when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self.told: list[tuple[int, Change]] = []
        self.store = PresenceStore(clock=clock)
        self.keeper = PresenceKeeper(self.store, self._announce)

    async def _announce(self, card: Any, number: int, changes: Sequence[Change]) -> None:
        self.told.extend((number, change) for change in changes)

    async def close(self) -> None:
        await self.store.close()


class World:
    """One tenant and the processes that serve it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.tenant = uuid4()
        self.card: Any = SimpleNamespace(id=self.tenant)
        self.reader = RedisPresenceReader(clock=clock)
        self.processes: list[Process] = []

    def start(self) -> Process:
        self.processes.append(Process(self.clock))
        return self.processes[-1]

    async def connect(self, process: Process, user: UUID, connection: str) -> None:
        process.keeper.connected(self.card, user, connection)
        await process.keeper.say()

    async def lose(self, process: Process, user: UUID, connection: str) -> None:
        process.keeper.disconnected(self.tenant, user, connection)
        await process.keeper.say()

    async def show(self, process: Process, user: UUID, connection: str, status: str) -> None:
        showing = asyncio.create_task(process.keeper.show_as(self.tenant, user, connection, status))
        await asyncio.sleep(0)
        await process.keeper.say()
        await showing

    async def beat(self, *processes: Process) -> None:
        for process in processes or self.processes:
            await process.keeper.beat([self.tenant])

    async def round(self, *processes: Process) -> list[tuple[UUID, str]]:
        """What watchers are told now, by the processes in turn."""
        told: list[tuple[UUID, str]] = []
        for process in processes or self.processes:
            begin = len(process.told)
            await process.keeper.round([self.tenant])
            told += [(change.user_id, change.status) for _, change in process.told[begin:]]
        return told

    async def told_after(self, seconds: float) -> list[tuple[UUID, str]]:
        """Time passes, heartbeats are kept, and everything that is due is told."""
        self.clock.now += seconds
        await self.beat()
        told = await self.round()
        self.clock.now += COLLECT_S
        return told + await self.round()

    def status(self, user: UUID) -> str:
        return self.reader.presence_of(self.tenant, [user])[user].status


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(settings: Any, clock: Clock) -> AsyncIterator[World]:
    settings.PRESENCE_LEASE_SECONDS, settings.PRESENCE_GRACE_SECONDS, settings.PRESENCE_SETTLE_SECONDS = LEASE, GRACE, 0
    reader_module._client.cache_clear()
    made = World(clock)
    process = made.start()
    await process.store._client.flushdb()
    await process.store.keep_since()
    clock.now += 1
    yield made
    for process in made.processes:
        await process.close()
    reader_module._client().close()
    reader_module._client.cache_clear()


# --- devices --------------------------------------------------------------------------------------------------------


async def test_online_until_the_last_device_is_gone_for_the_grace(world: World) -> None:
    (here,) = world.processes
    ann = uuid4()
    assert world.status(ann) == "offline"
    await world.connect(here, ann, "phone")
    assert world.status(ann) == "online"
    await world.connect(here, ann, "laptop")
    assert await world.told_after(2) == [(ann, "online")]
    await world.lose(here, ann, "phone")
    assert await world.told_after(20) == []
    assert world.status(ann) == "online"
    gone_at = world.clock.now
    await world.lose(here, ann, "laptop")
    world.clock.now += GRACE - 0.5
    assert (await world.round(), world.status(ann)) == ([], "online")
    await world.connect(here, ann, "phone")  # back within the grace: nobody is told anything
    assert await world.told_after(20) == []
    gone_at = world.clock.now
    await world.lose(here, ann, "phone")
    assert await world.told_after(GRACE) == [(ann, "offline")]
    assert await world.told_after(2) == []
    presence = world.reader.presence_of(world.tenant, [ann])[ann]
    assert (presence.status, presence.last_seen_at and presence.last_seen_at.timestamp()) == ("offline", gone_at)
    await world.connect(here, ann, "phone")
    assert await world.told_after(2) == [(ann, "online")]


async def test_online_goes_before_away_over_devices_and_processes(world: World) -> None:
    here, there, ann = world.processes[0], world.start(), uuid4()
    await world.connect(here, ann, "phone")
    await world.connect(there, ann, "laptop")
    assert await world.told_after(2) == [(ann, "online")]
    await world.show(here, ann, "phone", "away")
    assert world.status(ann) == "online"
    await world.show(there, ann, "laptop", "away")
    assert world.status(ann) == "away"
    assert await world.told_after(2) == [(ann, "away")]
    await world.show(here, ann, "phone", "online")
    assert await world.told_after(2) == [(ann, "online")]


async def test_a_device_that_dies_online_leaves_the_other_away(world: World) -> None:
    here, there, ann = world.processes[0], world.start(), uuid4()
    await world.connect(here, ann, "phone")
    await world.connect(there, ann, "laptop")
    await world.show(there, ann, "laptop", "away")
    assert await world.told_after(2) == [(ann, "online")]
    await world.lose(here, ann, "phone")
    world.clock.now += GRACE - 0.5
    assert (await world.round(), world.status(ann)) == ([], "online")
    assert await world.told_after(0.5) == [(ann, "away")]
    assert world.status(ann) == "away"


async def test_offline_counts_for_nothing_at_once_and_ends_with_its_connection(world: World) -> None:
    (here,), ann = world.processes, uuid4()
    await world.connect(here, ann, "phone")
    assert await world.told_after(2) == [(ann, "online")]
    await world.show(here, ann, "phone", "offline")
    assert world.status(ann) == "offline"
    assert world.reader.online_after(world.tenant, None, limit=10).users == {}
    assert world.reader.connection_count(world.tenant) == 1
    hidden_at = world.clock.now
    assert await world.told_after(0) == [(ann, "offline")]
    await world.beat()
    await world.lose(here, ann, "phone")
    assert (await world.told_after(2), world.status(ann)) == ([], "offline")
    seen_at = world.reader.presence_of(world.tenant, [ann])[ann].last_seen_at
    assert seen_at is not None
    assert seen_at.timestamp() == hidden_at
    await world.connect(here, ann, "phone")  # a new connection begins as online
    assert (await world.told_after(2), world.status(ann)) == ([(ann, "online")], "online")


async def test_what_is_said_of_a_connection_that_is_none_changes_nothing(world: World) -> None:
    (here,), ann = world.processes, uuid4()
    await here.keeper.show_as(world.tenant, ann, "phone", "away")
    await world.lose(here, ann, "phone")
    await world.connect(here, ann, "phone")
    await here.keeper.show_as(world.tenant, ann, "laptop", "offline")
    await world.lose(here, ann, "laptop")
    assert (world.status(ann), world.reader.connection_count(world.tenant)) == ("online", 1)


# --- processes and the store ----------------------------------------------------------------------------------------


async def test_a_process_that_died_leaves_no_ghost(world: World) -> None:
    dead, alive = world.processes[0], world.start()
    ann, ben = uuid4(), uuid4()
    await world.connect(dead, ann, "phone")
    await world.connect(alive, ben, "phone")
    await world.round()
    died_at = world.clock.now
    told: list[tuple[UUID, str]] = []
    for _ in range(LEASE - 1):
        world.clock.now += 1
        await world.beat(alive)
        told += await world.round(alive)
    assert (sorted(told), world.status(ann)) == (sorted([(ann, "online"), (ben, "online")]), "online")
    world.clock.now += 1
    assert await world.round(alive) == []
    assert (world.status(ann), world.status(ben)) == ("offline", "online")
    world.clock.now += COLLECT_S
    assert await world.round(alive) == [(ann, "offline")]
    assert world.clock.now - died_at < 60
    assert world.reader.connection_count(world.tenant) == 1
    seen_at = world.reader.presence_of(world.tenant, [ann])[ann].last_seen_at
    assert seen_at is not None
    assert seen_at.timestamp() == died_at  # when its process was last heard of


async def test_when_the_only_process_died_nobody_is_there(world: World) -> None:
    """Nobody of the tenant is left to take its users off: what is read must not need them."""
    (dead,), ann, ben = world.processes, uuid4(), uuid4()
    await world.connect(dead, ann, "phone")
    await world.connect(dead, ben, "phone")
    world.clock.now += LEASE - 1
    assert world.status(ann) == "online"
    world.clock.now += 1
    assert (world.status(ann), world.status(ben)) == ("offline", "offline")
    assert world.reader.online_after(world.tenant, None, limit=10).users == {}
    assert world.reader.connection_count(world.tenant) == 0


async def test_a_dead_process_does_not_keep_a_user_with_a_second_device(world: World) -> None:
    dead, alive, ann = world.processes[0], world.start(), uuid4()
    await world.connect(dead, ann, "laptop")
    await world.connect(alive, ann, "phone")
    await world.show(alive, ann, "phone", "away")
    for _ in range(3):
        world.clock.now += LEASE / 3
        await world.beat(alive)
    await world.round(alive)
    world.clock.now += COLLECT_S
    assert await world.round(alive) == [(ann, "away")]
    await world.lose(alive, ann, "phone")
    world.clock.now += GRACE
    await world.round(alive)
    assert world.status(ann) == "offline"


async def test_a_process_that_was_given_up_and_lives_says_all_again(world: World) -> None:
    slow, other = world.processes[0], world.start()
    people = [uuid4() for _ in range(USERS_AT_ONCE + 10)]
    for person in people:
        slow.keeper.connected(world.card, person, "phone")
    await slow.keeper.say()
    await world.connect(other, uuid4(), "phone")
    world.clock.now += LEASE
    await world.beat(other)
    await world.round(other)
    assert {world.status(person) for person in people} == {"offline"}
    await world.beat(slow)
    assert {world.status(person) for person in people} == {"online"}
    assert world.reader.connection_count(world.tenant) == len(people) + 1


async def test_heartbeats_rebuild_what_was_flushed_and_away_is_kept(world: World) -> None:
    (here,) = world.processes
    ann, ben, eve, dan = (uuid4() for _ in range(4))
    for person in (ann, ben, eve, dan):
        await world.connect(here, person, "phone")
    await world.show(here, ben, "phone", "away")
    await world.show(here, eve, "phone", "offline")
    told = await world.told_after(2)
    assert sorted(told) == sorted([(ann, "online"), (ben, "away"), (dan, "online")])
    await world.lose(here, dan, "phone")
    await here.store._client.flushdb()
    assert [world.status(person) for person in (ann, ben, eve, dan)] == ["unknown"] * 4
    assert world.reader.online_after(world.tenant, None, limit=10).users == {}
    await here.store.keep_since()
    world.clock.now += 0.5
    await world.beat()
    world.clock.now += 0.5
    assert [world.status(person) for person in (ann, ben, eve, dan)] == ["online", "away", "offline", "offline"]
    # Nobody remembers what watchers know, so they are told once, and that dan has gone, too.
    told = await world.told_after(2)
    assert sorted(told) == sorted([(ann, "online"), (ben, "away"), (eve, "offline"), (dan, "offline")])
    assert await world.told_after(2) == []


async def test_what_is_reported_to_a_flushed_store_shows_that_it_was(world: World) -> None:
    (here,), ann, ben = world.processes, uuid4(), uuid4()
    await world.connect(here, ann, "phone")
    await here.store._client.flushdb()
    await world.connect(here, ben, "phone")  # a report like any other; the heartbeat finds its number in order
    await here.store.keep_since()
    world.clock.now += 1
    assert world.status(ann) == "offline"
    await world.beat()
    assert (world.status(ann), world.status(ben)) == ("online", "online")


async def test_what_the_store_did_not_take_is_said_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (here,), ann, ben = world.processes, uuid4(), uuid4()
    await world.connect(here, ann, "phone")
    with monkeypatch.context() as patched:

        async def away(reports: Any) -> Any:
            raise redis.ConnectionError("away")

        patched.setattr(here.store, "report", away)
        await world.lose(here, ann, "phone")
        await world.connect(here, ben, "phone")
        await world.show(here, ben, "phone", "away")
    assert (world.status(ann), world.status(ben)) == ("online", "offline")
    await world.beat()
    assert (world.status(ann), world.status(ben)) == ("online", "away")
    told = await world.told_after(GRACE)
    assert told == [(ben, "away")] or sorted(told) == sorted([(ben, "away"), (ann, "offline")])
    assert world.status(ann) == "offline"


async def test_the_keys_of_a_tenant_share_a_slot_and_expire(world: World) -> None:
    (here,), ann, ben = world.processes, uuid4(), uuid4()
    await world.connect(here, ann, "phone")
    await world.connect(here, ben, "phone")
    await world.told_after(2)
    await world.lose(here, ben, "phone")
    await world.round()
    client = here.store._client
    keys = [
        key.decode() async for key in client.scan_iter("*")
    ]  # a test may look at everything; the product never does
    theirs = [key for key in keys if key != "mc:presence:since"]
    assert {key.partition("}")[0] for key in theirs} == {f"mc:{{{world.tenant.hex}"}
    assert {key.rpartition("p:")[2].partition(":")[0] for key in theirs} >= {
        *("processes", "reports", "on", "users", "online", "lost", "seen", "clock")
    }
    lives = {key: await client.ttl(key) for key in keys}
    assert all(0 < life <= 90 * 86400 for life in lives.values()), lives
    tag = f"mc:{{{world.tenant.hex}}}:p:"
    assert lives[f"{tag}on:{here.store.process}"] > 1.5 * lives[f"{tag}users"]  # the dead are found while they count


async def test_another_tenant_has_a_presence_of_its_own(world: World) -> None:
    (here,), ann = world.processes, uuid4()
    other: Any = SimpleNamespace(id=uuid4())
    await world.connect(here, ann, "phone")
    here.keeper.connected(other, ann, "theirs")
    await here.keeper.say()
    await world.show(here, ann, "phone", "away")
    assert world.status(ann) == "away"
    assert world.reader.presence_of(other.id, [ann])[ann].status == "online"
    here.keeper.disconnected(other.id, ann, "phone")  # their connection, our name
    await here.keeper.say()
    assert world.status(ann) == "away"
    assert list(world.reader.online_after(world.tenant, None, limit=10).users) == [ann]
    assert (await world.told_after(2)) == [(ann, "away")]


async def test_a_tenant_without_connections_is_forgotten_once_all_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here,), ann = world.processes, uuid4()
    now = 1000.0
    monkeypatch.setattr(PresenceKeeper, "_now", staticmethod(lambda: now))
    await world.connect(here, ann, "phone")
    await world.lose(here, ann, "phone")
    now += GRACE
    await world.beat()
    assert world.tenant in here.keeper._rosters
    now += 3
    await world.beat()
    assert here.keeper._rosters == {}
    await world.connect(here, ann, "phone")
    assert world.status(ann) == "online"


# --- telling --------------------------------------------------------------------------------------------------------


async def test_changes_are_collected_and_who_ends_where_they_were_is_not_told_of(world: World) -> None:
    (here,), ann = world.processes, uuid4()
    await world.connect(here, ann, "phone")
    assert await world.round() == []
    world.clock.now += COLLECT_S - 0.1
    assert await world.round() == []
    world.clock.now += 0.1
    assert await world.round() == [(ann, "online")]
    for status in ("away", "offline", "online"):
        await world.show(here, ann, "phone", status)
        world.clock.now += 0.2
    world.clock.now += COLLECT_S
    assert await world.round() == []
    for status in ("away", "online", "away"):
        await world.show(here, ann, "phone", status)
    world.clock.now += COLLECT_S
    assert await world.round() == [(ann, "away")]


async def test_a_thousand_users_who_reconnect_cost_watchers_nothing_or_one_update_each(world: World) -> None:
    """Between processes, too: those of the one that is restarted come to the other."""
    old, new = world.processes[0], world.start()
    people = [uuid4() for _ in range(1000)]
    for person in people:
        old.keeper.connected(world.card, person, "phone")
    await old.keeper.say()
    world.clock.now += COLLECT_S
    told = [change for _ in range(6) for change in await world.round()]
    assert Counter(told) == Counter((person, "online") for person in people)
    for person in people:
        old.keeper.disconnected(world.tenant, person, "phone")
    await old.keeper.say()
    world.clock.now += GRACE - 5
    for person in people:
        new.keeper.connected(world.card, person, "phone")
    await new.keeper.say()
    told = [change for _ in range(12) for change in await world.told_after(3)]
    assert told == []
    for person in people:
        new.keeper.disconnected(world.tenant, person, "phone")
    await new.keeper.say()
    world.clock.now += GRACE + 1
    told = [change for _ in range(12) for change in await world.told_after(3)]
    assert Counter(told) == Counter((person, "offline") for person in people)


async def test_each_change_is_told_by_one_process_in_the_order_of_its_numbers(world: World) -> None:
    here, there, ann = world.processes[0], world.start(), uuid4()
    await world.connect(there, uuid4(), "watcher")
    told = []
    for status in ("online", "away", "online", "away"):
        if status == "online":
            await world.connect(here, ann, "phone")
        else:
            await world.show(here, ann, "phone", status)
        world.clock.now += COLLECT_S
        await asyncio.gather(here.keeper.round([world.tenant]), there.keeper.round([world.tenant]))
    told = sorted(here.told + there.told, key=lambda entry: entry[0])
    of_ann = [(number, change.status) for number, change in told if change.user_id == ann]
    assert [status for _, status in of_ann] == ["online", "away", "online", "away"]
    assert len({number for number, _ in of_ann}) == 4


async def test_numbers_grow_when_the_clock_goes_back(world: World) -> None:
    (here,), ann = world.processes, uuid4()
    await world.connect(here, ann, "phone")
    world.clock.now += COLLECT_S
    await world.round()
    await world.show(here, ann, "phone", "away")
    world.clock.now += COLLECT_S
    await world.round()
    first, second = (number for number, _ in here.told)
    assert first < second
    world.clock.now -= 3600
    await world.show(here, ann, "phone", "online")
    world.clock.now += COLLECT_S
    await world.round()
    assert here.told[-1][0] == second + 1


async def test_what_could_not_be_told_is_told_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (here,), ann, ben = world.processes, uuid4(), uuid4()

    async def away(*_: Any) -> None:
        raise keeper_module.DatabaseError("away")

    await world.connect(here, ann, "phone")
    world.clock.now += COLLECT_S
    with monkeypatch.context() as patched:
        patched.setattr(here.keeper, "_announce", away)
        await here.keeper.round([world.tenant])
        await world.connect(here, ben, "phone")
        await world.show(here, ann, "phone", "away")
        world.clock.now += COLLECT_S
        await here.keeper.round([world.tenant])
    assert here.told == []
    await here.keeper.round([world.tenant])
    assert sorted((change.user_id, change.status) for _, change in here.told) == sorted(
        [(ann, "away"), (ben, "online")]
    )


# --- reading --------------------------------------------------------------------------------------------------------


async def test_who_is_online_is_listed_in_the_order_of_ids(world: World) -> None:
    (here,) = world.processes
    people = sorted(uuid4() for _ in range(7))
    for person in people:
        await world.connect(here, person, "phone")
    await world.show(here, people[2], "phone", "away")
    await world.show(here, people[4], "phone", "offline")
    pages, after = [], None
    while True:
        page = world.reader.online_after(world.tenant, after, limit=2)
        pages.append([(person, presence.status) for person, presence in page.users.items()])
        if (after := page.next_after) is None:
            break
    assert [len(page) for page in pages] == [2, 2, 2]
    assert [entry for page in pages for entry in page] == [
        (person, "away" if person == people[2] else "online") for person in people if person != people[4]
    ]
    assert world.reader.online_after(world.tenant, people[-1], limit=2).users == {}


async def test_any_number_of_users_is_one_round_trip(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (here,) = world.processes
    people = [uuid4() for _ in range(1200)]
    for person in people[::2]:
        here.keeper.connected(world.card, person, "phone")
    await here.keeper.say()
    world.reader.presence_of(world.tenant, people[:1])
    trips = _count_trips(monkeypatch)
    shown = world.reader.presence_of(world.tenant, people)
    assert [shown[person].status for person in people] == ["online", "offline"] * 600
    assert trips == [1]
    assert world.reader.presence_of(world.tenant, []) == {}
    assert trips == [1]


def _count_trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    trips: list[int] = []
    execute = redis.client.Pipeline.execute

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        trips.append(1)
        return execute(self, *args, **kwargs)

    monkeypatch.setattr(redis.client.Pipeline, "execute", counted)
    return trips


async def test_while_the_store_is_young_who_is_missing_is_unknown(world: World, settings: Any) -> None:
    (here,), ann, ben = world.processes, uuid4(), uuid4()
    settings.PRESENCE_SETTLE_SECONDS = 45
    await world.connect(here, ann, "phone")
    assert (world.status(ann), world.status(ben)) == ("online", "unknown")
    world.clock.now += 45
    await world.beat()
    assert (world.status(ann), world.status(ben)) == ("online", "offline")


async def test_without_redis_presence_is_unknown_and_soon_so(settings: Any, unused_tcp_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"
    reader_module._client.cache_clear()
    tenant, ann = uuid4(), uuid4()
    process = Process(Clock())
    card: Any = SimpleNamespace(id=tenant)
    began = time.monotonic()
    reader = RedisPresenceReader()
    assert reader.presence_of(tenant, [ann]) == {ann: Presence("unknown")}
    assert reader.connection_count(tenant) == 0
    with pytest.raises(ServiceUnavailable):
        reader.online_after(tenant, None, limit=10)
    process.keeper.connected(card, ann, "phone")
    await process.keeper.say()
    await process.keeper.beat([tenant])
    await process.keeper.round([tenant])
    process.keeper.disconnected(tenant, ann, "phone")
    await process.keeper.say()
    assert process.told == []
    await process.close()
    assert time.monotonic() - began < 5
    reader_module._client.cache_clear()


async def test_the_store_s_own_clock_is_used(world: World) -> None:
    """Not that of a machine, which may jump."""
    (here,) = world.processes
    store = PresenceStore()
    keeper = PresenceKeeper(store, here._announce)
    ann = uuid4()
    keeper.connected(world.card, ann, "phone")
    await keeper.say()
    presence = RedisPresenceReader().presence_of(world.tenant, [ann])[ann]
    assert presence.status == "online"
    assert presence.last_seen_at is not None
    assert abs(presence.last_seen_at.timestamp() - time.time()) < 60
    await store.close()


async def test_tasks_say_beat_and_tell_by_themselves(settings: Any) -> None:
    settings.PRESENCE_LEASE_SECONDS, settings.PRESENCE_GRACE_SECONDS, settings.PRESENCE_SETTLE_SECONDS = 3, 0, 0
    reader_module._client.cache_clear()
    process = Process(Clock())
    process.store = process.keeper.store = PresenceStore()
    tenant, ann = uuid4(), uuid4()
    card: Any = SimpleNamespace(id=tenant)
    reader = RedisPresenceReader()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.05)

    process.keeper.start()
    process.keeper.connected(card, ann, "phone")
    await until(lambda: [change.status for _, change in process.told] == ["online"])
    await process.keeper.show_as(tenant, ann, "phone", "away")
    assert reader.presence_of(tenant, [ann])[ann].status == "away"
    await until(lambda: [change.status for _, change in process.told] == ["online", "away"])
    await process.store._client.flushdb()
    await until(lambda: reader.presence_of(tenant, [ann])[ann].status == "away")
    # Nobody was told anew that she is away; that she has gone is news all the same.
    process.keeper.disconnected(tenant, ann, "phone")
    await until(lambda: process.told[-1][1].status == "offline")
    process.keeper.connected(card, ann, "phone")
    await process.keeper.stop()
    assert reader.presence_of(tenant, [ann])[ann].status == "online"
    await process.close()
    reader_module._client().close()
    reader_module._client.cache_clear()
