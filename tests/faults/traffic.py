"""What people do all the while: messages by socket and by REST, edits, deletions, reactions, pins, blocks, coming and
going; each said again until it is answered for good."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.e2e.client import Refused, unique
from tests.faults.client import Client
from tests.faults.scene import Scene

FINISH_WITHIN_S = 60.0
REMEMBERED = 200
PAUSE_S = 0.01
"""Between two deeds of one hand: the machine that runs this runs everything."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was acknowledged."""

    conversation: str
    id: str
    sender: Client


@dataclass
class Traffic:
    """`hands` do something at a time, and one more takes people out and lets them in again, if they `move`."""

    scene: Scene
    hands: int = 6
    move: bool = True
    done: int = 0
    messages: int = 0
    _known: deque[Sent] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __post_init__(self) -> None:
        self._dice = random.Random(self.scene.seed * 31 + 7)

    async def deeds(self, count: int) -> None:
        """Does that many, and returns when each has had its answer."""
        goal = self.done + count
        await self._work(lambda: self.done >= goal)

    @asynccontextmanager
    async def meanwhile(self) -> AsyncIterator[None]:
        """Does what it can while the block runs; leaves when everything has had its answer."""
        ended = asyncio.Event()
        working = asyncio.create_task(self._work(ended.is_set))
        try:
            yield
        finally:
            ended.set()
            await asyncio.wait_for(working, FINISH_WITHIN_S)

    async def _work(self, is_over: Callable[[], bool]) -> None:
        async def hand(deed: Callable[[], Awaitable[None]], pause_s: float) -> None:
            while not is_over():
                # Who is not in the conversation any more is told so: that is an answer, too.
                with suppress(Refused):
                    await deed()
                self.done += 1
                await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.hands):
                group.create_task(hand(self._anything, PAUSE_S))
            if self.move:
                group.create_task(hand(self._move, 0.2))

    async def _anything(self) -> None:
        deeds: list[Callable[[], Awaitable[None]]] = [self._send] * 7
        if self._known:
            deeds += [self._edit, self._delete, self._react, self._pin, self._block]
        await self._dice.choice(deeds)()

    # --- deeds --------------------------------------------------------------------------------------------------------

    def _somebody(self, conversation: str) -> Client:
        members = self.scene.members[conversation]
        return self._dice.choice([client for client in self.scene.clients if client.user_id in members])

    def _by_socket(self, client: Client) -> bool:
        return client.is_awake and self._dice.random() < 0.5

    async def _send(self) -> None:
        conversation = self._dice.choice(list(self.scene.members))
        sender, key = self._somebody(conversation), unique("m")
        if self._by_socket(sender):
            said = await sender.send(conversation, key)
        else:
            said = await self.scene.backend.send(conversation, sender.user_id, key)
        self.messages += 1
        self._known.append(Sent(conversation, said["id"], sender))

    async def _edit(self) -> None:
        message, key = self._dice.choice(self._known), unique("edit")
        content = {"text": key}
        if self._by_socket(message.sender):
            data = {"messageId": message.id, "content": content}
            await message.sender.attempt("edit", message.conversation, message.id, "edit_message", data, key=key)
        else:
            await self._rest("edit", message, ("PATCH", f"/messages/{message.id}", {"content": content}), key)

    async def _delete(self) -> None:
        message, key = self._dice.choice(self._known), unique("delete")
        if self._dice.random() < 0.5:
            return
        with suppress(ValueError):
            self._known.remove(message)
        if self._by_socket(message.sender):
            data = {"messageId": message.id}
            await message.sender.attempt("delete", message.conversation, message.id, "delete_message", data, key=key)
        else:
            await self._rest("delete", message, ("DELETE", f"/messages/{message.id}", None), key)

    async def _react(self) -> None:
        message = self._dice.choice(self._known)
        client = self._somebody(message.conversation)
        for deed, command in (("react", "add_reaction"), ("unreact", "remove_reaction")):
            data = {"messageId": message.id, "name": "👍"}
            await client.attempt(deed, message.conversation, message.id, command, data, key=unique(deed))
            if self._dice.random() < 0.5:
                return

    async def _pin(self) -> None:
        message = self._dice.choice(self._known)
        for deed, method in (("pin", "PUT"), ("unpin", "DELETE")):
            await self._rest(deed, message, (method, f"/messages/{message.id}/pin", None), unique(deed), acts=False)

    async def _block(self) -> None:
        """For a moment; not the one who blocks somebody from beginning to end."""
        blocker, blocked = self._dice.sample([one for one in self.scene.users if one["id"] not in self.scene.blocks], 2)
        path = f"/users/{blocker['id']}/blocks"
        for deed, request in (
            ("block", ("POST", path, {"userId": blocked["id"]})),
            ("unblock", ("DELETE", f"{path}/{blocked['id']}", None)),
        ):
            await self.scene.backend.attempt(deed, "", blocked["id"], request, key=unique(deed), user=blocker["id"])
            await asyncio.sleep(self._dice.uniform(0, 0.2))

    async def _move(self) -> None:
        """Somebody is removed, or leaves, and is back a little later: in a group with the history or without."""
        conversation = self._dice.choice(list(self.scene.members))
        user = self._dice.choice(self.scene.members[conversation])
        people, backend = f"/conversations/{conversation}/participants", self.scene.backend
        leaves = self._dice.random() < 0.5
        deed = "leave" if leaves else "remove"
        with suppress(Refused):  # a repeat finds nobody
            await backend.attempt(
                deed, conversation, user, ("DELETE", f"{people}/{user}", None), key=unique(deed), user=user, acts=leaves
            )
        await asyncio.sleep(self._dice.uniform(0, 0.5))
        if conversation == self.scene.channel:
            request = ("POST", f"/conversations/{conversation}/join", None)
            await backend.attempt("join", conversation, user, request, key=unique("join"), user=user)
        else:
            body = {"participantIds": [user], "showHistory": self._dice.random() < 0.5}
            await backend.attempt(
                "add", conversation, user, ("POST", people, body), key=unique("add"), user=user, acts=False
            )

    async def _rest(
        self, deed: str, message: Sent, request: tuple[str, str, object], key: str, *, acts: bool = True
    ) -> None:
        await self.scene.backend.attempt(
            deed, message.conversation, message.id, request, key=key, user=message.sender.user_id, acts=acts
        )
