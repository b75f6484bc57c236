"""A client as a good SDK is: it comes back by itself and resumes, says again what was not acknowledged, under the same
id, and does what close codes tell it. Everything that it does and sees goes into its record.

Entries of a record: `began` user, blocks · `opened` connection, door · `authenticated` · `resuming` held · `announced`
conversation, lastSeq · `event` conversation, seq, type, subject · `removed` conversation, reason · `resumed`
conversations · `disconnecting` · `ended` code, reason, by · `slept`, `woke` · `gave_up` · `invalid` problem ·
`tries` key, deed, user, about, conversation, by · `done` key, message, seq · `refused` key, code, attempts.
"""

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from messagecore.kernel import catalogue, validation
from messagecore.kernel.errors import ValidationFailed
from tests.e2e.client import Frame, Refused, Tenant
from tests.e2e.cluster import Server
from tests.faults.recorder import Recorder

BACKOFF_BASE_S, BACKOFF_CAP_S = 0.1, 2.0
CONNECT_WITHIN_S = 5.0
HEARTBEAT_EVERY_S, HEARTBEAT_WITHIN_S = 2.0, 4.0
ANSWER_WITHIN_S = 20.0
LOOK_EVERY_S = 0.02
TOO_FAST, TOO_FAST_PAUSE_S = 4029, 10.0

Disconnected = (ConnectionClosed, InvalidHandshake, InvalidMessage, OSError, TimeoutError, EOFError)


@cache
def _durable() -> frozenset[str]:
    return frozenset(name for name, event in catalogue.events().items() if event["durable"] is True)


@cache
def _final_codes() -> frozenset[int]:
    codes = catalogue.documents()["errors.json"]["x-close-codes"]
    return frozenset(int(code) for code, entry in codes.items() if not entry["reconnect"])


def full_jitter_s(attempt: int, dice: random.Random) -> float:
    """Anything up to twice as long as the time before, up to the cap."""
    return dice.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**attempt))


@dataclass(slots=True)
class _Pending:
    """A command that has not been answered for good."""

    type: str
    data: Mapping[str, Any]
    answered: "asyncio.Future[Any]"
    outcome: "Outcome | None" = None


@dataclass(slots=True)
class _Connection:
    number: int
    ws: ClientConnection
    is_complete: bool = False
    disconnecting: Frame | None = None
    reader: "asyncio.Task[None] | None" = None


