"""Counting what is used, exactly, in the transaction that uses it. Locks the tenant's counter row until it ends.

Order of locks in a send: conversations in id order, then the month's row. The row comes last so that it is held for
as short as a commit allows, and since it is one row a tenant there is nothing to deadlock with.
"""

from datetime import UTC, date, datetime
from uuid import UUID

from django.db import connection

from messagecore.kernel import wire
from messagecore.kernel.errors import Refusal
from quotas.models import StandingUsage

_ADD_MESSAGES = """
UPDATE public.quotas_monthlyusage SET messages = messages + %s, updated_at = %s
WHERE tenant_id = %s AND month = %s AND messages + %s <= %s"""

_LOCK_MONTH = "SELECT messages FROM public.quotas_monthlyusage WHERE tenant_id = %s AND month = %s FOR UPDATE"

_NEW_MONTH = """
INSERT INTO public.quotas_monthlyusage (tenant_id, month, messages, updated_at) VALUES (%s, %s, 0, %s)
ON CONFLICT DO NOTHING"""

_ADD_USERS = """
UPDATE public.quotas_standingusage SET active_users = active_users + %s
WHERE tenant_id = %s AND active_users + %s <= %s"""

_RELEASE_USERS = """
UPDATE public.quotas_standingusage SET active_users = GREATEST(active_users - %s, 0) WHERE tenant_id = %s"""

_ADD_STORAGE = """
UPDATE public.quotas_standingusage SET storage_bytes = storage_bytes + %s
WHERE tenant_id = %s AND storage_bytes + %s <= %s"""

_RELEASE_STORAGE = """
UPDATE public.quotas_standingusage SET storage_bytes = GREATEST(storage_bytes - %s, 0) WHERE tenant_id = %s"""


class MessageQuotaExceeded(Refusal):
    code = "message_quota_exceeded"


class UserQuotaExceeded(Refusal):
    code = "user_quota_exceeded"


class StorageQuotaExceeded(Refusal):
    code = "storage_quota_exceeded"


def month_of(at: datetime) -> date:
    """The first day of the calendar month in UTC."""
    return at.astimezone(UTC).date().replace(day=1)


def month_resets_at(at: datetime) -> datetime:
    """When the next month begins, UTC."""
    first = month_of(at)
    following = (
        first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)
    )
    return datetime(following.year, following.month, 1, tzinfo=UTC)


def message_quota_exceeded(now: datetime) -> MessageQuotaExceeded:
    return MessageQuotaExceeded(details={"resetAt": wire.timestamp(month_resets_at(now))})


def take_messages(tenant_id: UUID, wanted: int, *, limit: int, now: datetime) -> int:
    """Counts up to `wanted` messages of this month and returns how many the limit allowed.

    Exact under concurrency: the row is locked from here to the end of the transaction, and a rollback gives back
    what was taken. One statement while there is room, three at the limit or at the first send of a month.
    """
    if wanted <= 0:
        return 0
    month = month_of(now)
    with connection.cursor() as cursor:
        cursor.execute(_ADD_MESSAGES, [wanted, now, tenant_id, month, wanted, limit])
        if cursor.rowcount:
            return wanted
        cursor.execute(_NEW_MONTH, [tenant_id, month, now])
        cursor.execute(_LOCK_MONTH, [tenant_id, month])
        row = cursor.fetchone()
        assert row is not None
        allowed: int = max(0, min(wanted, limit - row[0]))
        if allowed:
            cursor.execute(_ADD_MESSAGES, [allowed, now, tenant_id, month, allowed, limit])
        return allowed


def take_users(tenant_id: UUID, count: int, *, limit: int) -> None:
    """Counts `count` more active users, all or none. Raises UserQuotaExceeded. Locks the tenant's row."""
    if count <= 0:
        return
    with connection.cursor() as cursor:
        cursor.execute(_ADD_USERS, [count, tenant_id, count, limit])
        if not cursor.rowcount:
            raise UserQuotaExceeded


def active_users(tenant_id: UUID) -> int:
    """How many are counted now; may be another number by the time that some are taken."""
    return StandingUsage.objects.values_list("active_users", flat=True).get(tenant_id=tenant_id)


def release_users(tenant_id: UUID, count: int) -> None:
    """Counts `count` fewer active users."""
    if count > 0:
        with connection.cursor() as cursor:
            cursor.execute(_RELEASE_USERS, [count, tenant_id])


def check_storage(tenant_id: UUID, size_bytes: int, *, limit: int) -> None:
    """Raises StorageQuotaExceeded if so many bytes do not fit at this moment. Locks nothing: to refuse early what
    `take_storage` is going to refuse."""
    used = StandingUsage.objects.values_list("storage_bytes", flat=True).get(tenant_id=tenant_id)
    if used + size_bytes > limit:
        raise StorageQuotaExceeded


def take_storage(tenant_id: UUID, size_bytes: int, *, limit: int) -> None:
    """Counts a file of so many bytes. Raises StorageQuotaExceeded. Locks the tenant's row."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD_STORAGE, [size_bytes, tenant_id, size_bytes, limit])
        if not cursor.rowcount:
            raise StorageQuotaExceeded


def release_storage(tenant_id: UUID, size_bytes: int) -> None:
    """Counts so many bytes less."""
    if size_bytes > 0:
        with connection.cursor() as cursor:
            cursor.execute(_RELEASE_STORAGE, [size_bytes, tenant_id])
