"""Bytes that have to go from the file storage: the one module that knows their table."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction

RETRY_AFTER = timedelta(minutes=1)
"""When the storage could not remove something, it is asked again so much later."""

_PROMISE = """
INSERT INTO public.tenants_storageremoval (storage_key, tenant_id, due_at) SELECT unnest(%s::text[]), %s, %s
ON CONFLICT (storage_key) DO UPDATE SET due_at = EXCLUDED.due_at"""

_WITHDRAW = "DELETE FROM public.tenants_storageremoval WHERE storage_key = %s"

_CLAIM = """
SELECT storage_key FROM public.tenants_storageremoval WHERE due_at <= %s
ORDER BY due_at, storage_key LIMIT %s FOR UPDATE SKIP LOCKED"""

_DONE = "DELETE FROM public.tenants_storageremoval WHERE storage_key = ANY(%s)"

_LATER = "UPDATE public.tenants_storageremoval SET due_at = %s WHERE storage_key = ANY(%s)"


def promise(tenant_id: UUID, storage_keys: Sequence[str], *, due_at: datetime) -> None:
    """The bytes under these keys go at `due_at`, if the caller's transaction commits. One statement.

    ORM: `StorageRemoval.objects.bulk_create(…, update_conflicts=True, …)`.
    """
    if storage_keys:
        with connection.cursor() as cursor:
            cursor.execute(_PROMISE, [list(storage_keys), tenant_id, due_at])


def withdraw(storage_key: str) -> bool:
    """The bytes stay. False if the promise was kept already: they are gone. Waits for a sweeper that is at it."""
    with connection.cursor() as cursor:
        cursor.execute(_WITHDRAW, [storage_key])
        return bool(cursor.rowcount)


def sweep(remove: Callable[[str], bool], *, limit: int, now: datetime) -> int:
    """Calls `remove` for up to `limit` keys that are due and returns how many it took. What it says False to is tried
    again after RETRY_AFTER.

    Several sweepers may run at once: a claimed key is locked and skipped by the others. If the process dies, the keys
    come again, also those whose bytes are gone: `remove` has to take that for success.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CLAIM, [now, limit])
        keys = [row[0] for row in cursor.fetchall()]
        done = {key for key in keys if remove(key)}
        if done:
            cursor.execute(_DONE, [list(done)])
        if len(done) < len(keys):
            cursor.execute(_LATER, [now + RETRY_AFTER, [key for key in keys if key not in done]])
    return len(keys)
