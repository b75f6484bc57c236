"""The stay of one authenticated connection, whatever carries it: how it comes in, what it asks, how it goes."""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from messagecore.kernel import context, wire
from messagecore.kernel.errors import Refusal, ServiceUnavailable
from messaging.services import reading
from quotas.services.limits import get_limits
from realtime.commands import HANDLERS, Answer
from realtime.connection import Connection
from realtime.database import DatabaseError
from realtime.hub import hub
from realtime.process import door, presence_keeper
from realtime.protocol import frames
from realtime.protocol.closing import CloseCode
from realtime.resumption import Resumption
from realtime.session import Session
from tenants.cards import Caller

logger = logging.getLogger(__name__)

RESUME_WITHIN_S = 1.0
"""A client that says what it holds does so right behind `authenticate`, or when it is answered: so long its
conversations hold back their events, or until it asks for something else, so that nothing comes before what it missed.
The slowest phones need some hundred milliseconds for a round trip."""


class ResumeInProgress(Refusal):
    code = "resume_in_progress"


@dataclass(frozen=True, slots=True)
class Identified:
    """Who a connection speaks for, and how many connections their tenant's plan has."""

    caller: Caller
    user_id: UUID
    external_user_id: str
    max_connections: int


def identify(caller: Caller) -> Identified:
    """On a database thread: the user of a caller whose token was verified. Raises UserInactive, UserBanned,
    InvalidToken."""
    user = reading.identify(caller)
    return Identified(caller, user.id, user.external_user_id, get_limits(caller.tenant.id).max_connections)


class Visit:
    """`enter` makes a connection its user's, `leave` takes every trace of it away, however far `enter` came. There are
    thousands of them, mostly idle."""

    __slots__ = ("_resuming", "_session", "_timers", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._session: Session | None = None
        self._resuming: asyncio.Task[dict[str, Any] | None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def is_in(self) -> bool:
        return self._session is not None

    @property
    def session(self) -> Session:
        assert self._session is not None, "nobody asks before they are in"
        return self._session

    async def enter(self, who: Identified) -> dict[str, Any]:
        """Attaches the connection to the hub; returns the data of `authenticated`. Events wait until it is opened, and
        the conversations' until the client resumes or `hold_back` is over.

        Raises TooManyConnections, ConnectionQuotaExceeded, DatabaseError.
        """
        connection, caller = self.connection, who.caller
        _check_room(who)
        connection.tenant, connection.user_id = caller.tenant, who.user_id
        connection.external_user_id = who.external_user_id
        connection.key_id = caller.key.id
        connection.token_issued_at = caller.claims.issued_at if caller.claims else None
        context.tenant.set(caller.tenant.schema_name)
        await hub().attach(connection, caller.tenant)
        self._session = Session(connection, hub(), presence_keeper())
        presence_keeper().connected(caller.tenant, who.user_id, connection.id)
        self._end_with_token(caller)
        return {
            "userId": str(who.user_id),
            "externalUserId": who.external_user_id,
            "connectionId": connection.id,
            "heartbeatSeconds": settings.SOCKET_HEARTBEAT_SECONDS,
            "serverTime": wire.timestamp(timezone.now()),
        }

    def hold_back(self) -> None:
        """From when the client was told that it is in."""
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(RESUME_WITHIN_S, self.stop_holding_back))

    def stop_holding_back(self) -> None:
        if self._session is not None and self.connection.held_back is not None and self._resuming is None:
            hub().release(self.connection)

    async def leave(self) -> None:
        for timer in self._timers:
            timer.cancel()
        connection = self.connection
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)
        hub().detach(connection)
        await connection.finish()
        if connection.tenant is not None and connection.user_id is not None:
            presence_keeper().disconnected(connection.tenant.id, connection.user_id, connection.id)

    # --- what is asked ----------------------------------------------------------------------------------------------

    async def handle(self, frame: frames.Frame) -> None:
        """Does what a command asks, and writes its answer to the connection."""
        if frame.type == "resume":
            if (refused := await self._begin_resuming(frame)) is not None:
                self.connection.put(frames.error(refused, frame.id))
            return
        self.stop_holding_back()
        answer = await answered(frame, self._ask(frame))
        if answer.event is not None:
            self.connection.put(answer.event)

    async def answer(self, frame: frames.Frame) -> str:
        """As `handle`, for a command that came another way than the connection: returns its answer. What a `resume`
        brings, `resumed` at its end, goes to the connection all the same, where its place among the events tells."""
        if frame.type != "resume":
            self.stop_holding_back()
            return (await answered(frame, self._ask(frame))).said
        refused = await self._begin_resuming(frames.Frame(frame.type, frame.data, None))
        resuming = self._resuming
        if refused is None and resuming is not None:
            resumed = await asyncio.shield(resuming)
            if resumed is not None:
                return frames.event("resumed", resumed) if frame.id is None else frames.ack(frame.id, resumed)
        return frames.error(refused or ServiceUnavailable(), frame.id)

    async def _ask(self, frame: frames.Frame) -> Answer:
        handler = HANDLERS.get(frame.type)
        if handler is None:
            raise frames.UnknownType
        return await handler(self.session, frame.data)

    async def _begin_resuming(self, frame: frames.Frame) -> Refusal | None:
        """Beside the other commands: it takes as long as the client takes to read. What is asked behind it is answered
        meanwhile; from where each conversation goes on is decided before."""
        if self._resuming is not None:
            return ResumeInProgress()
        resumption = Resumption(hub(), self.connection, frame.data["conversations"])
        begun = asyncio.Event()
        self._resuming = asyncio.get_running_loop().create_task(self._finish_resuming(frame, resumption, begun))
        await begun.wait()
        return None

    async def _finish_resuming(
        self, frame: frames.Frame, resumption: Resumption, begun: asyncio.Event
    ) -> dict[str, Any] | None:
        """The data of `resumed`; None if it failed."""
        data: dict[str, Any] | None = None

        async def resumed() -> Answer:
            nonlocal data
            try:
                await resumption.begin()
            finally:
                begun.set()
            data = await resumption.finish()
            return "resumed", data

        answer = await answered(frame, resumed())
        if answer.event is not None:
            self.connection.put(answer.event)
        if data is None:
            # The client would have a hole in what it holds: it comes back and tries again.
            self.connection.disconnect(CloseCode.SERVICE_RESTART, "the resume failed: reconnect and resume")
        self._resuming = None
        return data

    def _end_with_token(self, caller: Caller) -> None:
        assert caller.claims is not None
        seconds = (caller.claims.expires_at - timezone.now()).total_seconds()
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(max(0.0, seconds), disconnect_expired, self.connection))


