"""`scripts/chat` with a person at it: what they type becomes commands, and every frame becomes a line."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from itertools import count
from uuid import uuid4

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.patch_stdout import patch_stdout

from scripts.launcher.failures import LauncherError
from scripts.terminal.account import Unreachable
from scripts.terminal.commands import COMMANDS, Action, Local, Misunderstood, Scene, Send, SendAsIs, help_text, parse
from scripts.terminal.lines import Style, printable
from scripts.terminal.link import Answered, Link, Lost, NotConnected
from scripts.terminal.protocol import Frame
from scripts.terminal.reading import lines_of

PROMPT = "> "


class Conversation:
    """What is on the screen, and the messages that have not been acknowledged yet.

    A message carries a `clientMessageId`, so one whose answer the connection took with it is sent again: it is stored
    once all the same. Nothing else is sent twice.
    """

    def __init__(self, style: Style) -> None:
        self.scene = Scene()
        self.left = False
        self._style = style
        self._link: Link | None = None
        self._ids = count(1)
        self._messages: dict[int, Frame] = {}
        self._joining: dict[int, str] = {}
        self._sending: set[asyncio.Task[None]] = set()

    # --- what the link tells ----------------------------------------------------------------------------------------

    def sent(self, frame: Frame) -> None:
        self._show(self._style_now().sent(frame, _now()))

    def received(self, text: str, frame: Frame | None, answered: Answered | None) -> None:
        if frame is None:
            self.say(f"not a frame: {text}", bad=True)
            return
        self._show(self._style_now().received(frame, answered, _now()))
        data, frame_id = frame["data"], frame.get("id")
        if isinstance(frame_id, int):
            self._answered(frame, frame_id)
        if data.get("conversationId") == self.scene.conversation and self.scene.conversation is not None:
            if isinstance(data.get("seq"), int):
                self.scene.last_seq = max(data["seq"], self.scene.last_seq or 0)
            message = data.get("message")
            if isinstance(message, dict):
                self.scene.messages[message["seq"]] = message["id"]
            if frame["type"] == "conversation_removed":
                self.scene.enter(None)

    def _answered(self, frame: Frame, frame_id: int) -> None:
        wanted = self._joining.pop(frame_id, None)
        if wanted is not None:
            if frame["type"] == "error":
                self.say(f"Not in {wanted}. /conversations lists those that you are in.", bad=True)
            else:
                self.scene.enter(frame["data"]["conversationId"], frame["data"]["lastSeq"])
        self._messages.pop(frame_id, None)

    def opened(self) -> None:
        """What may have got lost on the way is sent again, now that there is a way."""
        for frame in list(self._messages.values()):
            task = asyncio.create_task(self._send(frame))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def lost(self, lost: Lost) -> None:
        self._show(self._style_now().lost(lost, _now()))
        for frame_id, kind in lost.unanswered.items():
            if frame_id in self._messages:
                self.say(f"message id={frame_id} is sent again after reconnecting; it is stored once all the same")
            elif frame_id not in self._joining:
                self.say(f"no answer came to {kind} id={frame_id}; it may have been done or not", bad=True)

    # --- what the person says ---------------------------------------------------------------------------------------

    async def begin(self, link: Link) -> None:
        """Look at what there is, so that nothing from here on is missed. Raises LauncherError."""
        self._link = link
        account = link.account
        self.say(f"{account.socket_url}{f' as {account.user}' if account.user else ''}. /help lists the commands.")
        try:
            for held in await account.conversations(await account.get_token()):
                link.positions.begin(held["id"], held["lastSeq"])
        except Unreachable as error:
            raise LauncherError(
                f"{account.url} cannot be reached: {error}.",
                hint="Is it running? scripts/up starts one here; --url names another.",
            ) from None

    async def type(self, line: str) -> None:
        """One line from the person."""
        try:
            action = parse(line, self.scene)
            if action is not None:
                await self.do(action)
        except Misunderstood as error:
            self.say(str(error), bad=True)

    async def do(self, action: Action) -> None:
        match action:
            case Send():
                await self._command(action)
            case SendAsIs():
                await self._send(action.frame)
            case Local(name="help"):
                self._show(help_text(action.topic))
            case Local(name="conversations"):
                await self._list()
            case Local(name="resume"):
                assert self._link is not None
                await self._command(Send("resume", {"conversations": self._link.positions.to_resume()}))
            case Local(name="quit"):
                self.left = True

    async def _command(self, action: Send) -> None:
        frame_id = next(self._ids)
        data = action.data
        if action.type == "send_message":
            data = {**data, "clientMessageId": str(uuid4())}
        frame = {"type": action.type, "id": frame_id, "data": data}
        if action.type == "send_message":
            self._messages[frame_id] = frame
        elif action.type == "join_conversation":
            self._joining[frame_id] = data["conversationId"]
        await self._send(frame)

    async def _send(self, frame: Frame) -> None:
        assert self._link is not None
        try:
            await self._link.send(frame)
        except NotConnected:
            if frame.get("id") in self._messages:
                self.say("Not connected: the message waits.")
            else:
                self._joining.pop(frame.get("id", 0), None)
                self.say("Not connected: try again when it is.", bad=True)

    async def _list(self) -> None:
        assert self._link is not None
        account = self._link.account
        try:
            found = await account.conversations(await account.get_token())
        except (Unreachable, LauncherError) as error:
            self.say(str(error), bad=True)
            return
        for held in found:
            here = "*" if held["id"] == self.scene.conversation else " "
            name = held["externalId"] or held["id"]
            unread = (held.get("membership") or {}).get("unreadCount") or 0
            title = f"  {held['title']}" if held["title"] else ""
            self._show(printable(f"{here} {name}  {held['type']}, seq {held['lastSeq']}, {unread} unread{title}"))
        if not found:
            self.say("No conversations.")

    # --- the screen -------------------------------------------------------------------------------------------------

    def say(self, text: str, *, bad: bool = False) -> None:
        self._show(self._style_now().note(text, _now(), bad=bad))

    def _style_now(self) -> Style:
        # The window may have been made wider since.
        return (
            self._style if self._style.width is None else replace(self._style, width=shutil.get_terminal_size().columns)
        )

    def _show(self, text: str) -> None:
        print(text, flush=True)


def _now() -> datetime:
    return datetime.now().astimezone()


async def run_interactive(link: Link, screen: Conversation, *, conversation: str | None) -> None:
    """Until the person leaves or the link is over. Raises as `Link.run` does."""
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    await screen.begin(link)
    running = asyncio.create_task(link.run())
    with patch_stdout(raw=True) if at_terminal else nullcontext():
        typing = asyncio.create_task(_listen(link, screen, conversation, at_terminal=at_terminal))
        try:
            await asyncio.wait({running, typing}, return_when=asyncio.FIRST_COMPLETED)
            if typing.done():
                typing.result()
                await link.close()
            await running
        finally:
            for task in (running, typing):
                task.cancel()
            await asyncio.gather(running, typing, return_exceptions=True)


async def _listen(link: Link, screen: Conversation, conversation: str | None, *, at_terminal: bool) -> None:
    """The input to its end. Without a person at it, every line waits for what the one before has brought about."""
    if await link.until_over_or_ready() and conversation is not None:
        await screen.do(Send("join_conversation", {"conversationId": conversation}))
    if not at_terminal:
        await link.settle()
    async for line in _prompted() if at_terminal else lines_of(sys.stdin.fileno()):
        await screen.type(line)
        if screen.left:
            return
        if not at_terminal:
            await link.settle()


async def _prompted() -> AsyncIterator[str]:
    """What is typed at the prompt, until Ctrl-D or Ctrl-C."""
    session: PromptSession[str] = PromptSession(
        completer=WordCompleter([f"/{name}" for name in COMMANDS], sentence=True), complete_while_typing=False
    )
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            yield await session.prompt_async(PROMPT)
