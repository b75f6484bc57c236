"""Setting, taking back and running timers, which wake a tenant's objects at their time: the one module that knows their
table.

Whoever changes an object that a timer wakes holds the timer first (`hold`, `cancel`): so what runs at the object's time
and what changes it come one after the other. Order of locks: users, timers, conversations, and what comes behind them.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

logger = logging.getLogger(__name__)

PAGE_ROWS = 100

_SET = """
INSERT INTO public.tenants_timer (tenant_id, kind, subject_id, due_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant_id, kind, subject_id) DO UPDATE SET due_at = EXCLUDED.due_at"""

_HOLD = "SELECT id FROM public.tenants_timer WHERE tenant_id = %s AND kind = %s AND subject_id = %s FOR UPDATE"

# Locked in the order of their ids, like every set of rows.
_CANCEL = """
DELETE FROM public.tenants_timer WHERE id IN (
  SELECT id FROM public.tenants_timer WHERE tenant_id = %s AND kind = %s AND subject_id = ANY(%s)
  ORDER BY id FOR UPDATE)"""

_DUE = """
SELECT t.id, t.tenant_id, n.schema_name, t.subject_id, t.due_at
FROM public.tenants_timer t JOIN public.tenants_tenant n ON n.id = t.tenant_id AND n.status = 'active'
WHERE t.kind = %s AND t.due_at <= %s AND (t.due_at, t.id) > (%s, %s) ORDER BY t.due_at, t.id LIMIT %s"""

# The first number keeps these locks apart from other uses of advisory locks.
_TAKE_TENANT = "SELECT pg_try_advisory_xact_lock(1414354258, hashtext(%s))"

_CLAIM = """
SELECT t.id FROM public.tenants_timer t JOIN public.tenants_tenant n ON n.id = t.tenant_id AND n.status = 'active'
WHERE t.id = %s AND t.due_at <= %s FOR UPDATE OF t SKIP LOCKED"""

_DROP = "DELETE FROM public.tenants_timer WHERE id = %s"

_POSTPONE = "UPDATE public.tenants_timer SET due_at = %s WHERE id = %s"


@dataclass(frozen=True, slots=True)
class DueTimer:
    """A timer whose time has come. It stands for its tenant where only the schema is asked for."""

    id: int
    tenant_id: UUID
    schema_name: str
    subject_id: UUID
    due_at: datetime


Handler = Callable[[DueTimer, datetime], datetime | None]
"""Does, in the caller's transaction, what a timer is for, at a time; says when to be called again, None: it is done."""


def set_timer(tenant_id: UUID, kind: str, subject_id: UUID, *, due_at: datetime) -> None:
    """Wakes the subject at `due_at`, and at no other time, if the caller's transaction commits. One statement.

    ORM: `Timer.objects.update_or_create(tenant_id=…, kind=…, subject_id=…, defaults={"due_at": due_at})`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SET, [tenant_id, kind, subject_id, due_at])


def hold(tenant_id: UUID, kind: str, subject_id: UUID) -> bool:
    """Keeps a timer from running until the transaction ends, once what runs it now has come to its end. False: there
    is none."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, [tenant_id, kind, subject_id])
        return cursor.fetchone() is not None


def cancel(tenant_id: UUID, kind: str, subject_ids: Sequence[UUID]) -> None:
    """Takes timers back, once what runs them now has come to its end. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_CANCEL, [tenant_id, kind, list(subject_ids)])


def run_due(
    kind: str, handle: Handler, *, clock: Callable[[], datetime] = timezone.now, budget_s: float = float("inf")
) -> int:
    """Calls `handle` for every timer that is due, in the order of their times, each in one transaction that takes the
    timer away; returns how many. To be called outside of transactions; stops after `budget_s`.

    Any number may run at once: a tenant's timers are one run's at a time, so that its order holds, and a timer is
    locked while it runs. If `handle` raises, or the process dies, everything it wrote is rolled back and the timer is
    there for the next run; the others go on. Timers of tenants that are not active wait.
    """
    until = time.monotonic() + budget_s
    elsewhere: set[UUID] = set()
    after = (datetime.fromisoformat("0001-01-01T00:00:00+00:00"), 0)
    done = 0
    while True:
        page = _due(kind, clock(), after)
        for timer in page:
            if time.monotonic() >= until:
                return done
            if timer.tenant_id in elsewhere:
                continue
            try:
                done += _run(timer, handle, clock, elsewhere)
            except Exception:
                logger.exception("the %s %s of tenant %s failed and waits", kind, timer.subject_id, timer.tenant_id)
        if len(page) < PAGE_ROWS:
            return done
        after = (page[-1].due_at, page[-1].id)


def _due(kind: str, now: datetime, after: tuple[datetime, int]) -> list[DueTimer]:
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [kind, now, *after, PAGE_ROWS])
        return [DueTimer(*row) for row in cursor.fetchall()]


def _run(timer: DueTimer, handle: Handler, clock: Callable[[], datetime], elsewhere: set[UUID]) -> bool:
    """Whether it was this one that ran the timer. A tenant whose timers another run is at goes into `elsewhere`."""
    with transaction.atomic():
        now = clock()
        with connection.cursor() as cursor:
            cursor.execute(_TAKE_TENANT, [str(timer.tenant_id)])
            if cursor.fetchone() == (False,):
                elsewhere.add(timer.tenant_id)
                return False
            cursor.execute(_CLAIM, [timer.id, now])
            if cursor.fetchone() is None:
                return False
        again_at = handle(timer, now)
        with connection.cursor() as cursor:
            if again_at is None:
                cursor.execute(_DROP, [timer.id])
            else:
                cursor.execute(_POSTPONE, [again_at, timer.id])
    return True