class Client:
    """One device of a user. `doors` are the addresses behind which servers answer; each connection picks one."""

    def __init__(
        self,
        *,
        user: Mapping[str, Any],
        tenant: Tenant,
        doors: Sequence[str],
        recorder: Recorder,
        seed: int,
        blocks: Sequence[str] = (),
        claims: Mapping[str, Any] | None = None,
    ) -> None:
        self.user_id = str(user["id"])
        self.external_id = str(user["externalUserId"])
        self.doors = list(doors)
        self.recorder = recorder
        self.held: dict[str, int] = {}
        """The last seq of each conversation that this client knows of."""
        self._tenant = tenant
        self._claims = dict(claims or {})
        self._dice = random.Random(seed)
        self._pending: dict[str, _Pending] = {}
        self._connection: _Connection | None = None
        self._fresh: set[str] = set()
        self.connections = 0
        """How many were tried so far."""
        self._door = ""
        self._pings = itertools.count(1)
        self._running: asyncio.Task[None] | None = None
        recorder.note("began", user=self.user_id, blocks=list(blocks))

    # --- its life -----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Connects, and stays connected from now on."""
        assert self._running is None
        self.recorder.note("woke")
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def sleep(self) -> None:
        """Goes away without a word, as a telephone in a pocket does, and remembers what it held."""
        self.recorder.note("slept")
        await self.stop(politely=False)

    async def stop(self, *, politely: bool = True) -> None:
        running, self._running = self._running, None
        if running is not None:
            connection = self._connection
            if connection is not None and politely and not connection.ws.transport.is_closing():
                with suppress(*Disconnected):
                    await asyncio.wait_for(connection.ws.close(), 2)
            elif connection is not None:
                connection.ws.transport.abort()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            if not running.cancelled() and (error := running.exception()) is not None:
                raise error

    def cut(self) -> bool:
        """Ends the connection without a close, if there is one."""
        if self._connection is None:
            return False
        self._connection.ws.transport.abort()
        return True

    def use(self, servers: Sequence[Server]) -> None:
        """From the next connection on it is one of these."""
        self.doors = [server.ws_url for server in servers]

    def connects_to(self, server: Server) -> bool:
        return self._door == server.ws_url and self._connection is not None

    @property
    def is_awake(self) -> bool:
        return self._running is not None

    @property
    def is_complete(self) -> bool:
        """Connected and caught up, with nothing unanswered."""
        return self._connection is not None and self._connection.is_complete and not self._pending

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Returns once the condition holds. Raises TimeoutError, or what ended this client for good."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                if self._running is not None and self._running.done():
                    await self._running
                await asyncio.sleep(LOOK_EVERY_S)

    async def until_complete(
        self, timeout_s: float, *, held: Mapping[str, int] | None = None, again_after: int = 0
    ) -> None:
        """Returns once it has caught up, on a later connection than that many, and holds exactly that much of each
        conversation (None: whatever it is)."""
        await self.until(
            lambda: self.is_complete and self.connections > again_after and held in (None, self.held), timeout_s
        )

    async def settle(self) -> None:
        """Returns when all that the server had for this connection by now is here."""
        await self.command("ping", {}, key=f"ping-{next(self._pings)}")

    # --- what it does -------------------------------------------------------------------------------------------------

    async def send(self, conversation: str, key: str) -> Mapping[str, Any]:
        """A text by socket, as often as it takes; `key` is its clientMessageId. Raises Refused."""
        body = {"conversationId": conversation, "type": "text", "content": {"text": key}, "clientMessageId": key}
        return await self.attempt("send", conversation, conversation, "send_message", body, key=key)

    async def attempt(
        self, deed: str, conversation: str, about: str, type_: str, data: Mapping[str, Any], *, key: str
    ) -> Mapping[str, Any]:
        """A command, said again until it is answered for good, with its intention and its end in the record."""
        self.tries(deed, conversation, about, key=key, by="socket")
        with Outcome(self.recorder, key) as outcome:
            outcome.answer = await self.command(type_, data, key=key, outcome=outcome)
        return outcome.answer

    def tries(self, deed: str, conversation: str, about: str, *, key: str, by: str) -> None:
        self.recorder.note(
            "tries", key=key, deed=deed, user=self.user_id, conversation=conversation, about=about, by=by
        )

    async def command(self, type_: str, data: Mapping[str, Any], *, key: str, outcome: "Outcome | None" = None) -> Any:
        """The data of the ack, whatever number of connections it takes. Raises Refused, for good."""
        attempt = 0
        while True:
            answered = asyncio.get_running_loop().create_future()
            self._pending[key] = _Pending(type_, data, answered, outcome)
            try:
                await self._say(key)
                return await answered
            except Refused as refused:
                if not refused.retryable:
                    raise
            finally:
                self._pending.pop(key, None)
            await asyncio.sleep(full_jitter_s(attempt, self._dice))
            attempt += 1

    async def _say(self, key: str) -> None:
        """On the present connection, if it is far enough; otherwise the next one says it."""
        connection, pending = self._connection, self._pending.get(key)
        if connection is not None and pending is not None:
            if pending.outcome is not None:
                pending.outcome.attempts += 1
            with suppress(*Disconnected):
                await connection.ws.send(json.dumps({"type": pending.type, "data": pending.data, "id": key}))

    # --- connections --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while True:
            was_complete, pause_s = await self._connect_once()
            attempt = 0 if was_complete else attempt + 1
            await asyncio.sleep(full_jitter_s(attempt, self._dice) if pause_s is None else pause_s)

    async def _connect_once(self) -> tuple[bool, float | None]:
        """One connection from its beginning to its end: whether it got as far as being complete, and how long the
        server said to wait before the next (None: it said nothing)."""
        self.connections += 1
        number, door = self.connections, self._dice.choice(self.doors)
        self._door = door
        self.recorder.note("opened", connection=number, door=door)
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                ws = await connect(
                    door,
                    proxy=None,
                    max_size=None,
                    compression=None,
                    ping_interval=HEARTBEAT_EVERY_S,
                    ping_timeout=HEARTBEAT_WITHIN_S,
                    close_timeout=1,
                )
        except Disconnected as error:
            self.recorder.note("ended", connection=number, code=None, reason=repr(error), by="nobody answered")
            return False, None
        connection = _Connection(number, ws)
        try:
            await self._serve(connection)
        finally:
            self._connection = None
            if not ws.transport.is_closing():
                ws.transport.abort()
            said = connection.disconnecting
            self.recorder.note(
                "ended",
                connection=number,
                code=ws.close_code,
                reason=ws.close_reason or "",
                by="server" if said is not None or ws.close_code not in {None, 1006} else "cut",
            )
        return connection.is_complete, self._pause_s(connection)

    def _pause_s(self, connection: _Connection) -> float | None:
        """Raises Refused where the server says that coming back is of no use."""
        said, code = connection.disconnecting, connection.ws.close_code
        if code in _final_codes() or (said is not None and not said["data"]["reconnect"]):
            reason = connection.ws.close_reason or ""
            self.recorder.note("gave_up", code=code, reason=reason)
            raise Refused({"code": f"closed with {code}", "message": reason, "retryable": False})
        if said is not None and "reconnectAfterMs" in said["data"]:
            return float(said["data"]["reconnectAfterMs"]) / 1000
        return TOO_FAST_PAUSE_S if code == TOO_FAST else None

    async def _serve(self, connection: _Connection) -> None:
        """Authenticates, resumes and says again what is pending, all without waiting; then reads to the end."""
        ws = connection.ws
        credentials = {
            "apiKey": self._tenant.publishable_key,
            "token": self._tenant.token(self.external_id, **self._claims),
        }
        with suppress(*Disconnected):
            await ws.send(json.dumps({"type": "authenticate", "data": credentials}))
            self.recorder.note("resuming", connection=connection.number, held=dict(self.held))
            await ws.send(json.dumps({"type": "resume", "data": {"conversations": self.held}}))
            self._connection = connection
            for key in list(self._pending):
                await self._say(key)
            async for raw in ws:
                self._take(connection, json.loads(raw))

    # --- frames -------------------------------------------------------------------------------------------------------

    def _take(self, connection: _Connection, frame: Frame) -> None:
        self._check(frame)
        type_, data = frame["type"], frame.get("data", {})
        if type_ in _durable():
            self._on_event(type_, data)
        elif type_ == "conversation_created":
            conversation = data["conversation"]
            self.recorder.note("announced", conversation=conversation["id"], lastSeq=conversation["lastSeq"])
            self.held[conversation["id"]] = conversation["lastSeq"]
            self._fresh.add(conversation["id"])
        elif type_ == "conversation_removed":
            self.recorder.note("removed", conversation=data["conversationId"], reason=data["reason"])
            self.held.pop(data["conversationId"], None)
        elif type_ == "resumed":
            self._on_resumed(connection, data["conversations"])
        elif type_ == "authenticated":
            self.recorder.note("authenticated", connection=connection.number, connectionId=data["connectionId"])
        elif type_ == "disconnecting":
            self.recorder.note("disconnecting", **data)
            connection.disconnecting = frame
        elif type_ in {"ack", "error"}:
            self._on_answer(frame)

    def _on_event(self, type_: str, data: Frame) -> None:
        conversation, seq = data["conversationId"], data["seq"]
        message = data.get("message")
        subject = data.get("messageId") or (message and message["id"])
        if type_.startswith("participant_"):
            subject = data["userId"]
        self.recorder.note("event", conversation=conversation, seq=seq, type=type_, subject=subject)
        if conversation in self._fresh:
            self._fresh.discard(conversation)
            self.held[conversation] = seq
        else:
            self.held[conversation] = max(seq, self.held.get(conversation, 0))

    def _on_resumed(self, connection: _Connection, conversations: Mapping[str, Frame]) -> None:
        self.recorder.note("resumed", connection=connection.number, conversations=conversations)
        for conversation, outcome in conversations.items():
            if outcome.get("reason") == "removed":
                self.held.pop(conversation, None)
            elif conversation in self.held and outcome["seq"] > self.held[conversation]:
                self.held[conversation] = outcome["seq"]
        connection.is_complete = True

    def _on_answer(self, frame: Frame) -> None:
        pending = self._pending.get(str(frame.get("id")))
        if pending is None:
            if frame["type"] == "error":
                self.recorder.note("error", id=frame.get("id"), data=frame["data"])
            return
        if not pending.answered.done():
            if frame["type"] == "ack":
                pending.answered.set_result(frame["data"])
            else:
                pending.answered.set_exception(Refused(frame["data"]))

    def _check(self, frame: Frame) -> None:
        try:
            validation.validate("ServerFrame", frame)
        except ValidationFailed as error:
            self.recorder.note("invalid", problem=f"{error!r}: {json.dumps(frame, ensure_ascii=False)[:2000]}")


