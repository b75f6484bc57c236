"""Users who are online in the store, as a web process with their sockets would have them."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from realtime.presence.store import PresenceStore, Report, UserReport


def connect(tenant_id: UUID, user_ids: Sequence[UUID], *, status: str = "O") -> None:
    """Of a process that dies at once: they stay for its lease. `O`: online, `A`: away."""
    asyncio.run(_connect(tenant_id, user_ids, status))


async def _connect(tenant_id: UUID, user_ids: Sequence[UUID], status: str) -> None:
    store = PresenceStore()
    try:
        users = [UserReport(user_id, status) for user_id in user_ids]
        await store.report([Report(tenant_id, "", f"{len(users)} 1", users)])
    finally:
        await store.close()
