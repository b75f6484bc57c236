"""The hub's law: whatever happens to hints, every listener sees the log from where it began, each seq once, in order,
and nothing after its removal. The log is a fake here; the database's own is in test_hub_database.py."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import InterfaceError, OperationalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.queries.log import LogPosition, LogSpan, membership_mark
from messaging.services.memberships import Arrival, MembershipChanges
from messaging.services.reading import Comparison, LogEntry, Standing
from realtime import catchup, comparing
from realtime import hub as hub_module
from realtime import resumption as resumption_module
from realtime.connection import Connection
from realtime.hub import Hub
from realtime.protocol import frames, hints
from realtime.protocol.hints import BlockHint, EventHint, JoinedHint, LeftHint
from realtime.resumption import Resumption
from tenants.cards import TenantCard

CARD = TenantCard(uuid4(), "t", "t", "active", frozenset(), None)
ROOM = uuid4()


class Listener(Connection):
    """A connection that keeps what it is told."""

    def __init__(self, user_id: UUID) -> None:
        super().__init__(str(uuid4()), self._drop, max_frames=10_000, max_bytes=10**9, write_now=lambda frame: True)
        self.tenant, self.user_id = CARD, user_id
        self.open("{}")
        self.seen: list[tuple[str, int]] = []

    async def _drop(self, message: dict[str, Any]) -> None:
        raise AssertionError("nothing is written in these tests")

    def deliver_all(self, together: Sequence[str]) -> None:
        for frame in together:
            self.deliver(frame)

    def deliver(self, frame: str, *, ephemeral: bool = False) -> None:
        told = json.loads(frame)
        self.seen.append((told["type"], told["data"].get("seq", 0)))

    @property
    def seqs(self) -> list[int]:
        return [seq for _, seq in self.seen if seq]


@dataclass
class Log:
    """The database: one conversation's log, its members, and how it misbehaves."""

    entries: list[LogEntry] = field(default_factory=list)
    blocked: dict[UUID, frozenset[UUID]] = field(default_factory=dict)
    members: dict[UUID, int] = field(default_factory=dict)  # user → where the log ended before they came
    failures: list[Exception] = field(default_factory=list)
    delay: Callable[[], Coroutine[Any, Any, None]] | None = None

    @property
    def end(self) -> int:
        return len(self.entries)

    def append(self, type_: str = "new_message", user_id: UUID | None = None, author_id: UUID | None = None) -> bytes:
        seq = self.end + 1
        data = {
            "conversationId": str(ROOM),
            "conversationExternalId": None,
            "seq": seq,
            "userId": None if user_id is None else str(user_id),
            "reason": "removed",
            "timestamp": "2026-01-01T00:00:00.000Z",
        }
        self.entries.append(LogEntry(seq, type_, data, author_id))
        return hints.encode(EventHint(ROOM, seq, frames.event(type_, data), author_id))

    def block(self, user_id: UUID, blocked_id: UUID, *, is_blocked: bool) -> bytes:
        others = self.blocked.get(user_id, frozenset()) - {blocked_id}
        self.blocked[user_id] = others | {blocked_id} if is_blocked else others
        return hints.encode(BlockHint(user_id, blocked_id, is_blocked, frames.event("user_blocked", {})))

    def add(self, user_id: UUID) -> list[bytes]:
        after_seq = self.members[user_id] = self.end
        joined = JoinedHint(ROOM, after_seq, None, (user_id,), frames.event("conversation_created", {}))
        return [hints.encode(joined), self.append("participant_added", user_id)]

    def remove(self, user_id: UUID) -> list[bytes]:
        del self.members[user_id]
        event = self.append("participant_removed", user_id)
        return [event, hints.encode(LeftHint(ROOM, self.end, user_id, frames.event("conversation_removed", {})))]

    # --- what the hub asks ---

    async def ask(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer = work(*args, **kwargs)
        if self.failures:
            raise self.failures.pop()
        await asyncio.sleep(0)
        if self.delay is not None:
            await self.delay()
        return answer

    def read_log(self, card: TenantCard, spans: list[LogSpan]) -> dict[UUID, list[LogEntry]]:
        return {
            span.conversation_id: [one for one in self.entries if span.first_seq <= one.seq <= span.last_seq]
            for span in spans
        }

    def standing(self, card: TenantCard, user_id: UUID) -> Standing:
        positions = [LogPosition(ROOM, None, self.end, 1)] if user_id in self.members else []
        return Standing(positions, self.blocked.get(user_id, frozenset()))

    def compare(self, card: TenantCard, rooms: list[UUID], users: list[UUID]) -> Comparison:
        marks = {user_id: membership_mark([ROOM]) for user_id in users if user_id in self.members}
        blocked = {user_id: self.blocked[user_id] for user_id in users if user_id in self.blocked}
        return Comparison(dict.fromkeys(rooms, self.end), marks, frozenset(), blocked)

    def membership_changes(
        self, card: TenantCard, user_id: UUID, *, everywhere: frozenset[UUID], somewhere: frozenset[UUID]
    ) -> MembershipChanges:
        arrived = []
        if user_id in self.members and ROOM not in everywhere:
            arrived = [Arrival(ROOM, None, self.members[user_id], self.end, {})]
        departed = {ROOM: self.end} if user_id not in self.members and ROOM in somewhere else {}
        return MembershipChanges(arrived, departed)


@pytest.fixture(scope="module")
def log_box() -> Any:
    """The log that the hub reads: replaced for each example."""
    box = SimpleNamespace(log=Log())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_module, "OVERTAKING_S", 0)
        patch.setattr(comparing, "MEND_AFTER_S", 0)

        async def ask(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return await box.log.ask(work, *args, **kwargs)

        for module in (hub_module, comparing, catchup):
            patch.setattr(module, "RETRY_AFTER_S", 0)
            patch.setattr(module, "read_in_database_thread", ask)
            patch.setattr(module, "read_in_turn", ask, raising=module is not comparing)

        def answer(name: str, *args: Any, **kwargs: Any) -> Any:
            return getattr(box.log, name)(*args, **kwargs)

        for name in ("read_log", "standing", "compare"):
            patch.setattr(hub_module.reading, name, partial(answer, name))
        patch.setattr(comparing, "membership_changes", partial(answer, "membership_changes"))
        yield box


async def settle() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


async def attach(hub: Hub, user_id: UUID) -> Listener:
    listener = Listener(user_id)
    await hub.attach(listener, CARD)
    hub.release(listener)
    return listener


ANY_ORDER = st.lists(st.integers(0, 11), max_size=40)


@given(order=ANY_ORDER, joins_at=st.integers(0, 40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_hints_shows_the_log_once(log_box: Any, order: list[int], joins_at: int) -> None:
    """Hints in any order, doubled and lost; a second listener comes in the middle; then one comparison."""

    async def run() -> None:
        log = log_box.log = Log()
        ann, ben = uuid4(), uuid4()
        log.members = {ann: 0, ben: 0}
        hub = Hub()
        early = await attach(hub, ann)
        said = [log.append() for _ in range(12)]
        late: Listener | None = None
        for place, number in enumerate(order):
            if place == joins_at:
                late = await attach(hub, ben)
            hub.receive(CARD.id, said[number])
            if number % 3 == 0:
                await asyncio.sleep(0)
        await settle()
        await hub.comparison.compare_all()
        await settle()
        assert early.seqs == list(range(1, 13))
        if late is not None:
            # It began at the log's end: all of this was there before it was let in.
            assert late.seqs == []
        said.append(log.append())
        hub.receive(CARD.id, said[-1])
        await settle()
        assert early.seqs == list(range(1, 14))
        assert late is None or late.seqs == [13]

    asyncio.run(run())


STEPS = st.lists(
    st.sampled_from(["say", "say", "add", "remove", "connect", "disconnect", "pause", "fail"]), min_size=1, max_size=25
)
FATES = st.lists(st.sampled_from(["now", "lost", "late", "twice"]), min_size=60, max_size=60)


@given(steps=STEPS, fates=FATES, shuffle=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_views_equal_the_log_whatever_becomes_of_hints(
    log_box: Any, steps: list[str], fates: list[str], shuffle: Any
) -> None:
    """A guest comes and goes while one user stays. Whatever was lost, doubled or late: after a comparison the one who
    stayed has seen all, and the guest's connections what was said while the guest was in, and nothing else; a stay
    that was over before a hint or a comparison told of it is passed over."""

    async def run() -> None:  # noqa: PLR0912 - a step a branch
        log = log_box.log = Log()
        host, guest = uuid4(), uuid4()
        log.members = {host: 0}
        hub = Hub()
        staying = await attach(hub, host)
        guests: list[tuple[Listener, int]] = []
        stays: list[list[int]] = []  # the guest's [first seq, last seq] of each stay
        fate = iter(fates)
        delayed: list[bytes] = []

        def say(*payloads: bytes) -> None:
            for payload in payloads:
                match next(fate, "now"):
                    case "now":
                        hub.receive(CARD.id, payload)
                    case "twice":
                        hub.receive(CARD.id, payload)
                        hub.receive(CARD.id, payload)
                    case "late":
                        delayed.append(payload)

        for step in steps:
            if step == "say":
                say(log.append())
            elif step == "add" and guest not in log.members:
                say(*log.add(guest))
                stays.append([log.end, 10**9])
            elif step == "remove" and guest in log.members:
                say(*log.remove(guest))
                stays[-1][1] = log.end
            elif step == "connect":
                log.failures.clear()  # a socket that cannot be let in is sent away
                guests.append((await attach(hub, guest), log.end))
            elif step == "disconnect" and guests:
                hub.detach(guests.pop(0)[0])
            elif step == "fail":
                log.failures.append(shuffle.choice([OperationalError("gone"), InterfaceError("gone")]))
            elif step == "pause":
                await settle()
                shuffle.shuffle(delayed)
                while delayed and shuffle.random() < 0.7:
                    hub.receive(CARD.id, delayed.pop())
        for payload in delayed:
            hub.receive(CARD.id, payload)
        for _ in range(4):  # a failure may cost one of them; a stale hint is mended by the next
            log.failures.clear()
            await hub.comparison.compare_all()
            await settle()
        assert staying.seqs == list(range(1, log.end + 1))
        for listener, begins_after in guests:
            expected: list[int] = []
            for first, last in stays:
                stay = list(range(first, min(last, log.end) + 1))
                if last > begins_after:
                    stay = [seq for seq in stay if seq > begins_after]
                # A stay that was over may have passed unnoticed, or be told of by a late hint: always as a whole.
                if last > log.end or set(stay) & set(listener.seqs):
                    expected += stay
            assert listener.seqs == expected
            # What it was told of its membership agrees with what it saw.
            told = [kind for kind, _ in listener.seen if kind in {"conversation_created", "conversation_removed"}]
            assert all(one != other for one, other in pairwise(told))
            assert (ROOM in listener.conversations) is (guest in log.members)
        rooms = hub.tenants[CARD.id].rooms
        assert set(rooms) <= {ROOM}
        for room in rooms.values():
            assert room.apart == {}
            assert room.filling is None
            assert room.waiting == {}
            assert room.has_members
        await hub.stop()

    asyncio.run(run())


async def test_what_is_committed_while_positions_are_read_is_heard(log_box: Any) -> None:
    log = log_box.log = Log()
    ann = uuid4()
    log.members = {ann: 0}
    hub = Hub()

    async def committed_meanwhile() -> None:
        log.delay = None
        hub.receive(CARD.id, log.append())

    log.delay = committed_meanwhile
    listener = await attach(hub, ann)
    await settle()
    assert listener.seqs == [1]


async def test_who_leaves_while_positions_are_read_is_not_let_in(log_box: Any) -> None:
    log = log_box.log = Log()
    ann = uuid4()
    log.members = {ann: 0}
    hub = Hub()

    async def left_meanwhile() -> None:
        log.delay = None
        for payload in log.remove(ann):
            hub.receive(CARD.id, payload)

    log.delay = left_meanwhile
    listener = await attach(hub, ann)
    hub.receive(CARD.id, log.append())
    await settle()
    assert listener.seqs == []
    assert hub.tenants[CARD.id].rooms == {}


async def test_a_removal_comes_at_its_place_though_its_hint_is_first(log_box: Any) -> None:
    log = log_box.log = Log()
    ann, ben = uuid4(), uuid4()
    log.members = {ann: 0, ben: 0}
    hub = Hub()
    listener, other = await attach(hub, ann), await attach(hub, ben)
    log.append()
    _, left = log.remove(ann)
    after = log.append()
    hub.receive(CARD.id, after)
    hub.receive(CARD.id, left)
    await settle()
    assert listener.seen == [("new_message", 1), ("participant_removed", 2), ("conversation_removed", 0)]
    assert other.seqs == [1, 2, 3]


async def test_everything_is_let_go_when_the_last_socket_is(log_box: Any) -> None:
    log = log_box.log = Log()
    users = [uuid4() for _ in range(3)]
    log.members = dict.fromkeys(users, 0)
    hub = Hub()
    listeners = [await attach(hub, user) for user in users for _ in range(2)]
    hub.receive(CARD.id, log.append())
    for listener in listeners:
        hub.look_at(listener, hub.tenants[CARD.id].rooms[ROOM])
    for listener in listeners:
        hub.detach(listener)
        hub.detach(listener)
    assert hub.tenants == {}
    assert all(listener.conversations == {} and listener.looking_at == set() for listener in listeners)


@pytest.mark.logs_errors
async def test_a_comparison_that_fails_is_not_the_last(log_box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_box.log = Log()
    ann = uuid4()
    log.members = {ann: 0}
    monkeypatch.setattr(comparing, "COMPARE_EVERY_S", 0)
    hub = Hub()
    listener = await attach(hub, ann)
    log.append()
    log.failures = [KeyError("a bug"), InterfaceError("the connection is closed"), OperationalError("gone")]
    running = asyncio.create_task(hub.comparison.compare_regularly())
    await settle()
    await settle()
    assert listener.seqs == [1]
    assert not running.done()
    running.cancel()


# --- blocks ---------------------------------------------------------------------------------------------------------


async def test_what_a_blocked_person_wrote_is_hidden_at_its_place_in_the_order(log_box: Any) -> None:
    log = log_box.log = Log()
    ann, ben, eve = uuid4(), uuid4(), uuid4()
    log.members = {ann: 0, ben: 0}
    log.blocked = {ann: frozenset({eve})}
    hub = Hub()
    anns, bens = await attach(hub, ann), await attach(hub, ben)
    hub.receive(CARD.id, log.append(author_id=eve))
    log.append(author_id=eve)  # its hint is lost: read from the log
    hub.receive(CARD.id, log.append(author_id=ben))
    hub.receive(CARD.id, log.append("message_updated", author_id=eve))
    await settle()
    assert anns.seen == [("event_hidden", 1), ("event_hidden", 2), ("new_message", 3), ("event_hidden", 4)]
    assert bens.seen == [("new_message", 1), ("new_message", 2), ("new_message", 3), ("message_updated", 4)]


async def test_a_block_holds_at_once_and_until_it_ends(log_box: Any) -> None:
    log = log_box.log = Log()
    ann, eve = uuid4(), uuid4()
    log.members = {ann: 0}
    hub = Hub()
    listener = await attach(hub, ann)
    hub.receive(CARD.id, log.append(author_id=eve))
    hub.receive(CARD.id, log.block(ann, eve, is_blocked=True))
    hub.receive(CARD.id, log.append(author_id=eve))
    log.block(ann, eve, is_blocked=False)  # this hint is lost; the comparison finds it
    await hub.comparison.compare_all()
    hub.receive(CARD.id, log.append(author_id=eve))
    await settle()
    assert listener.seen == [("new_message", 1), ("user_blocked", 0), ("event_hidden", 2), ("new_message", 3)]


async def test_a_comparison_that_was_read_before_a_block_does_not_undo_it(log_box: Any) -> None:
    log = log_box.log = Log()
    ann, eve = uuid4(), uuid4()
    log.members = {ann: 0}
    hub = Hub()
    listener = await attach(hub, ann)

    async def block_meanwhile() -> None:
        log.delay = None
        hub.receive(CARD.id, log.block(ann, eve, is_blocked=True))

    log.delay = block_meanwhile
    await hub.comparison.compare_all()
    assert listener.blocked == {eve}
    await hub.comparison.compare_all()
    assert listener.blocked == {eve}


# --- resuming -------------------------------------------------------------------------------------------------------


async def test_who_comes_in_while_it_is_let_in_is_not_told_before_it_resumes(log_box: Any) -> None:
    """They hold the beginning of the conversation: that they are in it again is no news, and nothing comes twice."""
    log = log_box.log = Log()
    ann = uuid4()
    for _ in range(3):
        log.append()
    hub = Hub()
    listener = Listener(ann)
    await hub.attach(listener, CARD)
    for payload in log.add(ann):  # 4
        hub.receive(CARD.id, payload)
    await settle()
    assert listener.seen == []
    hub.release_room(listener, ROOM, after_seq=1)
    await settle()
    assert listener.seen == [("new_message", 2), ("new_message", 3), ("participant_added", 4)]
    hub.receive(CARD.id, log.append())
    assert listener.seqs == [2, 3, 4, 5]


async def test_who_comes_in_meanwhile_and_does_not_resume_is_told_then(log_box: Any) -> None:
    log = log_box.log = Log()
    ann = uuid4()
    log.append()
    hub = Hub()
    listener = Listener(ann)
    await hub.attach(listener, CARD)
    for payload in log.add(ann):
        hub.receive(CARD.id, payload)
    hub.release(listener)
    await settle()
    assert listener.seen == [("conversation_created", 0), ("participant_added", 2)]


async def test_who_resumed_further_than_the_hub_has_heard_waits_for_what_it_reads(log_box: Any) -> None:
    log = log_box.log = Log()
    ann = uuid4()
    log.members = {ann: 0}
    log.append()
    hub = Hub()
    listener = Listener(ann)
    await hub.attach(listener, CARD)
    log.append()  # and its hint is lost
    hub.release_room(listener, ROOM, after_seq=1)
    tenant = hub.tenants[CARD.id]
    go_on = asyncio.Event()

    async def wait_for_it() -> None:
        await go_on.wait()

    log.delay = wait_for_it
    catch_up = hub.catch_up_of(listener, tenant)
    resumed = asyncio.create_task(catch_up.reached({ROOM: 2}))
    hub.fill(tenant, tenant.rooms[ROOM], up_to=2)
    await settle()
    assert (listener.seqs, resumed.done()) == ([], False)
    go_on.set()
    await settle()
    assert (listener.seqs, resumed.done()) == ([2], True)


async def test_a_removal_that_was_told_while_a_resume_read_the_memberships_holds(
    log_box: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_box.log = Log()
    ann = uuid4()
    log.members = {ann: 0}
    for _ in range(3):
        log.append()
    hub = Hub()
    listener = Listener(ann)
    await hub.attach(listener, CARD)

    async def read(work: Any, card: TenantCard, user_id: UUID) -> list[LogPosition]:
        """Begun before the removal, done after it."""
        positions = list(log.standing(card, user_id).positions)
        for hint in log.remove(ann):
            hub.receive(CARD.id, hint)
        await settle()
        return positions

    monkeypatch.setattr(resumption_module, "read_in_turn", read)
    resumption = Resumption(hub, listener, {str(ROOM): 1})
    await resumption.begin()
    await settle()
    assert listener.seen == [("conversation_removed", 0)]
    assert list(listener.conversations) == []


async def test_a_comparison_says_nothing_of_who_came_while_it_was_asked(log_box: Any) -> None:
    """Least of all that they block nobody."""
    log = log_box.log = Log()
    ann, ben, eve = uuid4(), uuid4(), uuid4()
    log.members = {ann: 0, ben: 0}
    log.blocked = {ben: frozenset({eve})}
    hub = Hub()
    await attach(hub, ann)
    came: list[Listener] = []

    async def come_meanwhile() -> None:
        log.delay = None
        came.append(await attach(hub, ben))

    log.delay = come_meanwhile
    await hub.comparison.compare_all()
    assert came[0].blocked == {eve}
    hub.receive(CARD.id, log.append(author_id=eve))
    assert came[0].seen == [("event_hidden", 1)]


@pytest.mark.parametrize("letters", [10, 60_000])
async def test_pages_of_a_log_grow_until_they_hold_much(
    log_box: Any, monkeypatch: pytest.MonkeyPatch, letters: int
) -> None:
    log = log_box.log = Log()
    ann = uuid4()
    log.members = {ann: 0}
    for _ in range(600):
        log.append()
    log.entries = [one._replace(data={**one.data, "content": letters * "x"}) for one in log.entries]
    hub = Hub()
    listener = Listener(ann)
    await hub.attach(listener, CARD)
    pages: list[int] = []

    def read(card: TenantCard, spans: list[LogSpan]) -> dict[UUID, list[LogEntry]]:
        pages.append(sum(span.last_seq - span.first_seq + 1 for span in spans))
        return log.read_log(card, spans)

    monkeypatch.setattr(hub_module.reading, "read_log", read)
    hub.release_room(listener, ROOM, after_seq=0)
    await settle()
    assert listener.seqs == list(range(1, 601))
    assert pages[:5] == ([32, 64, 128, 256, 120] if letters == 10 else [32, 64, 69, 69, 69])
