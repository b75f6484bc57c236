"""Lines from the standard input, whatever it is: a pipe, a file, a terminal."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

_CHUNK_BYTES = 65_536

LINES_AHEAD = 16
"""Read before they are asked for; whoever writes more waits."""


async def lines_of(descriptor: int) -> AsyncIterator[str]:
    """Whole lines without their ends, as fast as they are asked for; the last may lack its end.

    A thread of its own reads: a file cannot be waited for otherwise, and one that waits for a terminal must not keep
    the process from ending.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    wanted = threading.Semaphore(LINES_AHEAD)

    def give(line: bytes | None) -> None:
        wanted.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, line)

    def read() -> None:
        held = b""
        with suppress(RuntimeError):  # the loop is closed: nobody wants lines any more
            with suppress(OSError):  # the terminal is gone
                while chunk := os.read(descriptor, _CHUNK_BYTES):
                    *whole, held = (held + chunk).split(b"\n")
                    for line in whole:
                        give(line)
            if held:
                give(held)
            give(None)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while (line := await queue.get()) is not None:
        wanted.release()
        yield line.decode("utf-8", "replace").rstrip("\r")
