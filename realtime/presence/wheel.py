"""What is to be done for which tenant, and when: any number of appointments, at the grain of a tick."""

import math
from uuid import UUID

TICK_S = 0.25


class Wheel:
    """Appointments of tenants; those of one tenant within a tick are one."""

    __slots__ = ("_ticks",)

    def __init__(self) -> None:
        self._ticks: dict[int, set[UUID]] = {}

    def schedule(self, tenant_id: UUID, at: float) -> None:
        """Not before `at`, on any clock that only grows, and within a tick of it."""
        self._ticks.setdefault(math.ceil(at / TICK_S), set()).add(tenant_id)

    def take_due(self, now: float) -> list[UUID]:
        """Whose time has come, in the order of the appointments."""
        due: dict[UUID, None] = {}
        for tick in sorted(tick for tick in self._ticks if tick * TICK_S <= now):
            due.update(dict.fromkeys(self._ticks.pop(tick)))
        return list(due)
