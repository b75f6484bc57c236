"""The process of a swarm, `python -m bench.swarmer PORT FILE`: clients that cost little, told what to do by lines of
JSON on standard input, each answered by one on standard output. Ends with its input. See `bench.swarm`."""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

from bench import websocket

ANSWER_WITHIN_S = 300.0
MAX_ATTEMPTS = 30
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.1, 2.0

Lost = (OSError, TimeoutError)


class Wire(asyncio.Protocol):
    """One connection of a client; says nothing any more when the client has another, or none."""

    __slots__ = ("_client", "_deflate", "_frames", "_head", "_transport")

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._head: bytearray | None = bytearray()
        self._deflate = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent

    def connection_lost(self, exc: Exception | None) -> None:
        if self._client.wire is self:
            self._client.lost()

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, end, data = bytes(self._head).partition(websocket.END_OF_HEAD)
            if not end:
                return
            self._head = None
            self._deflate = websocket.agrees_to_deflate(head)
            self._frames = websocket.Frames(deflate=self._deflate)
            self.send(self._client.first)
        for opcode, payload in self._frames.feed(data):
            if self._client.wire is not self:
                return
            if opcode == websocket.TEXT:
                self._client.take(orjson.loads(payload))
            elif opcode == websocket.PING:
                self._transport.write(websocket.pong(payload))
            elif opcode == websocket.CLOSE:
                self._transport.close()

    def shake_hands(self, port: int, *, deflate: bool) -> None:
        self._transport.write(websocket.handshake(port, deflate=deflate))

    def send(self, payload: bytes) -> None:
        self._transport.write(websocket.text(payload, deflate=self._deflate))

    def cut(self) -> None:
        self._transport.abort()


class Client:
    """One device. It keeps the last seq of each of its conversations over all its connections."""

    __slots__ = (
        "_answers",
        "_ids",
        "attempts",
        "conversations",
        "events",
        "first",
        "gaps",
        "held",
        "incomplete",
        "port",
        "presence",
        "wire",
    )

    def __init__(self, port: int, line: Mapping[str, Any]) -> None:
        self.port = port
        self.first: bytes = line["authenticate"].encode()
        self.conversations: list[str] = line["conversations"]
        self.held: dict[str, int] = {}
        self.wire: Wire | None = None
        self.attempts = self.events = self.gaps = self.incomplete = 0
        self.presence: Counter[str] = Counter()
        self._answers: dict[Any, asyncio.Future[Any]] = {}
        self._ids = count(1)

    async def connect(self, *, resume: bool, deflate: bool) -> None:
        """Returns when the server has let it in, and with `resume`, has told it everything. Comes back as often as it
        must, after a pause of full jitter that grows. Raises ConnectionError when it has given up."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            self.attempts += 1
            try:
                await asyncio.wait_for(self._connect(resume=resume, deflate=deflate), ANSWER_WITHIN_S)
            except Lost:
                self.cut()
                await asyncio.sleep(random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**attempt)))
            else:
                return
        raise ConnectionError(f"not let in, {MAX_ATTEMPTS} times")

    async def _connect(self, *, resume: bool, deflate: bool) -> None:
        loop = asyncio.get_running_loop()
        _, self.wire = await loop.create_connection(lambda: Wire(self), "127.0.0.1", self.port)
        authenticated = self._expect("authenticated")
        self.wire.shake_hands(self.port, deflate=deflate)
        await authenticated
        if resume:
            self.held = self.held or dict.fromkeys(self.conversations, 0)
            resumed = (await self.command("resume", {"conversations": self.held}))["conversations"]
            self.incomplete += sum(not outcome["complete"] for outcome in resumed.values())

    def command(self, type_: str, data: Mapping[str, Any]) -> "asyncio.Future[Any]":
        """Its `ack`'s data. Raises ConnectionError if it is refused or the connection is lost before."""
        number = next(self._ids)
        answer = self._expect(number)
        if self.wire is None:
            self.lost()
        else:
            self.wire.send(orjson.dumps({"type": type_, "id": number, "data": data}))
        return answer

    def cut(self) -> None:
        """Without a close frame: the server sees the end of the TCP connection."""
        if self.wire is not None:
            self.wire.cut()
            self.lost()

    def _expect(self, key: Any) -> "asyncio.Future[Any]":
        answer = self._answers[key] = asyncio.get_running_loop().create_future()
        return answer

    def lost(self) -> None:
        self.wire = None
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("lost"))

    def take(self, frame: dict[str, Any]) -> None:
        type_, data = frame["type"], frame["data"]
        if type_ in {"ack", "error", "authenticated"}:
            self._answer(type_, frame.get("id") or type_, data)
        elif type_ == "user_presence":
            self.presence[data["userId"]] += 1
        elif (seq := data.get("seq")) is not None and self.held:
            conversation = data["conversationId"]
            self.events += 1
            self.gaps += seq != self.held[conversation] + 1
            self.held[conversation] = seq

    def _answer(self, type_: str, key: Any, data: Any) -> None:
        answer = self._answers.pop(key, None)
        if answer is None or answer.done():
            return
        if type_ == "error":
            answer.set_exception(ConnectionError(f"refused: {data}"))
        else:
            answer.set_result(data)


