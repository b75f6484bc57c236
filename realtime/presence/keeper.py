"""What this process has of presence: the statuses of its connections, and the duties of telling the store and watchers.

A status is noted at once and told to the store by one task, everything that was noted meanwhile in one round trip. If
the store does not answer, or has forgotten what it was told last, everything is said again: what is kept here is the
truth about this process, and bounded by its connections.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

import redis
from django.conf import settings

from messagecore.kernel import metrics
from realtime.database import DatabaseError
from realtime.presence.store import (
    COLLECT_S,
    LETTERS,
    USERS_AT_ONCE,
    Change,
    PresenceStore,
    Report,
    Round,
    ToldUsers,
    UserReport,
)
from realtime.presence.wheel import TICK_S, Wheel
from tenants.cards import TenantCard

logger = logging.getLogger(__name__)

TENANTS_AT_ONCE = 100
"""Tenants in one pipeline; between pipelines the event loop serves others."""

AGAIN_AFTER_S = 1.0
"""How soon a store that did not answer is told everything again."""

MAX_UNTOLD = 5_000
"""Changes of a tenant that wait here for a database that does not answer; the rest is not told."""

STORED_WITHIN_S = 2.0

Announce = Callable[[TenantCard, int, Sequence[Change]], Awaitable[None]]


@dataclass(slots=True)
class Roster:
    """A tenant's connections here, by user: `O` online, `A` away, `-` counts for nothing."""

    card: TenantCard
    users: dict[UUID, dict[str, str]] = field(default_factory=dict)
    connection_count: int = 0
    # Who is to be reported, with the statuses of connections that were lost since.
    unsaid: dict[UUID, str] = field(default_factory=dict)
    # The last report that the store confirmed; whether it has everything that was reported.
    said: str = ""
    is_whole: bool = True
    reports: int = 0
    # Changes that are ours to tell, with the number of their announcement.
    untold: dict[UUID, tuple[int, Change]] = field(default_factory=dict)
    # Who lost a connection lately, and when: a store that forgets them does not end what watchers were told.
    lost_at: dict[UUID, float] = field(default_factory=dict)
    beat_at: float = 0.0
    next_poll_at: float = 0.0
    needed_until: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether there is nothing of the tenant here, and the store knows."""
        return self.is_whole and not (self.users or self.unsaid or self.untold)

    def status_of(self, user_id: UUID) -> str:
        statuses = self.users.get(user_id, {}).values()
        return "O" if "O" in statuses else "A" if "A" in statuses else "-"

    def forget_lost(self, *, before: float) -> None:
        """Of those whose time was over `before`, watchers were told."""
        self.lost_at = {user_id: at for user_id, at in self.lost_at.items() if at >= before}

    def note(self, user_id: UUID, *, lost: str = "") -> None:
        before = self.unsaid.get(user_id, "")
        self.unsaid[user_id] = before if lost in before else before + lost

    def next_report(self) -> Report:
        """Some of what is unsaid, which counts as said from now on."""
        users = list(islice(self.unsaid, USERS_AT_ONCE))
        self.reports += 1
        this = f"{self.connection_count} {self.reports}"
        said = [UserReport(user_id, self.status_of(user_id), self.unsaid.pop(user_id)) for user_id in users]
        return Report(self.card.id, self.said, this, said)


class PresenceKeeper:
    """Starts with the process and ends with it. Lives on the event loop."""

    def __init__(self, store: PresenceStore, announce: Announce) -> None:
        self.store = store
        self._announce = announce
        self._rosters: dict[UUID, Roster] = {}
        self._unsaid: set[UUID] = set()
        self._something_unsaid = asyncio.Event()
        self._saying: asyncio.Future[None] | None = None
        self._beats = Wheel()
        self._rounds = Wheel()
        self._since_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_saying()), loop.create_task(self._keep_telling())]

    async def stop(self) -> None:
        """Says what is still unsaid."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.say()
        await self._leave([roster for roster in self._rosters.values() if not roster.users])

    # --- what happens here ------------------------------------------------------------------------------------------

    def connected(self, card: TenantCard, user_id: UUID, connection_id: str) -> None:
        """A connection begins, as online."""
        roster = self._rosters.get(card.id)
        if roster is None:
            roster = self._rosters[card.id] = Roster(card)
            self._beat_again(roster, after_s=self._beat_s())
            self._rounds.schedule(card.id, self._now())
        roster.card = card
        statuses = roster.users.setdefault(user_id, {})
        roster.connection_count += connection_id not in statuses
        statuses[connection_id] = "O"
        self._note(roster, user_id)

    def disconnected(self, tenant_id: UUID, user_id: UUID, connection_id: str) -> None:
        """A connection is lost; it counts on for the grace. One that never began changes nothing."""
        roster = self._rosters.get(tenant_id)
        status = None if roster is None else roster.users.get(user_id, {}).pop(connection_id, None)
        if roster is None or status is None:
            return
        roster.connection_count -= 1
        if not roster.users[user_id]:
            del roster.users[user_id]
        self._note(roster, user_id, lost=status.strip("-"))

    async def show_as(self, tenant_id: UUID, user_id: UUID, connection_id: str, status: str) -> None:
        """A connection counts as `online`, `away` or, with `offline`, not at all. Returns when the store has it, or
        after STORED_WITHIN_S: then it gets it later."""
        roster = self._rosters.get(tenant_id)
        if roster is None or connection_id not in roster.users.get(user_id, {}):
            return
        roster.users[user_id][connection_id] = LETTERS[status]
        self._note(roster, user_id)
        if self._saying is None:
            self._saying = asyncio.get_running_loop().create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(STORED_WITHIN_S):
                await asyncio.shield(self._saying)

    async def told(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> ToldUsers:
        """What watchers know of users. Raises redis.RedisError, OSError."""
        return await self.store.told(tenant_id, user_ids)

    def _note(self, roster: Roster, user_id: UUID, *, lost: str = "") -> None:
        roster.note(user_id, lost=lost)
        over_at = self._now() + settings.PRESENCE_GRACE_SECONDS
        roster.needed_until = over_at + 2 * COLLECT_S
        if lost:
            self._rounds.schedule(roster.card.id, over_at + TICK_S)
            roster.lost_at[user_id] = over_at
        self._unsaid.add(roster.card.id)
        self._something_unsaid.set()

    # --- telling the store ------------------------------------------------------------------------------------------

    async def _keep_saying(self) -> None:
        while True:
            # Not `wait_for`, which forgets that it was cancelled when the event comes in the same moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._something_unsaid.wait()
            try:
                await self.say()
                await self.beat(self._due_beats())
            except Exception:
                logger.exception("presence could not be kept")
                await asyncio.sleep(AGAIN_AFTER_S)

    async def say(self) -> None:
        """Reports everything that is unsaid."""
        said, self._saying = self._saying, None
        self._something_unsaid.clear()
        try:
            while self._unsaid:
                rosters = [self._rosters[tenant_id] for tenant_id in islice(self._unsaid, TENANTS_AT_ONCE)]
                await self._report(rosters)
                self._unsaid -= {roster.card.id for roster in rosters if not roster.unsaid}
        finally:
            if said is not None and not said.done():
                said.set_result(None)

    async def _report(self, rosters: Sequence[Roster]) -> None:
        reports = [roster.next_report() for roster in rosters]
        try:
            answers = await self.store.report(reports)
        except (redis.RedisError, OSError) as error:
            for roster in rosters:
                roster.unsaid.clear()
                self._say_all_again(roster, after_s=AGAIN_AFTER_S)
            logger.warning("presence waits for Redis: %s", error)
            return
        for roster, report, taken in zip(rosters, reports, answers, strict=True):
            roster.said = report.this
            if not taken.is_whole:
                self._say_all_again(roster, after_s=0)
            if taken.changes:
                self._tell_soon(roster.card.id)

    def _say_all_again(self, roster: Roster, *, after_s: float) -> None:
        """What was said of a store that forgot it, or may not have heard it, is worth nothing: so it is all said."""
        roster.is_whole = False
        self._beat_again(roster, after_s=after_s)

    def _beat_again(self, roster: Roster, *, after_s: float) -> None:
        """The one appointment that holds; others that the tenant has are passed over."""
        roster.beat_at = self._now() + after_s
        self._beats.schedule(roster.card.id, roster.beat_at)

    def _due_beats(self) -> list[UUID]:
        now = self._now()
        due = self._beats.take_due(now)
        return [one for one in due if (roster := self._rosters.get(one)) is not None and now >= roster.beat_at]

    async def beat(self, tenant_ids: Sequence[UUID]) -> None:
        """Renews the leases of these tenants, and says everything again to a store that has lost something."""
        if self._now() >= self._since_at:
            await self._keep_since()
        for start in range(0, len(tenant_ids), TENANTS_AT_ONCE):
            some = tenant_ids[start : start + TENANTS_AT_ONCE]
            known = [roster for tenant_id in some if (roster := self._rosters.get(tenant_id)) is not None]
            over = [roster for roster in known if roster.is_done and self._now() > roster.needed_until]
            rosters = [roster for roster in known if roster not in over]
            try:
                await self._leave(over)
                await self._beat(rosters)
            except (redis.RedisError, OSError) as error:
                for roster in rosters:
                    self._beat_again(roster, after_s=AGAIN_AFTER_S)
                logger.warning("presence waits for Redis: %s", error)

    async def _beat(self, rosters: Sequence[Roster]) -> None:
        known = await self.store.heartbeat([roster.card.id for roster in rosters])
        for roster, report in zip(rosters, known, strict=True):
            if report != roster.said or not roster.is_whole:
                await self._say_all(roster, known=report)
        for roster in rosters:
            if roster.is_whole:
                roster.forget_lost(before=self._now() - settings.PRESENCE_LEASE_SECONDS)
                self._beat_again(roster, after_s=self._beat_s())

    async def _say_all(self, roster: Roster, *, known: str) -> None:
        """Everything, in reports that follow the one that the store knows; and who is not here any more."""
        metrics.PRESENCE_REBUILDS.inc()
        strangers = await self.store.users_here(roster.card.id) - roster.users.keys()
        roster.is_whole = True
        roster.said = known
        for user_id in strangers:
            self._note(roster, user_id, lost="=")
        for user_id in (roster.lost_at.keys() | roster.users.keys()) - strangers:
            roster.note(user_id, lost="!")
        self._unsaid.add(roster.card.id)
        await self.say()

    async def _keep_since(self) -> None:
        self._since_at = self._now() + self._beat_s()
        try:
            await self.store.keep_since()
        except (redis.RedisError, OSError) as error:
            self._since_at = self._now() + AGAIN_AFTER_S
            logger.warning("presence is not kept: %s", error)

    async def _leave(self, rosters: Sequence[Roster]) -> None:
        """Forgets tenants whose last connection is gone, and of whom all is told; so does the store, now or when the
        lease is over."""
        for roster in rosters:
            del self._rosters[roster.card.id]
        with suppress(redis.RedisError, OSError):
            await self.store.report([Report(roster.card.id, roster.said, "", ()) for roster in rosters])

    @staticmethod
    def _beat_s() -> float:
        """A third of the lease, and less at random, so that a thousand tenants' heartbeats do not come at once."""
        return settings.PRESENCE_LEASE_SECONDS / 3 * _somewhat_less()

    # --- telling watchers -------------------------------------------------------------------------------------------

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.round(self._rounds.take_due(self._now()))
            except Exception:
                logger.exception("presence could not be told")

    async def round(self, tenant_ids: Iterable[UUID]) -> None:
        """Ends what was lost for long enough, and tells watchers what changed, of these tenants."""
        rosters = [roster for one in tenant_ids if (roster := self._rosters.get(one))]
        for roster in rosters:
            self._poll(roster)
        for start in range(0, len(rosters), TENANTS_AT_ONCE):
            part = rosters[start : start + TENANTS_AT_ONCE]
            try:
                rounds = await self.store.round([roster.card.id for roster in part])
                for roster, found in zip(part, rounds, strict=True):
                    self._take(roster, found)
                for roster, found in zip(part, rounds, strict=True):
                    if found.dead_process is not None:
                        await self._reap(roster, found.dead_process)
            except (redis.RedisError, OSError) as error:
                logger.warning("presence is not told this time: %s", error)
                for roster in part:
                    self._rounds.schedule(roster.card.id, self._now() + AGAIN_AFTER_S)
        for roster in rosters:
            if roster.untold:
                await self._tell(roster)

    def _take(self, roster: Roster, found: Round) -> None:
        for change in found.changes:
            if len(roster.untold) < MAX_UNTOLD or change.user_id in roster.untold:
                roster.untold[change.user_id] = (found.number, change)
        if found.changes_coming:
            self._tell_soon(roster.card.id)
        if found.has_more or found.dead_process is not None:
            self._rounds.schedule(roster.card.id, self._now())

    async def _reap(self, roster: Roster, process: str) -> None:
        metrics.PRESENCE_REAPED.inc()
        self._tell_soon(roster.card.id)
        while await self.store.reap(roster.card.id, process):
            pass

    async def _tell(self, roster: Roster) -> None:
        """Each announcement on its own: what it is newer than depends on its number."""
        numbers = sorted({number for number, _ in roster.untold.values()})
        try:
            for number in numbers:
                changes = [change for other, change in roster.untold.values() if other == number]
                await self._announce(roster.card, number, changes)
                metrics.PRESENCE_ANNOUNCED.inc(len(changes))
                for change in changes:
                    del roster.untold[change.user_id]
        except (DatabaseError, OSError) as error:
            logger.warning("presence is told later: %s", error)
            self._rounds.schedule(roster.card.id, self._now() + AGAIN_AFTER_S)

    def _tell_soon(self, tenant_id: UUID) -> None:
        self._rounds.schedule(tenant_id, self._now() + COLLECT_S)

    def _poll(self, roster: Roster) -> None:
        """Now and then looks for what other processes left undone: nine times in a lease, so that nobody who was on a
        process that died is shown for much longer than it."""
        now = self._now()
        if now >= roster.next_poll_at:
            roster.next_poll_at = now + settings.PRESENCE_LEASE_SECONDS / 9 * _somewhat_less()
            self._rounds.schedule(roster.card.id, roster.next_poll_at)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _somewhat_less() -> float:
    return random.uniform(0.8, 1)  # noqa: S311 - spreads load, guards nothing
