"""`scripts/chat --raw`: frames as JSON lines, from standard input to the socket and from it to standard output."""

import asyncio
import json
import sys

from scripts.terminal.link import Answered, Link, Lost, NotConnected, Uncertain
from scripts.terminal.protocol import Frame
from scripts.terminal.reading import lines_of

LOST_IS_NOTICED_S = 0.05
"""From a connection that takes no more frames to the link's knowing it."""


class OutputClosed(Exception):
    """Whoever read our output has gone."""


class RawWatcher:
    """Frames go out as they came; whatever the client has to say goes to the standard error."""

    def sent(self, frame: Frame) -> None:
        pass

    def received(self, text: str, frame: Frame | None, answered: Answered | None) -> None:
        # The server writes no line breaks; what a proxy may write shall not break a line either.
        _write(" ".join(text.splitlines()))

    def opened(self) -> None:
        pass

    def lost(self, lost: Lost) -> None:
        why = lost.problem if lost.code is None else f"closed {lost.code.code} {lost.code.name}: {lost.code.meaning}"
        then = "not reconnecting" if lost.retry_in_s is None else f"reconnecting in {lost.retry_in_s:.1f} s"
        _say(f"{why} ({then})")
        for frame_id, kind in lost.unanswered.items():
            _say(f"no answer came to {kind} with id {json.dumps(frame_id)}; it may have been done or not")


async def run_raw(link: Link, *, conversation: str | None, follow: bool) -> None:
    """Until the input ends and everything in it is answered; with `follow`, until the link is over.

    Lines that are no frames are sent all the same: what the server says to them is worth seeing. While there is no
    connection the input waits. Raises as `Link.run` does, and OutputClosed.
    """
    running = asyncio.create_task(link.run())
    feeding = asyncio.create_task(_feed(link, conversation, follow=follow))
    try:
        await asyncio.wait({running, feeding}, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()
            await link.close()
        await running
    finally:
        for task in (running, feeding):
            task.cancel()
        await asyncio.gather(running, feeding, return_exceptions=True)


async def _feed(link: Link, conversation: str | None, *, follow: bool) -> None:
    if conversation is not None:
        await _send(link, json.dumps({"type": "join_conversation", "data": {"conversationId": conversation}}))
    async for line in lines_of(sys.stdin.fileno()):
        if line.strip():
            await _send(link, line)
    await (asyncio.Event().wait() if follow else link.settle())


async def _send(link: Link, line: str) -> None:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        read = None
    while await link.until_over_or_ready():
        try:
            await link.send_text(line, read if isinstance(read, dict) else None)
        except Uncertain:
            _say(f"the connection broke while this was sent; it may have been done or not: {line[:200]}")
        except NotConnected:
            await asyncio.sleep(LOST_IS_NOTICED_S)
            continue
        return


def _write(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        raise OutputClosed from None


def _say(text: str) -> None:
    print(f"scripts/chat: {text}", file=sys.stderr, flush=True)