@dataclass(frozen=True, slots=True)
class Answered:
    """A command's answer. `event` is the frame that a connection is told, None: nothing; then `data` is the result."""

    event: str | None
    data: dict[str, Any]

    @property
    def said(self) -> str:
        """The frame for who waits for an answer to every command."""
        return self.event or frames.event("ack", self.data)


async def answered(frame: frames.Frame, work: Awaitable[Answer]) -> Answered:
    """Does what a command asks; failures become `error` frames, and those that nobody expected are logged."""
    try:
        event, data = await work
    except Refusal as refusal:
        return Answered(frames.error(refusal, frame.id), {})
    except Exception as error:
        if isinstance(error, DatabaseError):
            logger.warning("the command %s could not be done: %s", frame.type, error)
        else:
            logger.exception("the command %s failed", frame.type)
        return Answered(frames.error(ServiceUnavailable(), frame.id), {})
    if frame.id is not None:
        return Answered(frames.ack(frame.id, data), data)
    return Answered(None if event is None else frames.event(event, data), data)


def _check_room(who: Identified) -> None:
    """Exact for this process: nobody is let in between this and `attach`."""
    tenant_id = who.caller.tenant.id
    local = hub().tenants.get(tenant_id)
    door().check_room(
        tenant_id,
        of_user=0 if local is None else len(local.users.get(who.user_id, ())),
        of_tenant=0 if local is None else local.connection_count,
        limit=who.max_connections,
    )


def disconnect_expired(connection: Connection) -> None:
    connection.disconnect(CloseCode.TOKEN_EXPIRED, "the token has expired")
