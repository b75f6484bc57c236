"""The Channels consumer: the life of one socket from accept to disconnect.

Channels routes the socket here and owns its life; frames bypass its dispatch, which hops to a thread around every
one of them to close database connections that this consumer never opens.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from channels.consumer import AsyncConsumer
from django.conf import settings
from django.utils import timezone

from messagecore.kernel import context, ids, metrics, wire
from messagecore.kernel.errors import Refusal, ServiceUnavailable
from messaging.services import reading
from quotas.services.limits import get_limits
from realtime.commands import HANDLERS, Answer, Session
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_database_thread
from realtime.hub import REFUSED, RESTARTING, hub
from realtime.limits import ConnectionQuotaExceeded, TooManyConnections, command_buckets
from realtime.process import door, presence_keeper, queued_bytes
from realtime.protocol import frames
from realtime.resumption import Resumption
from realtime.transport import SCOPE_KEY
from realtime.watch import TENANT_INACTIVE
from tenants.api.authentication import TokenRequired, bearer, client_address, host_without_port
from tenants.cards import Caller
from tenants.services import authentication

logger = logging.getLogger(__name__)

NOT_AUTHENTICATED_IN_TIME, TOKEN_EXPIRED, BAD_FRAMES, TOO_FAST = 4001, 4010, 4013, 4029
TOO_MANY = TOO_FAST
RESUME_WITHIN_S = 1.0
"""A client that says what it holds does so right behind `authenticate`, or when it is answered: so long its
conversations hold back their events, or until it asks for something else, so that nothing comes before what it missed.
The slowest phones need some hundred milliseconds for a round trip."""


Message = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class NotAuthenticated(Refusal):
    code = "not_authenticated"


class AlreadyAuthenticated(Refusal):
    code = "already_authenticated"


class TooManyFrames(Refusal):
    code = "too_many_frames"


class ResumeInProgress(Refusal):
    code = "resume_in_progress"


_CLOSE_CODES = {
    "token_expired": TOKEN_EXPIRED,
    "tenant_inactive": TENANT_INACTIVE,
    TooManyConnections.code: TOO_MANY,
    ConnectionQuotaExceeded.code: TOO_MANY,
}


@dataclass(frozen=True, slots=True)
class Identified:
    """Who a socket speaks for, and how many connections their tenant's plan has."""

    caller: Caller
    user_id: UUID
    external_user_id: str
    max_connections: int


