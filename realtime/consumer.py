"""The Channels consumer: the life of one socket from accept to disconnect.

Channels routes the socket here and owns its life; frames bypass its dispatch, which hops to a thread around every
one of them to close database connections that this consumer never opens.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from channels.consumer import AsyncConsumer
from django.conf import settings
from django.utils import timezone

from messagecore.kernel import ids, metrics
from messagecore.kernel.errors import Refusal, ServiceUnavailable
from messagecore.kernel.turns import Turns
from realtime.connection import Connection
from realtime.database import DatabaseError, read_in_turn
from realtime.hub import hub
from realtime.limits import ConnectionQuotaExceeded, TooManyConnections, command_buckets
from realtime.process import door, queued_bytes
from realtime.protocol import frames
from realtime.protocol.closing import CloseCode
from realtime.transport import SCOPE_KEY
from realtime.visit import Identified, Visit, identify
from tenants.api.authentication import TokenRequired, bearer, client_address, host_without_port
from tenants.cards import Caller
from tenants.services import authentication

logger = logging.getLogger(__name__)


_departures = Turns(8)
"""When thousands go at once, as many as that in one turn of the loop: about 1 ms of work."""

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


_CLOSE_CODES = {
    "token_expired": CloseCode.TOKEN_EXPIRED,
    "tenant_inactive": CloseCode.TENANT_INACTIVE,
    TooManyConnections.code: CloseCode.TOO_FAST,
    ConnectionQuotaExceeded.code: CloseCode.TOO_FAST,
}


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
        self._visit = Visit(self._connection)
        self._in_time: asyncio.TimerHandle | None = None
        # While the socket waits to be authenticated: by what it is counted.
        self._address: str | None = None
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                await self.dispatch(message)
        finally:
            try:
                await _departures.mine()
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
                    CloseCode.SERVICE_RESTART,
                    "the server is restarting",
                    reconnect_after_ms=message["reconnect_after_ms"],
                )

    async def _connect(self) -> None:
        self._headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]
        }
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
            self._in_time = loop.call_later(settings.SOCKET_AUTHENTICATE_SECONDS, self._not_in_time)

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
        if not self._visit.is_in:
            self._connection.put(frames.error(NotAuthenticated("No authenticate frame came in time."), None))
            self._connection.disconnect(CloseCode.AUTHENTICATION_TIMEOUT, "not authenticated in time")

    async def _disconnect(self) -> None:
        self._stop_waiting()
        if self._in_time is not None:
            self._in_time.cancel()
        await self._visit.leave()

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
            self._connection.disconnect(CloseCode.BAD_FRAMES, "frame too large")
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
            self._connection.disconnect(CloseCode.TOO_FAST, "too fast")

    def _refuse_frame(self, refusal: Refusal, frame_id: frames.FrameId) -> None:
        self._malformed += 1
        self._connection.put(frames.error(refusal, frame_id))
        if self._malformed >= settings.SOCKET_MAX_MALFORMED_FRAMES:
            self._connection.disconnect(CloseCode.BAD_FRAMES, "too many malformed frames")

    async def _handle(self, frame: frames.Frame) -> None:
        if frame.type == "authenticate":
            await self._authenticate(frame.data, frame_id=frame.id)
        elif self._visit.is_in:
            await self._visit.handle(frame)
        else:
            self._connection.put(frames.error(NotAuthenticated(), frame.id))

    # --- authenticate -----------------------------------------------------------------------------------------------

    async def _authenticate(self, data: dict[str, Any], *, frame_id: frames.FrameId) -> None:
        if self._visit.is_in:
            self._connection.put(frames.error(AlreadyAuthenticated(), frame_id))
            return
        connection = self._connection
        if self._in_time is not None:
            self._in_time.cancel()  # from here on it is we who take the time
        try:
            who = await read_in_turn(self._identify, data.get("apiKey"), data.get("token"))
            opened = await self._visit.enter(who)
        except Refusal as refusal:
            connection.put(frames.error(refusal, frame_id))
            code = _CLOSE_CODES.get(refusal.code, CloseCode.REFUSED)
            self._stop_waiting(refused=code == CloseCode.REFUSED)
            connection.disconnect(code, refusal.message)
            return
        except Exception as error:
            if isinstance(error, DatabaseError):
                logger.warning("a connection could not be authenticated: %s", error)
            else:
                logger.exception("a connection could not be authenticated")
            connection.put(frames.error(ServiceUnavailable(), frame_id))
            connection.disconnect(CloseCode.SERVICE_RESTART, "service unavailable")
            return
        self._stop_waiting()
        # Who it is, is known: nobody asks for the handshake again, and idle connections are many.
        self._headers = {}
        self.scope["headers"].clear()
        connection.open(frames.event("authenticated", opened) if frame_id is None else frames.ack(frame_id, opened))
        self._visit.hold_back()

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
        return identify(Caller(key=card, claims=claims))
