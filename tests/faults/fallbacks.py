"""Clients that have no socket, as patient and as recorded as those that do: by event stream, and by polling. Their
commands go by POST."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx

from tests.e2e.client import Refused
from tests.e2e.cluster import Server
from tests.faults.client import ANSWER_WITHIN_S, Client, full_jitter_s

STREAM_SILENT_S = 20.0
"""A stream says something every 15 s."""
POLL_WAITS_S = 5


class _Line:
    """Stands for the WebSocket of a connection: `task` is what reads from it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.close_code: int | None = None
        self.close_reason = ""

    @property
    def transport(self) -> "_Line":
        return self

    def is_closing(self) -> bool:
        return self.task is None or self.task.done()

    def abort(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def close(self) -> None:
        self.abort()


class _Connection:
    """As a socket's: what Client asks of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ws: Any = _Line()
        self.is_complete = False
        self.disconnecting: Any = None


class HttpClient(Client):
    """A device whose every request is answered by a server that it picks anew."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._http = httpx.AsyncClient(trust_env=False, timeout=ANSWER_WITHIN_S)

    async def stop(self, *, politely: bool = True) -> None:
        await super().stop(politely=politely)
        if politely:
            await self._http.aclose()

    def use(self, servers: Sequence[Server]) -> None:
        self.doors = [server.url for server in servers]

    def connects_to(self, server: Server) -> bool:
        return self._door == server.url and self._connection is not None

    @property
    def _headers(self) -> dict[str, str]:
        token = self._tenant.token(self.external_id, **self._claims)
        return {"X-API-Key": self._tenant.publishable_key, "Authorization": f"Bearer {token}"}

    async def _say(self, key: str) -> None:
        """Again, at whichever door, until it is answered."""
        attempt = 0
        while (pending := self._pending.get(key)) is not None and not pending.answered.done():
            if pending.outcome is not None:
                pending.outcome.attempts += 1
            try:
                frame = {"type": pending.type, "data": pending.data, "id": key}
                (answer,) = (await self._post(self._dice.choice(self.doors), "commands", frame))["frames"]
            except httpx.TransportError as error:
                self.recorder.note("no_answer", path="commands", error=repr(error))
            except Refused as refused:
                if not refused.retryable:
                    pending.answered.set_exception(refused)
            else:
                self._on_answer(answer)
                return
            await asyncio.sleep(full_jitter_s(attempt, self._dice))
            attempt += 1

    async def _post(self, door: str, what: str, body: Mapping[str, Any]) -> Any:
        """The `data` of an answer. Raises Refused, and httpx.TransportError."""
        answer = await self._http.post(f"{door}/api/v1/realtime/{what}", json=body, headers=self._headers)
        if not answer.is_success:
            raise Refused(answer.json()["error"], answer.status_code)
        return answer.json()["data"]

    async def _connect_once(self) -> tuple[bool, float | None]:
        self.connections += 1
        connection = _Connection(self.connections)
        self._door = self._dice.choice(self.doors)
        self.recorder.note("opened", connection=connection.number, door=self._door)
        line = connection.ws
        outcome: BaseException | None = None
        line.task = asyncio.get_running_loop().create_task(self._read(connection))
        try:
            await asyncio.wait({line.task})
        finally:
            line.abort()
            (outcome,) = await asyncio.gather(line.task, return_exceptions=True)
            self._connection = None
            said = connection.disconnecting
            if said is not None:
                line.close_code, line.close_reason = said["data"]["code"], said["data"]["reason"]
            self.recorder.note(
                "ended",
                connection=connection.number,
                code=line.close_code,
                reason=repr(outcome) if said is None else line.close_reason,
                by="cut" if said is None else "server",
            )
        if isinstance(outcome, Refused) and not outcome.retryable:
            self.recorder.note("gave_up", code=outcome.code, reason=str(outcome))
            raise outcome
        if isinstance(outcome, Exception) and not isinstance(outcome, Refused | httpx.HTTPError | httpx.StreamError):
            raise outcome
        return connection.is_complete, self._pause_s(connection)  # type: ignore[arg-type]

    async def _read(self, connection: Any) -> None:
        """Takes frames until it ends."""
        raise NotImplementedError


class StreamClient(HttpClient):
    """By an event stream that resumes with a body."""

    async def _read(self, connection: Any) -> None:
        self.recorder.note("resuming", connection=connection.number, held=dict(self.held))
        async with self._http.stream(
            "POST",
            f"{self._door}/api/v1/realtime/sse",
            json={"conversations": self.held},
            headers=self._headers,
            timeout=httpx.Timeout(ANSWER_WITHIN_S, read=STREAM_SILENT_S),
        ) as response:
            if not response.is_success:
                raise Refused(json.loads(await response.aread())["error"], response.status_code)
            self._connection = connection
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    self._take(connection, json.loads(line[6:]))


class PollingClient(HttpClient):
    """By polls, each of another server. What it holds and the `state` are all there is of a connection: a poll that
    fails takes nothing with it, so for the record it is one connection from beginning to end."""

    _state: str | None = None

    async def _read(self, connection: Any) -> None:
        self.recorder.note("resuming", connection=connection.number, held=dict(self.held))
        attempt = 0
        while True:
            body = {"conversations": self.held, "state": self._state, "waitSeconds": POLL_WAITS_S}
            self.connections += 1
            try:
                answer = await self._post(self._dice.choice(self.doors), "poll", body)
            except (httpx.TransportError, Refused) as failure:
                if isinstance(failure, Refused) and not failure.retryable:
                    raise
                self.recorder.note("no_answer", path="poll", error=repr(failure))
                await asyncio.sleep(full_jitter_s(attempt, self._dice))
                attempt += 1
                continue
            attempt = 0
            self._connection = connection
            self._fresh.clear()  # it names from now on what was announced
            for frame in answer["frames"]:
                self._take(connection, frame)
            self._state = answer["state"]


Carrier = Literal["socket", "stream", "polls"]
CLIENTS: Mapping[Carrier, type[Client]] = {"socket": Client, "stream": StreamClient, "polls": PollingClient}