class Outcome:
    """Notes how something ended: `done`, with where its message is, or `refused` for good. Whatever else ends it (the
    scenario is over) leaves it open."""

    def __init__(self, recorder: Recorder, key: str) -> None:
        self._recorder = recorder
        self._key = key
        self.answer: Any = None
        self.attempts = 0

    def __enter__(self) -> "Outcome":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Refused):
            self._recorder.note("refused", key=self._key, code=error.code, attempts=self.attempts)
        elif error is None:
            answer = self.answer if isinstance(self.answer, Mapping) else {}
            self._recorder.note("done", key=self._key, message=answer.get("id"), seq=answer.get("seq"))


class Backend:
    """An integrator's back end over REST, as patient as `Client`: asked again at another door until the answer is for
    good."""

    def __init__(self, doors: Sequence[str], tenant: Tenant, recorder: Recorder, seed: int) -> None:
        self.recorder = recorder
        self._doors = list(doors)
        self._tenant = tenant
        self._dice = random.Random(seed)
        self._http = httpx.AsyncClient(trust_env=False, timeout=ANSWER_WITHIN_S)

    def use(self, servers: Sequence[Server]) -> None:
        """From the next request on it is one of these, as behind a balancer that takes out what does not answer."""
        self._doors = [server.url for server in servers]

    async def __call__(
        self, method: str, path: str, body: Any = None, *, acting: str | None = None, outcome: "Outcome | None" = None
    ) -> Any:
        """The answer's `data`. Raises Refused, for good."""
        headers = {"X-API-Key": self._tenant.secret_key} | ({"X-Acting-User": acting} if acting else {})
        for attempt in itertools.count():
            url = f"{self._dice.choice(self._doors)}/api/v1{path}"
            if outcome is not None:
                outcome.attempts += 1
            try:
                answer = await self._http.request(method, url, json=body, headers=headers)
                if answer.is_success:
                    return answer.json()["data"] if answer.content else None
                failure = answer.json()
                validation.validate("Failure", failure)
                refused = Refused(failure["error"], answer.status_code)
                if not refused.retryable:
                    raise refused
            except httpx.TransportError as error:
                self.recorder.note("no_answer", method=method, path=path, error=repr(error))
            await asyncio.sleep(full_jitter_s(attempt, self._dice))
        raise AssertionError("unreachable")

    async def attempt(
        self,
        deed: str,
        conversation: str,
        about: str,
        request: tuple[str, str, Any],
        *,
        key: str,
        user: str,
        acts: bool = True,
    ) -> Any:
        """A request (method, path, body) with its intention and its end in the record; as `user` if that one `acts`,
        otherwise about them."""
        self.recorder.note("tries", key=key, deed=deed, user=user, conversation=conversation, about=about, by="rest")
        with Outcome(self.recorder, key) as outcome:
            outcome.answer = await self(*request, acting=user if acts else None, outcome=outcome)
        return outcome.answer

    async def send(self, conversation: str, user: str, key: str) -> Any:
        """A text as that user; `key` is its clientMessageId."""
        body = {"conversationId": conversation, "type": "text", "content": {"text": key}, "clientMessageId": key}
        request = ("POST", "/messages/send", body | {"senderId": user})
        return await self.attempt("send", conversation, conversation, request, key=key, user=user, acts=False)

    async def close(self) -> None:
        await self._http.aclose()
        self.recorder.close()
