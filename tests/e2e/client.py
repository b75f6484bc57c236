"""An integrator's back end and its users' sockets, as strict as a client can be: every frame and answer that is not as
the protocol catalogue says fails the test."""

import asyncio
import itertools
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from messagecore.kernel import catalogue, validation
from messagecore.kernel.errors import ValidationFailed
from tests.e2e.cluster import Server

Frame = dict[str, Any]
Condition = Callable[[Frame], bool]

# How much longer than in CI the tests run that only get better by running long: 0, or a number of times.
SOAK = float(os.environ.get("MESSAGECORE_SOAK", "0"))

_numbers = itertools.count(1)


def unique(word: str) -> str:
    return f"{word}-{next(_numbers)}"


async def eventually(ask: Callable[[], Awaitable[Any]], fits: Callable[[Any], bool], timeout_s: float = 30) -> Any:
    """The first answer that fits."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not fits(answer := await ask()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout_s} s; last: {answer}"
        await asyncio.sleep(0.1)
    return answer


class Refused(Exception):
    """An `error` frame, or a failure by REST."""

    def __init__(self, error: dict[str, Any], status: int | None = None) -> None:
        super().__init__(f"{status} {error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.retryable: bool = error["retryable"]
        self.details: dict[str, Any] = error.get("details", {})
        self.status = status


class Rest:
    """Calls `/api/v1` of one server."""

    def __init__(self, server: Server, **headers: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=f"{server.url}/api/v1",
            headers=headers,
            trust_env=False,
            timeout=30,
            limits=httpx.Limits(max_connections=16),
        )

    async def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's `data`. Raises Refused, and httpx.HTTPError where no answer comes."""
        answer = await self._client.request(method, path, json=body)
        if answer.status_code == 204:
            return None
        value = answer.json()
        if answer.is_success:
            return value["data"]
        validation.validate("Failure", value)
        raise Refused(value["error"], answer.status_code)

    async def close(self) -> None:
        await self._client.aclose()


@dataclass
class Tenant:
    """A tenant as its integrator holds it."""

    id: str
    secret_key: str
    publishable_key: str
    token_secret: str

    def token(self, external_id: str, *, algorithm: str = "HS256", secret: str | None = None, **claims: Any) -> str:
        """A user token as an integrator signs it, good for an hour; a claim given as None is left out."""
        now = datetime.now(UTC)
        payload = {"iss": self.id, "sub": external_id, "iat": now, "exp": now + timedelta(hours=1)} | claims
        payload = {name: value for name, value in payload.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # a wrong algorithm with the right secret
            return jwt.encode(payload, self.token_secret if secret is None else secret, algorithm=algorithm)


@dataclass
class Socket:
    """One connection. `frames` are all that came, in order; `closed` is (code, reason) once it is."""

    ws: ClientConnection
    frames: list[Frame] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    closed: tuple[int | None, str] | None = None
    user_id: str = ""
    _asked: dict[str, str] = field(default_factory=dict)
    _reader: asyncio.Task[None] | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @classmethod
    async def open(cls, url: str, **options: Any) -> "Socket":
        ws = await connect(url, proxy=None, max_size=None, open_timeout=30, **options)
        socket = cls(ws)
        socket._reader = asyncio.create_task(socket._read())
        return socket

    async def _read(self) -> None:
        try:
            async for raw in self.ws:
                frame = json.loads(raw)
                self.frames.append(frame)
                self._check(frame)
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        self.closed = (self.ws.close_code, self.ws.close_reason or "")
        async with self._changed:
            self._changed.notify_all()

    def _check(self, frame: Frame) -> None:
        try:
            validation.validate("ServerFrame", frame)
            if frame["type"] == "ack":
                command = self._asked[frame["id"]]
                validation.validate(catalogue.commands()[command]["ack"], frame["data"])
        except (ValidationFailed, KeyError) as error:
            self.violations.append(f"{error!r}: {frame}")

    async def send(self, type_: str, data: Any = None, *, id: Any = None) -> None:  # noqa: A002
        frame: Frame = {"type": type_}
        if data is not None:
            frame["data"] = data
        if id is not None:
            frame["id"] = id
            self._asked[id] = type_
        await self.ws.send(json.dumps(frame))

    async def command(self, type_: str, data: Any = None, *, timeout_s: float = 30) -> Any:
        """The data of the ack. Raises Refused, or ConnectionClosed when the socket closes instead."""
        frame_id = unique("id")
        await self.send(type_, data, id=frame_id)
        frame = await self.expect(
            lambda frame: frame.get("id") == frame_id, timeout_s=timeout_s, what=f"the answer to {type_}"
        )
        if frame["type"] == "error":
            raise Refused(frame["data"])
        return frame["data"]

    async def say(self, conversation: str, text: str, *, client_id: str | None = None) -> Any:
        body = {"conversationId": conversation, "type": "text", "content": {"text": text}}
        return await self.command("send_message", body | ({"clientMessageId": client_id} if client_id else {}))

    async def expect(
        self, wanted: str | Condition, *, timeout_s: float = 15, after: int = 0, what: str = "", **data: Any
    ) -> Frame:
        """The first frame, from the `after`th on, of this type and with these values; or that fits a condition."""

        def fits(frame: Frame) -> bool:
            if callable(wanted):
                return wanted(frame)
            return frame["type"] == wanted and all(frame["data"].get(name) == value for name, value in data.items())

        def found() -> Frame | None:
            return next((frame for frame in self.frames[after:] if fits(frame)), None)

        await self.until(lambda: found() is not None, timeout_s, what or f"{wanted} {data}")
        frame = found()
        assert frame is not None
        return frame

    async def until_closed(self, timeout_s: float = 15) -> int | None:
        """The close code."""
        await self.until(lambda: self.closed is not None, timeout_s, "the socket is closed", may_close=True)
        assert self.closed is not None
        return self.closed[0]

    async def settle(self) -> None:
        """Returns when all that the server had for us by now is here: a pong is behind it."""
        await self.command("ping")

    def of_type(self, type_: str, **data: Any) -> list[Frame]:
        return [
            frame
            for frame in self.frames
            if frame["type"] == type_ and all(frame["data"].get(name) == value for name, value in data.items())
        ]

    def views(self) -> dict[str, list[int]]:
        """The seqs of the durable events, as they came, by conversation."""
        durable = {name for name, event in catalogue.events().items() if event["durable"] is True}
        views: defaultdict[str, list[int]] = defaultdict(list)
        for frame in self.frames:
            if frame["type"] in durable:
                views[frame["data"]["conversationId"]].append(frame["data"]["seq"])
        return dict(views)

    async def close(self) -> None:
        if not self.ws.transport.is_closing():
            self.ws.transport.resume_reading()
        await self.ws.close()
        if self._reader is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reader, 5)

    async def cut(self) -> None:
        """Ends the connection without a word."""
        self.ws.transport.abort()
        await self.until_closed()

    async def until(
        self, condition: Callable[[], bool], timeout_s: float, what: str, *, may_close: bool = False
    ) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while not condition():
                    if self.closed is not None and not may_close:
                        raise AssertionError(
                            f"closed with {self.closed} while waiting for {what}; last: {self.frames[-3:]}"
                        )
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s: {what}; last frames: {self.frames[-3:]}") from None


