"""Clients without a socket, as strict as those with one: an event stream, a poller, commands by POST."""

import asyncio
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from messagecore.kernel import catalogue, validation
from messagecore.kernel.errors import ValidationFailed
from tests.e2e.client import Frame, Refused, Socket, Tenant, World, unique
from tests.e2e.cluster import Server

WITHOUT_LIMIT = httpx.Timeout(40, read=60)


def headers(tenant: Tenant, user: dict[str, Any], **claims: Any) -> dict[str, str]:
    token = tenant.token(user["externalUserId"], **claims)
    return {"X-API-Key": tenant.publishable_key, "Authorization": f"Bearer {token}"}


def client(server: Server, headers: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"{server.url}/api/v1/realtime", headers=headers, trust_env=False, timeout=WITHOUT_LIMIT
    )


class _Line:
    """Stands for the WebSocket in a Socket whose frames come over a stream."""

    close_code: int | None = None
    close_reason: str | None = None


class Stream(Socket):
    """An event stream with a Socket's ways of looking at what came; commands go by POST."""

    def __init__(self, http: httpx.AsyncClient, elsewhere: httpx.AsyncClient) -> None:
        super().__init__(_Line())  # type: ignore[arg-type]
        self.http = http
        self.elsewhere = elsewhere
        self.response: httpx.Response | None = None
        self.comments = 0
        self.retry_ms: int | None = None

    @classmethod
    async def begin(
        cls,
        world: World,
        user: dict[str, Any],
        server: int = 0,
        *,
        commands_to: int | None = None,
        body: Any = None,
        **claims: Any,
    ) -> "Stream":
        """Commands go to the server `commands_to`, which may be another than the one that has the stream."""
        who = headers(world.tenant, user, **claims)
        other = server if commands_to is None else commands_to
        stream = cls(client(world.servers[server], who), client(world.servers[other], who))
        request = stream.http.build_request("POST", "/sse", json=body) if body is not None else None
        request = request or stream.http.build_request("GET", "/sse")
        response = await stream.http.send(request, stream=True)
        if response.status_code != 200:
            await response.aread()
            await stream.close()
            raise Refused(response.json()["error"], response.status_code)
        stream.response = response
        stream._reader = asyncio.create_task(stream._read())
        world.sockets.append(stream)
        frame = await stream.expect("authenticated")
        assert frame is stream.frames[0]
        stream.user_id = frame["data"]["userId"]
        assert stream.user_id == user["id"]
        return stream

    @property
    def connection_id(self) -> str:
        return str(self.frames[0]["data"]["connectionId"])

    async def _read(self) -> None:
        assert self.response is not None
        with suppress(httpx.HTTPError, httpx.StreamError):
            async for line in self.response.aiter_lines():
                if line.startswith("data: "):
                    self._take(json.loads(line[6:]))
                    async with self._changed:
                        self._changed.notify_all()
                elif line.startswith("retry: "):
                    self.retry_ms = int(line[7:])
                elif line == ":":
                    self.comments += 1
                else:
                    assert line == "", line
        told = self.of_type("disconnecting")
        self.closed = (told[-1]["data"]["code"], told[-1]["data"]["reason"]) if told else (None, "")
        async with self._changed:
            self._changed.notify_all()

    def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._check(frame)

    async def command(self, type_: str, data: Any = None, *, timeout_s: float = 30) -> Any:
        frame: Frame = {"type": type_, "id": unique("id")} | ({} if data is None else {"data": data})
        (answer,) = await post_commands(self.elsewhere, frame, self.connection_id)
        assert answer["id"] == frame["id"]
        if answer["type"] == "error":
            raise Refused(answer["data"])
        validation.validate(catalogue.commands()[type_]["ack"], answer["data"])
        return answer["data"]

    async def settle(self) -> None:
        """A stream has no pong in it: what comes next is behind what was there."""
        await asyncio.sleep(0.3)

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for http in {self.http, self.elsewhere}:
            await http.aclose()
        self.closed = self.closed or (None, "")


