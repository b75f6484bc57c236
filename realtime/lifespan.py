"""ASGI's lifespan: when the process starts and ends."""

import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from realtime import process
from realtime.fallback.commands import exchange

logger = logging.getLogger(__name__)


class Lifespan:
    """Answers the server's start and shutdown. What was made by then is frozen out of the garbage collector's sight:
    it lives as long as the process, and looking through it was the tail of every latency."""

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await process.start()
                exchange().start()
                gc.collect()
                gc.freeze()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                try:
                    await exchange().stop()
                    await process.stop()
                except Exception:
                    logger.exception("the process did not end cleanly")
                await send({"type": "lifespan.shutdown.complete"})
                return
