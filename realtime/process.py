"""What one web process has of realtime: its hub, its presence, its regular duties; started and ended with it."""

import asyncio
from functools import cache

from django.conf import settings

from messaging.services.batching import send_batcher
from realtime.connection import QueuedBytes
from realtime.hub import hub
from realtime.limits import Door
from realtime.presence.announcing import Announcements
from realtime.presence.keeper import PresenceKeeper
from realtime.presence.store import PresenceStore
from realtime.watch import Watch

FINISH_SENDS_S = 5.0


@cache
def presence_store() -> PresenceStore:
    return PresenceStore()


@cache
def presence_keeper() -> PresenceKeeper:
    return PresenceKeeper(presence_store(), Announcements(hub()).announce)


@cache
def door() -> Door:
    return Door()


@cache
def queued_bytes() -> QueuedBytes:
    return QueuedBytes(settings.SOCKET_MAX_QUEUED_BYTES_TOGETHER)


@cache
def watch() -> Watch:
    return Watch(hub(), door())


async def start() -> None:
    hub().start()
    presence_keeper().start()
    watch().start()


async def stop() -> None:
    await watch().stop()
    await presence_keeper().stop()
    await hub().stop()
    await asyncio.to_thread(send_batcher().close, timeout_s=FINISH_SENDS_S)
    await presence_store().close()