class SocketConsumer(AsyncConsumer):
    """One socket. Its frames are handled one after the other, in the order in which they came."""

    channel_layer_alias = ""  # control goes over the hub's own channels; no layer channel for every socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """However the socket ends, nothing of it stays behind in the hub."""
        self.scope = scope
        self.base_send = send
        socket = scope["extensions"].get(SCOPE_KEY)
        self._connection = Connection(
            str(ids.new_id()),
            send,
            max_frames=settings.SOCKET_MAX_QUEUED_FRAMES,
            max_bytes=settings.SOCKET_MAX_QUEUED_BYTES,
            write_now=None if socket is None else socket.write_now,
            together=queued_bytes(),
        )
        self._timers: list[asyncio.TimerHandle] = []
        self._resuming: asyncio.Task[None] | None = None
        # While the socket waits to be authenticated: by what it is counted.
        self._address: str | None = None
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                await self.dispatch(message)
        finally:
            await self._disconnect()

    async def dispatch(self, message: Message) -> None:
        match message["type"]:
            case "websocket.receive":
                await self._receive(message)
            case "websocket.connect":
                await self._connect()
            case "websocket.restarting":
                self._connection.disconnect(
                    RESTARTING,
                    "the server is restarting",
                    reconnect=True,
                    reconnect_after_ms=message["reconnect_after_ms"],
                )

    async def _connect(self) -> None:
        self._headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]
        }
        self._session: Session | None = None
        self._malformed = 0
        self._bucket, self._patience = command_buckets()
        peer = self.scope.get("client")
        address = client_address(peer[0] if peer else None, self._headers.get("x-forwarded-for"))
        if not door().knock(address or ""):
            await self._refuse_handshake()
            return
        self._address = address or ""
        await self.send({"type": "websocket.accept"})
        query = parse_qs(self.scope.get("query_string", b"").decode("latin-1"))
        key = self._headers.get("x-api-key") or query.get("apiKey", [None])[0]
        token = bearer(self._headers.get("authorization")) or query.get("token", [None])[0]
        if key is not None or token is not None:
            await self._authenticate({"apiKey": key, "token": token}, frame_id=None)
        else:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(settings.SOCKET_AUTHENTICATE_SECONDS, self._not_in_time))

    async def _refuse_handshake(self) -> None:
        headers = [(b"retry-after", b"10"), (b"content-type", b"text/plain; charset=utf-8")]
        await self.send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
        body = b"Too many sockets of this address wait to be authenticated, or too many were refused.\n"
        await self.send({"type": "websocket.http.response.body", "body": body})

    def _stop_waiting(self, *, refused: bool = False) -> None:
        if self._address is not None:
            door().leave(self._address, refused=refused)
            self._address = None

    def _not_in_time(self) -> None:
        if self._session is None:
            self._connection.put(frames.error(NotAuthenticated("No authenticate frame came in time."), None))
            self._connection.disconnect(NOT_AUTHENTICATED_IN_TIME, "not authenticated in time", reconnect=True)

    async def _disconnect(self) -> None:
        self._stop_waiting()
        for timer in self._timers:
            timer.cancel()
        connection = self._connection
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)
        hub().detach(connection)
        await connection.finish()
        if connection.tenant is not None and connection.user_id is not None:
            presence_keeper().disconnected(connection.tenant.id, connection.user_id, connection.id)

    # --- frames -----------------------------------------------------------------------------------------------------

    async def _receive(self, message: dict[str, Any]) -> None:
        if self._connection.is_closing:
            return
        text = message.get("text")
        if not self._may_ask():
            self._too_fast(text)
            return
        if text is None:
            self._refuse_frame(frames.MalformedFrame("Only text frames in UTF-8 are understood; send JSON."), None)
            return
        if len(text.encode("utf-8", "surrogatepass")) > settings.SOCKET_MAX_FRAME_BYTES:
            self._connection.put(frames.error(frames.FrameTooLarge(), None))
            self._connection.disconnect(BAD_FRAMES, "frame too large", reconnect=False)
            return
        try:
            frame = frames.parse(text)
        except frames.FrameRefused as refused:
            if refused.is_malformed:
                self._refuse_frame(refused.refusal, refused.id)
            else:
                self._connection.put(frames.error(refused.refusal, refused.id))
            return
        metrics.FRAMES_IN.labels(frame.type).inc()
        await self._handle(frame)

    def _may_ask(self) -> bool:
        user_id = self._connection.user_id
        tenant = None if user_id is None else hub().tenant_of(self._connection)
        return self._bucket.take() and (tenant is None or user_id is None or tenant.may_ask(user_id))

    def _too_fast(self, text: str | None) -> None:
        frame_id = None if text is None else frames.find_id(text)
        self._connection.put(frames.error(TooManyFrames(), frame_id), ephemeral=True)
        if not self._patience.take():
            self._connection.disconnect(TOO_FAST, "too fast", reconnect=True)

    def _refuse_frame(self, refusal: Refusal, frame_id: frames.FrameId) -> None:
        self._malformed += 1
        self._connection.put(frames.error(refusal, frame_id))
        if self._malformed >= settings.SOCKET_MAX_MALFORMED_FRAMES:
            self._connection.disconnect(BAD_FRAMES, "too many malformed frames", reconnect=False)

    async def _handle(self, frame: frames.Frame) -> None:
        if frame.type == "authenticate":
            await self._authenticate(frame.data, frame_id=frame.id)
        elif frame.type == "resume":
            await self._resume(frame)
        else:
            self._stop_holding_back()
            await self._do(frame, self._handler(frame))

    def _stop_holding_back(self) -> None:
        if self._session is not None and self._connection.held_back is not None and self._resuming is None:
            hub().release(self._connection)

    async def _handler(self, frame: frames.Frame) -> Answer:
        if self._session is None:
            raise NotAuthenticated
        handler = HANDLERS.get(frame.type)
        if handler is None:
            raise frames.UnknownType
        return await handler(self._session, frame.data)

    async def _do(self, frame: frames.Frame, work: Awaitable[Answer]) -> bool:
        """Does what a command asks and answers it; whether it succeeded."""
        try:
            event, data = await work
        except Refusal as refusal:
            self._connection.put(frames.error(refusal, frame.id))
        except Exception as error:
            if isinstance(error, DatabaseError):
                logger.warning("the command %s could not be done: %s", frame.type, error)
            else:
                logger.exception("the command %s failed", frame.type)
            self._connection.put(frames.error(ServiceUnavailable(), frame.id))
        else:
            self._answer(frame.id, event, data)
            return True
        return False

    async def _resume(self, frame: frames.Frame) -> None:
        """Beside the other commands: it takes as long as the client takes to read. What is asked behind it is answered
        meanwhile; from where each conversation goes on is decided before."""
        if self._session is None:
            self._connection.put(frames.error(NotAuthenticated(), frame.id))
            return
        if self._resuming is not None:
            self._connection.put(frames.error(ResumeInProgress(), frame.id))
            return
        resumption = Resumption(hub(), self._connection, frame.data["conversations"])
        begun = asyncio.Event()
        self._resuming = asyncio.get_running_loop().create_task(self._finish_resuming(frame, resumption, begun))
        await begun.wait()

    async def _finish_resuming(self, frame: frames.Frame, resumption: Resumption, begun: asyncio.Event) -> None:
        async def resumed() -> Answer:
            try:
                await resumption.begin()
            finally:
                begun.set()
            return "resumed", await resumption.finish()

        if not await self._do(frame, resumed()):
            # The client would have a hole in what it holds: it comes back and tries again.
            self._connection.disconnect(RESTARTING, "the resume failed: reconnect and resume", reconnect=True)
        self._resuming = None

    def _answer(self, frame_id: frames.FrameId, event: str | None, data: dict[str, Any]) -> None:
        if frame_id is not None:
            self._connection.put(frames.ack(frame_id, data))
        elif event is not None:
            self._connection.put(frames.event(event, data))

    # --- authenticate -----------------------------------------------------------------------------------------------

    async def _authenticate(self, data: dict[str, Any], *, frame_id: frames.FrameId) -> None:
        if self._session is not None:
            self._connection.put(frames.error(AlreadyAuthenticated(), frame_id))
            return
        connection = self._connection
        try:
            who = await read_in_database_thread(self._identify, data.get("apiKey"), data.get("token"))
            caller, user_id = who.caller, who.user_id
            self._check_room(who)
            connection.tenant, connection.user_id = caller.tenant, user_id
            connection.external_user_id = who.external_user_id
            connection.key_id = caller.key.id
            connection.token_issued_at = caller.claims.issued_at if caller.claims else None
            context.tenant.set(caller.tenant.schema_name)
            await hub().attach(connection, caller.tenant)
        except Refusal as refusal:
            connection.put(frames.error(refusal, frame_id))
            code = _CLOSE_CODES.get(refusal.code, REFUSED)
            self._stop_waiting(refused=code == REFUSED)
            connection.disconnect(code, refusal.message, reconnect=code in {TOKEN_EXPIRED, TOO_MANY})
            return
        except Exception as error:
            if isinstance(error, DatabaseError):
                logger.warning("a connection could not be authenticated: %s", error)
            else:
                logger.exception("a connection could not be authenticated")
            connection.put(frames.error(ServiceUnavailable(), frame_id))
            connection.disconnect(RESTARTING, "service unavailable", reconnect=True)
            return
        self._stop_waiting()
        self._session = Session(connection, hub(), presence_keeper())
        # Who it is, is known: nobody asks for the handshake again, and idle connections are many.
        self._headers = {}
        self.scope["headers"].clear()
        opened = {
            "userId": str(user_id),
            "externalUserId": who.external_user_id,
            "connectionId": connection.id,
            "heartbeatSeconds": settings.SOCKET_HEARTBEAT_SECONDS,
            "serverTime": wire.timestamp(timezone.now()),
        }
        connection.open(frames.event("authenticated", opened) if frame_id is None else frames.ack(frame_id, opened))
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(RESUME_WITHIN_S, self._stop_holding_back))
        self._end_with_token(caller)
        presence_keeper().connected(caller.tenant, user_id, connection.id)

    @staticmethod
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

    def _identify(self, key: str | None, token: str | None) -> Identified:
        """On a database thread: who this is, by the same rules as for REST."""
        now = timezone.now()
        peer = self.scope.get("client")
        card = authentication.authenticate_key(
            key,
            now=now,
            host=host_without_port(self._headers.get("host", "")),
            address=client_address(peer[0] if peer else None, self._headers.get("x-forwarded-for")),
            origin=self._headers.get("origin"),
        )
        if not token:
            raise TokenRequired
        claims = authentication.verify_user_token(card.tenant, token, now=now)
        caller = Caller(key=card, claims=claims)
        user = reading.identify(caller)
        return Identified(caller, user.id, user.external_user_id, get_limits(caller.tenant.id).max_connections)

    def _end_with_token(self, caller: Caller) -> None:
        assert caller.claims is not None
        seconds = (caller.claims.expires_at - timezone.now()).total_seconds()
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(max(0.0, seconds), disconnect_expired, self._connection))


def disconnect_expired(connection: Connection) -> None:
    connection.disconnect(TOKEN_EXPIRED, "the token has expired", reconnect=True)