class Swarmer:
    """What the lines of standard input ask for: a method each."""

    def __init__(self, clients: list[Client]) -> None:
        self._clients = clients
        self._sends: list[tuple[float, float]] = []
        self._failed = 0
        self._is_over = False
        self._sending: asyncio.Task[None] | None = None

    async def open(self, *, at_once: int, resume: bool = False, deflate: bool = False) -> dict[str, Any]:
        """Connects everybody, so many at a time. `seconds`: for each, from the beginning until it was let in (and had
        resumed)."""
        door, began, before = asyncio.Semaphore(at_once), time.monotonic(), self._attempts()

        async def come(client: Client) -> float:
            async with door:
                await client.connect(resume=resume, deflate=deflate)
            return time.monotonic() - began

        seconds = await asyncio.gather(*map(come, self._clients))
        return {"began": began, "seconds": seconds, "attempts": self._attempts() - before}

    async def cut(self) -> dict[str, Any]:
        at = time.monotonic()
        for client in self._clients:
            client.cut()
        return {"at": at}

    async def look(self, *, conversations: list[str]) -> dict[str, Any]:
        """Everybody looks at these conversations."""
        for client in self._clients:
            for conversation in conversations:
                await client.command("join_conversation", {"conversationId": conversation})
        return {}

    async def send(self, *, per_second: float) -> dict[str, Any]:
        """Begins to send steadily, everybody by turns into their own conversations."""
        self._sends, self._failed, self._is_over = [], 0, False
        self._sending = asyncio.create_task(self._send_on(1 / per_second))
        return {}

    async def sent(self) -> dict[str, Any]:
        """Ends the sending. `sends`: when each was due (monotonic), and the seconds from then to its ack."""
        assert self._sending is not None
        self._is_over = True
        await self._sending  # and what is under way
        return {"sends": self._sends, "failed": self._failed}

    async def presence(self) -> dict[str, Any]:
        """For each client the `user_presence` frames that it got since it was asked last, and how many of them were
        about the user whom most were about."""
        answer = {
            "frames": [client.presence.total() for client in self._clients],
            "most": max((max(client.presence.values(), default=0) for client in self._clients), default=0),
        }
        for client in self._clients:
            client.presence.clear()
        return answer

    async def state(self) -> dict[str, Any]:
        return {
            "open": sum(client.wire is not None for client in self._clients),
            "events": sum(client.events for client in self._clients),
            "gaps": sum(client.gaps for client in self._clients),
            "incomplete": sum(client.incomplete for client in self._clients),
        }

    def _attempts(self) -> int:
        return sum(client.attempts for client in self._clients)

    async def _send_on(self, every_s: float) -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in count():
                if self._is_over:
                    return
                client = self._clients[number % len(self._clients)]
                turn = number // len(self._clients) % len(client.conversations)
                group.create_task(self._send(client, client.conversations[turn], due))
                due += every_s
                await asyncio.sleep(max(0, due - time.monotonic()))

    async def _send(self, client: Client, conversation: str, due: float) -> None:
        content = {"text": "How are you all today?"}
        try:
            await client.command("send_message", {"conversationId": conversation, "type": "text", "content": content})
        except ConnectionError:
            self._failed += 1
        else:
            self._sends.append((due, time.monotonic() - due))


async def main(port: int, path: str) -> None:
    lines = await asyncio.to_thread(_read, path)
    swarmer = Swarmer([Client(port, orjson.loads(line)) for line in lines])
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        deed: Callable[..., Awaitable[dict[str, Any]]] = getattr(swarmer, asked.pop("do"))
        print(json.dumps(await deed(**asked)), flush=True)


def _read(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
