"""What one web process has of realtime: its hub, its presence, its regular duties; started and ended with it."""

import asyncio
from functools import cache

from messaging.services.batching import send_batcher
from realtime.hub import hub
from realtime.presence import PresenceStore
from realtime.watch import Watch

FINISH_SENDS_S = 5.0


@cache
def presence_store() -> PresenceStore:
    return PresenceStore()


@cache
def watch() -> Watch:
    return Watch(hub(), presence_store())


async def start() -> None:
    hub().start()
    watch().start()


async def stop() -> None:
    await watch().stop()
    await hub().stop()
    await asyncio.to_thread(send_batcher().close, timeout_s=FINISH_SENDS_S)
    await presence_store().close()
