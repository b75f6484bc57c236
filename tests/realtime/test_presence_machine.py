"""Presence against a model: connections come, go, are away, processes die, Redis loses everything, time passes."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from realtime.presence import reader as reader_module
from tests.realtime.test_presence import GRACE, LEASE, Clock, Process, World

Result = TypeVar("Result")
PEOPLE = sorted(uuid4() for _ in range(4))
STATUSES = ("online", "away", "offline")


@dataclass
class Held:
    """A connection as the model has it."""

    place: int
    user: UUID
    status: str = "online"


class Presence(RuleBasedStateMachine):
    """Two places with a process each. A third process serves always, so that somebody watches."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(Clock())
        self.keeper = self.world.start()
        self.alive: dict[int, Process] = {}
        self.connections: dict[str, Held] = {}
        self.lost: list[tuple[UUID, str, float, Process]] = []
        # Connections of processes that died, and until when they count.
        self.dead: list[tuple[list[Held], float]] = []
        self.names = 0
        self.watched: dict[UUID, str] = {}
        self.numbers: dict[UUID, int] = {}
        self.seen = 0
        # After Redis lost everything: who may be told what they know, and those of whom only a dead process knew, of
        # whom nobody tells.
        self.unsure: set[UUID] = set()
        self.untold: set[UUID] = set()
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    async def _begin(self) -> None:
        await self.keeper.store._client.flushdb()
        await self.keeper.store.keep_since()
        self.world.clock.now += 1
        await self.world.connect(self.keeper, uuid4(), "watcher")

    @rule(place=st.integers(0, 1), user=st.sampled_from(PEOPLE))
    def connect(self, place: int, user: UUID) -> None:
        self.names += 1
        self.connections[str(self.names)] = Held(place, user)
        self.run(self._connect(place, user, str(self.names)))

    async def _connect(self, place: int, user: UUID, name: str) -> None:
        if place not in self.alive:
            self.alive[place] = self.world.start()
        self.alive[place].keeper.connected(self.world.card, user, name)

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.connections)))
        held = self.connections.pop(name)
        process = self.alive[held.place]
        self.run(self._lose(process, held.user, name))
        self.lost.append((held.user, held.status, self.world.clock.now + GRACE, process))

    async def _lose(self, process: Process, user: UUID, name: str) -> None:
        process.keeper.disconnected(self.world.tenant, user, name)

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), status=st.sampled_from(STATUSES))
    def show(self, data: st.DataObject, status: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.connections)))
        held = self.connections[name]
        held.status = status
        self.run(self.world.show(self.alive[held.place], held.user, name, status))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """What it has not said is lost with it; everything is said first, as it is within a round trip."""
        place = data.draw(st.sampled_from(sorted(self.alive)))
        self.run(self._say())
        process = self.alive.pop(place)
        self.world.processes.remove(process)
        self.run(process.close())
        names = [name for name, held in self.connections.items() if held.place == place]
        self.dead.append(([self.connections.pop(name) for name in names], self.world.clock.now + LEASE))

    @rule()
    def flush(self) -> None:
        self.run(self._flush())
        self.unsure |= set(PEOPLE)
        self.untold |= {held.user for connections, _ in self.dead for held in connections}
        self.untold |= {user for user, _, _, process in self.lost if process not in self.world.processes}
        self.lost, self.dead = [], []

    async def _flush(self) -> None:
        await self._say()
        await self.keeper.store._client.flushdb()
        await self.keeper.store.keep_since()
        self.world.clock.now += 0.5
        await self.world.beat()
        self.world.clock.now += 0.5

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.0, 5.0, 14.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self._pass(seconds))

    async def _pass(self, seconds: float) -> None:
        await self._say()
        self.world.clock.now += seconds
        await self.world.beat()
        await self._tell()

    async def _say(self) -> None:
        for process in self.world.processes:
            await process.keeper.say()

    async def _tell(self) -> None:
        """Rounds until a dead process's users are taken off, in all processes; what is told is noted."""
        told = []
        for process in [*self.world.processes, *self.world.processes]:
            begin = len(process.told)
            await process.keeper.round([self.world.tenant])
            told += process.told[begin:]
        for number, change in told:
            assert number > self.numbers.get(change.user_id, 0), "older after newer"
            if change.user_id in PEOPLE and change.user_id not in self.unsure:
                assert self.watched.get(change.user_id, "offline") != change.status, "told of no change"
            self.numbers[change.user_id] = number
            self.watched[change.user_id] = change.status
            self.unsure.discard(change.user_id)
            self.untold.discard(change.user_id)

    def expected(self, user: UUID) -> str:
        now = self.world.clock.now
        statuses = {held.status for held in self.connections.values() if held.user == user}
        statuses |= {status for lost, status, until, _ in self.lost if lost == user and until > now}
        statuses |= {
            held.status for connections, until in self.dead if until > now for held in connections if held.user == user
        }
        return next((status for status in STATUSES if status in statuses), "offline")

    @invariant()
    def everybody_is_shown_as_the_model_says(self) -> None:
        self.run(self._pass(0))
        reader, tenant = self.world.reader, self.world.tenant
        shown = {user: presence.status for user, presence in reader.presence_of(tenant, PEOPLE).items()}
        expected = {user: self.expected(user) for user in PEOPLE}
        assert shown == expected
        listed = {user: found.status for user, found in reader.online_after(tenant, None, limit=10).users.items()}
        assert {user: status for user, status in listed.items() if user in PEOPLE} == {
            user: status for user, status in expected.items() if status != "offline"
        }
        now = self.world.clock.now
        counted = len(self.connections) + sum(len(held) for held, until in self.dead if until > now)
        assert reader.connection_count(tenant) == counted + 1

    @rule()
    def watchers_know_what_is_shown(self) -> None:
        """Once what is under way has been told."""
        for _ in range(2):
            self.run(self._pass(1.0))
        known = {user: self.watched.get(user, "offline") for user in PEOPLE if user not in self.untold}
        assert known == {user: self.expected(user) for user in known}

    def teardown(self) -> None:
        for process in self.world.processes:
            self.run(process.close())
        self.loop.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:hypothesis")
def test_presence_is_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LEASE": LEASE, "GRACE": GRACE, "SETTLE": 0}.items():
        monkeypatch.setattr(django_settings, f"PRESENCE_{name}_SECONDS", value)
    reader_module._client.cache_clear()
    generous = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Presence, settings=generous)
    reader_module._client().close()
    reader_module._client.cache_clear()
