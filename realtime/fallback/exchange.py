"""What processes ask of each other about a connection that only one of them has: over the Channels layer."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from redis import RedisError

from messagecore.kernel.errors import ServiceUnavailable

logger = logging.getLogger(__name__)

ANSWERED_WITHIN_S = 5.0
SENT_WITHIN_S = 2.0
SENT_AT_ONCE = 16
"""Each takes a connection to Redis, of which the client has a hundred; who listens needs one, too."""

AGAIN_AFTER_S = 1.0
STOP_TRIES, STOP_TRY_S = 10, 0.2
MAX_AT_ONCE = 200
"""Requests of others that are worked on here; more of them are not answered, and told so by the time that is over."""

Perform = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def channel_of(process: str) -> str:
    return f"process.{process}"


class Exchange:
    """Starts with the process and ends with it. Answers requests that come to `process` by `perform`."""

    def __init__(self, process: str, perform: Perform) -> None:
        self._process = process
        self._perform = perform
        self._listening: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Semaphore(SENT_AT_ONCE)

    def start(self) -> None:
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def stop(self) -> None:
        """Within STOP_TRIES × STOP_TRY_S. redis-py may swallow a cancellation that comes together with an answer: it is
        said again, or the process would wait for requests instead of ending."""
        tasks = {task for task in (self._listening, *self._working) if task is not None}
        for _ in range(STOP_TRIES):
            for task in tasks:
                task.cancel()
            if tasks:
                _, tasks = await asyncio.wait(tasks, timeout=STOP_TRY_S)
        if tasks:
            logger.warning("%d requests of other processes did not end", len(tasks))

    async def ask(self, process: str, request: dict[str, Any]) -> dict[str, Any]:
        """What `process` answers. Raises ServiceUnavailable if it does not in ANSWERED_WITHIN_S, or Redis is away;
        then it may have been done all the same."""
        call = secrets.token_hex(16)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[call] = answer
        try:
            await self._send(process, {"call": call, "from": self._process, "request": request})
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                answered = await answer
        except (RedisError, OSError, ChannelFull, TimeoutError) as error:
            logger.warning("another process was asked in vain: %r", error)
            raise ServiceUnavailable from None
        finally:
            del self._answers[call]
        return answered

    async def _send(self, process: str, message: dict[str, Any]) -> None:
        async with asyncio.timeout(SENT_WITHIN_S), self._sending:
            await get_channel_layer().send(channel_of(process), message)

    async def _listen(self) -> None:
        while True:
            try:
                self._take(await get_channel_layer().receive(channel_of(self._process)))
            except (RedisError, OSError) as error:
                logger.warning("requests of other processes wait for Redis: %s", error)
                await asyncio.sleep(AGAIN_AFTER_S)
            except Exception:
                logger.exception("requests of other processes could not be taken")
                await asyncio.sleep(AGAIN_AFTER_S)

    def _take(self, message: dict[str, Any]) -> None:
        if "answer" in message:
            waiting = self._answers.get(message["call"])
            if waiting is not None and not waiting.done():
                waiting.set_result(message["answer"])
        elif len(self._working) < MAX_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._work(message))
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):  # a resume lasts as long as its client reads
                answer = await self._perform(message["request"])
            with suppress(RedisError, OSError, ChannelFull, TimeoutError):  # who asked has given up by itself
                await self._send(message["from"], {"call": message["call"], "answer": answer})
        except TimeoutError:
            logger.info("a request of another process is not answered: it takes too long")
        except Exception:
            logger.exception("a request of another process failed")
