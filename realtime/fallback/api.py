"""`/realtime/…`: streams, polls and commands. A thread finds out who asks for what; the event loop does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from messagecore.kernel import validation, wire
from messagecore.kernel.api.later import Later, Line
from messagecore.kernel.api.operations import Call, Param, operation
from messagecore.kernel.errors import FieldError, InvalidJson, ValidationFailed
from realtime.fallback import told
from realtime.fallback.commands import obey
from realtime.fallback.polling import Poll
from realtime.fallback.streams import stream
from realtime.visit import Identified, identify
from tenants.api.authentication import ConnectionAuthentication, TokenRequired
from tenants.api.views import TenantView
from tenants.services.authentication import TokenExpired

CREDENTIALS = (
    Param("apiKey", description="The API key, where no `X-API-Key` can be sent."),
    Param("token", maximum=8192, description="The user token, where no `Authorization` can be sent."),
)
OPENING_ERRORS = ("rate_limited", "too_many_connections", "connection_quota_exceeded")
MAX_RESUME_CHARACTERS = 32 * 1024


class ConnectionView(TenantView):
    """As sockets are opened: by a user, with a token."""

    authentication_classes = [ConnectionAuthentication]
    security = (("apiKey", "userToken"),)
    http_method_names = ["get", "post", "options"]  # a HEAD would open a stream

    @contextmanager
    def entered(self, call: Call) -> Iterator[None]:
        """Without a transaction: nothing is written here. Raises TokenRequired to a secret key that comes alone."""
        self.require_scope(call)
        if call.caller.claims is None:
            raise TokenRequired
        yield


class EventStream(ConnectionView):
    @operation(
        "openEventStream",
        summary="Open a stream of events",
        tag="Realtime",
        stream=True,
        query=(
            *CREDENTIALS,
            Param(
                "resume",
                maximum=MAX_RESUME_CHARACTERS,
                description="Resume: a JSON object with the last seq that the client holds of each conversation.",
            ),
        ),
        errors=OPENING_ERRORS,
        scope="messages:read",
        description=(
            "A connection for whoever cannot have a WebSocket, made for a browser's `EventSource`: each event is one "
            "frame as the socket sends them, the first one `authenticated`. Commands go by `POST /realtime/commands`."
        ),
    )
    def get(self, call: Call) -> Later:
        given = call.query["resume"]
        held = None if given is None else _held(given)
        return Later(partial(stream, _who(call), held, ()))

    @operation(
        "resumeEventStream",
        summary="Open a stream of events, with a body",
        tag="Realtime",
        request="OpenEventStream",
        optional_body=True,
        stream=True,
        query=CREDENTIALS,
        errors=OPENING_ERRORS,
        scope="messages:read",
        description="As by GET, for clients that read a stream by themselves; they may resume far more conversations.",
    )
    def post(self, call: Call) -> Later:
        who, body = _who(call), call.body
        return Later(partial(stream, who, body.get("conversations"), body.get("lookingAt") or ()))


class Polling(ConnectionView):
    @operation(
        "pollEvents",
        summary="Get what happened, or wait for it",
        tag="Realtime",
        request="PollEvents",
        response="PolledEvents",
        query=CREDENTIALS,
        errors=OPENING_ERRORS,
        scope="messages:read",
        description=(
            "Frames as the socket sends them. Answers at once with what the client does not hold yet, as far as it "
            "goes into one answer; else waits for the first thing that happens. Poll again at once, with the last seqs "
            "and the `state` of the answer; any process answers."
        ),
    )
    def post(self, call: Call) -> Later:
        given = told.decode(call.body.get("state"))
        return Later(partial(_poll, _who(call), call.body, given))


class Commands(ConnectionView):
    @operation(
        "sendCommands",
        summary="Send commands",
        tag="Realtime",
        request="SendCommands",
        response="CommandAnswers",
        query=CREDENTIALS,
        headers=(Param("X-Connection-Id", description="The stream that `join_conversation` and the like are about."),),
        scope="messages:write",
        description=(
            "One command of the socket, or up to 20, done one after the other. Those about a connection "
            "(`join_conversation`, `leave_conversation`, `resume`, `set_presence`) name a stream's `connectionId` in "
            "`X-Connection-Id`, and are handed to the process that has it. The answer is 200 whatever becomes of them."
        ),
    )
    def post(self, call: Call) -> Later:
        commands = call.body if isinstance(call.body, list) else [call.body]
        connection_id = call.request.headers.get("X-Connection-Id")
        return Later(partial(_obey, identify(call.caller), commands, connection_id))


def _who(call: Call) -> Identified:
    """Raises TokenExpired also within the difference of clocks that is allowed elsewhere: what it opened would end at
    once, and its client open the next without a pause. And what `identify` raises."""
    if call.caller.claims.expires_at <= call.now:
        raise TokenExpired
    return identify(call.caller)


async def _poll(who: Identified, body: dict[str, Any], given: frozenset[bytes], line: Line) -> dict[str, Any]:
    return await Poll(who, body, given, line).run()


async def _obey(who: Identified, commands: list[Any], connection_id: str | None, line: Line) -> dict[str, Any]:
    """Until it is done, whether or not somebody still waits for it."""
    return {"frames": await obey(who, commands, connection_id)}


def _held(text: str) -> dict[str, int]:
    """The `resume` of a query. Raises ValidationFailed."""
    try:
        held: Any = wire.loads(text)
        validation.validate("ResumeCommand", {"conversations": held})
    except (InvalidJson, ValidationFailed):
        raise ValidationFailed([FieldError("/resume", "is not a JSON object of seqs by conversation")]) from None
    return dict(held)