async def post_commands(http: httpx.AsyncClient, body: Any, connection_id: str | None = None) -> list[Frame]:
    """The answers to one command or several. Raises Refused."""
    answer = await http.post(
        "/commands", json=body, headers={} if connection_id is None else {"X-Connection-Id": connection_id}
    )
    value = answer.json()
    if not answer.is_success:
        validation.validate("Failure", value)
        raise Refused(value["error"], answer.status_code)
    validation.validate("CommandAnswers", value["data"])
    frames: list[Frame] = value["data"]["frames"]
    assert len(frames) == (len(body) if isinstance(body, list) else 1)
    for frame in frames:
        if frame["type"] != "ack" or "id" in frame:
            validation.validate("ServerFrame", frame)
    return frames


@dataclass
class Poller:
    """A client that polls servers in turn, and holds what a client holds: seqs, and the state of the last answer."""

    world: World
    user: dict[str, Any]
    held: dict[str, int] = field(default_factory=dict)
    state: str | None = None
    frames: list[Frame] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    polls: int = 0
    looking_at: list[str] = field(default_factory=list)
    _fresh: set[str] = field(default_factory=set)
    """Conversations that this answer announced, and has said nothing of since."""

    def __post_init__(self) -> None:
        who = headers(self.world.tenant, self.user)
        self.clients = [client(server, who) for server in self.world.servers]

    async def poll(self, wait_s: int = 0, *, server: int | None = None, **fields: Any) -> list[Frame]:
        """The frames of one answer, after the client took them in. Raises Refused, and httpx.HTTPError."""
        http = self.clients[self.polls % len(self.clients) if server is None else server]
        self.polls += 1
        body = {"conversations": self.held, "state": self.state, "waitSeconds": wait_s, "lookingAt": self.looking_at}
        answer = await http.post("/poll", json=body | fields)
        value = answer.json()
        if not answer.is_success:
            validation.validate("Failure", value)
            raise Refused(value["error"], answer.status_code)
        try:
            validation.validate("PolledEvents", value["data"])
        except ValidationFailed as error:
            self.violations.append(repr(error))
        jumps: dict[tuple[str, int], str] = {}
        self._fresh.clear()
        for frame in value["data"]["frames"]:
            self._take(frame, jumps)
        self.violations += jumps.values()
        self.state = value["data"]["state"]
        assert re.fullmatch(r"[A-Za-z0-9_-]+", self.state)
        frames: list[Frame] = value["data"]["frames"]
        return frames

    def _take(self, frame: Frame, jumps: dict[tuple[str, int], str]) -> None:
        """What is missing is excused by a `resumed` of the same answer that says so."""
        self.frames.append(frame)
        type_, data = frame["type"], frame["data"]
        if type_ == "conversation_created":
            self.held[data["conversation"]["id"]] = data["conversation"]["lastSeq"]
            self._fresh.add(data["conversation"]["id"])
        elif type_ == "conversation_removed":
            self.held.pop(data["conversationId"], None)
        elif type_ == "resumed":
            for name, found in data["conversations"].items():
                if found.get("reason") == "removed":
                    self.held.pop(name, None)
                elif not found["complete"]:
                    jumps.pop((name, found.get("truncatedBefore", 0)), None)
                    self.held[name] = max(self.held.get(name, 0), found["seq"])
        elif "seq" in data and "conversationId" in data:
            conversation, seq = data["conversationId"], data["seq"]
            before = self.held.get(conversation)
            if before is None:
                self.violations.append(f"{seq} of {conversation}, which the client does not hold")
            elif conversation in self._fresh and seq <= before:
                pass  # what announced it may show what the next events say
            elif seq <= before:
                self.violations.append(f"{seq} of {conversation} again, after {before}")
            elif seq > before + 1:
                jumps[conversation, seq] = f"{seq} of {conversation} after {before}"
            self.held[conversation] = seq
            self._fresh.discard(conversation)

    async def until_quiet(self) -> None:
        """Polls until there is nothing more."""
        while await self.poll():
            pass

    def seqs(self, conversation: str) -> list[int]:
        return [
            frame["data"]["seq"]
            for frame in self.frames
            if frame["data"].get("conversationId") == conversation and "seq" in frame["data"]
        ]

    def of_type(self, type_: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] == type_]

    async def close(self) -> None:
        for http in self.clients:
            await http.aclose()
        assert self.violations == []
