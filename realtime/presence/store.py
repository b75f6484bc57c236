"""The event loop's side of the store: what a process says of its users, and what it takes from there to tell."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings

from realtime.presence import scripts
from realtime.presence.scripts import Run
from realtime.redis_clients import loop_client

TIMEOUT_S = 1.0
MAX_REDIS_CONNECTIONS = 4

USERS_AT_ONCE = 200
"""Users in one script, which holds up everybody else for about 2 ms, and in one announcement."""

COLLECT_S = 1.0
"""For how long changes are collected before watchers are told: who flickers within a second costs them nothing, and
nobody is told of one user more often. People do not see the difference in a green dot."""

SINCE = "mc:presence:since"
"""Since when heartbeats have kept the store (s): users who are not in it may be missing only before that."""

Clock = Callable[[], float]

STATUSES: Mapping[str, str] = {"O": "online", "A": "away", "-": "offline"}
LETTERS: Mapping[str, str] = {word: letter for letter, word in STATUSES.items()}


@dataclass(frozen=True, slots=True)
class UserReport:
    """What a user is here, `O`, `A` or `-`, and as what connections were lost here since; `=`: whatever they were."""

    user_id: UUID
    here: str
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a process says of some of its users. `before` and `this` name its reports; no `this`: it serves the
    tenant no longer."""

    tenant_id: UUID
    before: str
    this: str
    users: Sequence[UserReport]


@dataclass(frozen=True, slots=True)
class Taken:
    """The store's answer to a report. If it did not know the one before, it has lost something: say all again."""

    changes: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What watchers are to be told of a user. `last_seen_ms` is None where nobody knows."""

    user_id: UUID
    status: str
    last_seen_ms: int | None


@dataclass(frozen=True, slots=True)
class Round:
    """What was due in a tenant: changes that are this caller's alone to tell, and a process that has died. `number`
    grows with every announcement."""

    has_more: bool
    changes_coming: int
    dead_process: str | None
    number: int
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class ToldUsers:
    """What watchers were told of users by the announcement `number` and those before it."""

    number: int
    users: Sequence[Change]


class PresenceStore:
    """Every method is one round trip, and raises redis.RedisError or OSError if Redis does not answer in TIMEOUT_S."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.process = uuid4().hex[: scripts.PROCESS_NAME_LENGTH]
        self._clock = clock
        self._client = loop_client(timeout_s=TIMEOUT_S, max_connections=MAX_REDIS_CONNECTIONS)

    async def report(self, reports: Sequence[Report]) -> list[Taken]:
        """Up to USERS_AT_ONCE users in each."""
        lease, grace, keep = settings.PRESENCE_LEASE_SECONDS, settings.PRESENCE_GRACE_SECONDS, _keep_s()
        answers = await self._run(
            Run(
                scripts.REPORT,
                report.tenant_id,
                (
                    *(self._now(), self.process, lease, grace, keep, report.before, report.this),
                    *(value for user in report.users for value in (user.user_id.hex, user.here, user.lost)),
                ),
                self._here(self.process),
            )
            for report in reports
        )
        return [Taken(int(changes), bool(is_known)) for changes, is_known in answers]

    async def keep_since(self) -> None:
        """Says that somebody keeps the store."""
        await self._client.eval(scripts.SINCE.text, 1, SINCE, self._now(), settings.PRESENCE_LEASE_SECONDS)

    async def heartbeat(self, tenant_ids: Sequence[UUID]) -> list[str]:
        """Renews this process's leases; the last reports that the store knows of it."""
        arguments = (self._now(), self.process, settings.PRESENCE_LEASE_SECONDS, _keep_s())
        runs = (Run(scripts.HEARTBEAT, one, arguments, self._here(self.process)) for one in tenant_ids)
        return [answer.decode() for answer in await self._run(runs)]

    async def users_here(self, tenant_id: UUID) -> set[UUID]:
        """Whom the store has as online or away on this process."""
        members: Any = await self._client.smembers(scripts.key(tenant_id, self._here(self.process)))
        return {UUID(member.decode()) for member in members}

    async def round(self, tenant_ids: Sequence[UUID]) -> list[Round]:
        arguments = (self._now(), COLLECT_S, USERS_AT_ONCE, _keep_s())
        answers = await self._run(Run(scripts.ROUND, one, arguments) for one in tenant_ids)
        return [
            Round(
                has_more=bool(has_more),
                changes_coming=int(coming),
                dead_process=dead.decode() or None,
                number=int(number or 0),
                changes=_changes(rest),
            )
            for has_more, coming, dead, number, *rest in answers
        ]

    async def reap(self, tenant_id: UUID, process: str) -> bool:
        """Takes USERS_AT_ONCE users off a dead process; whether there are more."""
        arguments = (self._now(), process, USERS_AT_ONCE, settings.PRESENCE_LEASE_SECONDS, _keep_s())
        ((_, has_more),) = await self._run([Run(scripts.REAP, tenant_id, arguments, self._here(process))])
        return bool(has_more)

    async def told(self, tenant_id: UUID, user_ids: Sequence[UUID]) -> ToldUsers:
        """For somebody who becomes a watcher now: what comes to them from now on goes on from here."""
        arguments = (self._now(), *(user_id.hex for user_id in user_ids))
        ((_, number, *rest),) = await self._run([Run(scripts.READ, tenant_id, arguments)])
        known = zip(user_ids, rest[1::3], rest[2::3], strict=True)
        return ToldUsers(int(number), [_change(user_id, told, seen) for user_id, seen, told in known])

    async def close(self) -> None:
        await self._client.aclose()

    async def _run(self, runs: Any) -> list[Any]:
        return await scripts.run(self._client, list(runs))

    def _now(self) -> float | str:
        return "" if self._clock is None else repr(self._clock())

    @staticmethod
    def _here(process: str) -> str:
        return f"on:{process}"


def _keep_s() -> int:
    """How long keys stay without a sign of life: long enough for the others to take a dead process's users off."""
    return int(2 * settings.PRESENCE_LEASE_SECONDS + settings.PRESENCE_GRACE_SECONDS + 60)


def _changes(values: Sequence[bytes]) -> list[Change]:
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [_change(UUID(user.decode()), status, seen) for user, status, seen in triples]


def _change(user_id: UUID, status: bytes, seen: bytes) -> Change:
    return Change(user_id, STATUSES[status.decode()], int(float(seen)) if seen else None)