@dataclass
class World:
    """A tenant with people in it on a cluster, and what they opened; everything is closed and checked at the end."""

    servers: list[Server]
    tenant: Tenant
    platform_token: str
    sockets: list[Socket] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)

    def rest(self, server: int = 0, **headers: str) -> Rest:
        made = Rest(self.servers[server], **({"X-API-Key": self.tenant.secret_key} | headers))
        self.rests.append(made)
        return made

    def platform(self) -> Rest:
        made = Rest(self.servers[0], Authorization=f"Bearer {self.platform_token}")
        self.rests.append(made)
        return made

    async def users(self, *names: str) -> list[dict[str, Any]]:
        rest = self.rest()
        return [await rest("POST", "/users", {"externalUserId": unique(name)}) for name in names]

    async def conversation(self, *users: dict[str, Any], **fields: Any) -> str:
        body = {"type": "group", "participantIds": [user["id"] for user in users], **fields}
        made = await self.rest()("POST", "/conversations", body)
        return str(made["id"])

    async def raw_socket(self, server: int = 0, **options: Any) -> Socket:
        socket = await Socket.open(options.pop("url", self.servers[server].ws_url), **options)
        self.sockets.append(socket)
        return socket

    async def socket(self, user: dict[str, Any], server: int = 0, **claims: Any) -> Socket:
        """An authenticated connection of a user."""
        socket = await self.raw_socket(server)
        await socket.send(
            "authenticate",
            {"apiKey": self.tenant.publishable_key, "token": self.tenant.token(user["externalUserId"], **claims)},
        )
        frame = await socket.expect("authenticated")
        socket.user_id = frame["data"]["userId"]
        assert socket.user_id == user["id"]
        return socket

    async def log(self, conversation: str) -> list[int]:
        """The seqs of a conversation's messages, from the database by REST."""
        rest = self.rest()
        seqs: list[int] = []
        while True:
            page = await rest(
                "GET", f"/messages/conversations/{conversation}?limit=100&afterSeq={seqs[-1] if seqs else 0}"
            )
            if not page["messages"]:
                return seqs
            seqs += [message["seq"] for message in page["messages"]]

    async def close(self) -> None:
        await asyncio.gather(*(socket.close() for socket in self.sockets), return_exceptions=True)
        await asyncio.gather(*(rest.close() for rest in self.rests))
        violations = [violation for socket in self.sockets for violation in socket.violations]
        assert violations == []


def seqs(socket: Socket, conversation: str) -> list[int]:
    """Of the conversation's events that it was brought, in the order in which they came."""
    return [
        frame["data"]["seq"]
        for frame in socket.frames
        if frame["data"].get("conversationId") == conversation and "seq" in frame["data"]
    ]
