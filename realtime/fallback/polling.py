"""Long polling. Each poll is a short connection of its own that resumes: it is answered at once with what was missed,
or waits for the first thing that happens. What the client holds, and what it was told of the rest, it says itself: so
the next poll may be served by any process, and nothing is lost between two of them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from messagecore.kernel.api.later import Line
from messaging.access import ConversationNotFound
from messaging.services.reading import MembershipState
from realtime.connection import SHARE_UNDER_PRESSURE, Connection, QueuedBytes
from realtime.database import DatabaseError
from realtime.fallback import told
from realtime.fallback.house import house
from realtime.fallback.told import mark
from realtime.hub import hub
from realtime.people import people_of
from realtime.process import queued_bytes
from realtime.protocol import frames
from realtime.resumption import Resumption
from realtime.visit import Identified, Visit

logger = logging.getLogger(__name__)

MAX_ANSWER_FRAMES = 1000
MAX_ANSWER_BYTES = 1024 * 1024
"""Characters of an answer's frames; a single one may be larger. Where too much waits in the process, it is less."""

QUEUED_FRAMES = 256
"""Frames that come when the answer is full are not kept: the next poll reads them again."""

GATHER_S = 0.05
"""What comes right behind the first thing goes along with it."""

CATCH_UP_WITHIN_S = 25.0
"""What was missed and could not be read by then waits for the next poll."""

_NOT_FOR_POLLS = ('{"type":"authenticated"', '{"type":"disconnecting"')
"""A poll's end is no end: the client polls again, and the answer to that says if it may not."""

_STATE = ('{"type":"unread_updated"', '{"type":"membership_updated"')
"""Told from the database, with the marks that go with it."""

_KEPT_IN_MIND = tuple(
    f'{{"type":"{name}"' for name in ("conversation_read", "user_presence", "user_blocked", "user_unblocked")
)
"""What comes of these while a poll waits is not to be told again by the next."""

Key = tuple[str, ...]


class Answer:
    """What a poll is answered with: takes frames while there is room for them. Once one was refused none is taken any
    more: of every conversation the client gets what comes first."""

    def __init__(self, together: QueuedBytes) -> None:
        self._together = together
        self.frames: list[str] = []
        self.is_full = False
        self.is_over = False
        self.state_changed = False
        self.changed = asyncio.Event()
        self._size = 0

    @property
    def is_done(self) -> bool:
        return self.is_full or self.is_over

    def take(self, together: Sequence[str]) -> bool:
        """A Connection's `write_now`: all of them or none."""
        self.state_changed = self.state_changed or any(frame.startswith(_STATE) for frame in together)
        return self.add([frame for frame in together if not frame.startswith((*_NOT_FOR_POLLS, *_STATE))])

    def add(self, together: Sequence[str]) -> bool:
        """All of them or none, and one at least that is too large for any answer."""
        size = sum(map(len, together))
        share = SHARE_UNDER_PRESSURE if self._together.is_too_much else 1
        fits = len(self.frames) + len(together) <= MAX_ANSWER_FRAMES
        fits = fits and (self._size + size) * share <= MAX_ANSWER_BYTES
        is_alone = len(together) == 1 and not self.frames
        self.changed.set()
        if self.is_full or not (fits or is_alone):
            # Several that do not fit come again one by one.
            self.is_full = self.is_full or len(together) == 1
            return False
        self.frames += together
        self._size += size
        self._together.total += size
        return True

    def append(self, frame: str) -> None:
        """One that belongs to those that are there, whether or not there is room for it."""
        self.frames.append(frame)
        self._size += len(frame)
        self._together.total += len(frame)

    def release(self) -> None:
        """It is over: nothing more is taken, and what was is somebody else's to hold."""
        self.is_full = True
        self._together.total -= self._size
        self._size = 0

    async def send(self, message: dict[str, Any]) -> None:
        """A Connection's `send`: what was not taken waits until the poll is over."""
        if message["type"] == "websocket.close":
            self.is_over = True
            self.changed.set()
        elif not self.take((message["text"],)) and not message.get("urgent"):
            await asyncio.get_running_loop().create_future()


class _Resumption(Resumption):
    """Hands what is not in a log to its poll, which tells it once."""

    def __init__(self, connection: Connection, held: Mapping[str, int], tell_lost: Callable[[str, str], None]) -> None:
        super().__init__(hub(), connection, held)
        self._tell_poll = tell_lost
        self.places: dict[UUID, MembershipState] = {}

    async def read_places(self) -> None:
        """Raises DatabaseError."""
        await self._tell_state()

    def cut(self) -> dict[str, Any]:
        """What a client that goes on behind an answer of this poll would never hear: from where those conversations
        begin whose log it did not have from where it held it. As in `resumed`."""
        known = self._catch_up.truncated
        found: dict[str, Any] = {}
        for conversation_id, claim in self._claims.items():
            outcome = claim.outcome
            if conversation_id in known:
                outcome = {"complete": False, "truncatedBefore": known[conversation_id], "reason": "retention"}
            if "truncatedBefore" in outcome:
                found |= dict.fromkeys(claim.names, {"seq": outcome["truncatedBefore"] - 1} | outcome)
        return found

    def _tell_lost(self, name: str, frame: str) -> None:
        self._tell_poll(name, frame)

    def _tell_place(self, conversation_id: UUID, state: MembershipState) -> None:
        self.places[conversation_id] = state


class Poll:
    """One poll. `run` is its life."""

    def __init__(self, who: Identified, body: Mapping[str, Any], given: frozenset[bytes], line: Line) -> None:
        self._who = who
        self._held: Mapping[str, int] = body["conversations"]
        self._looking_at: Sequence[str] = body.get("lookingAt") or ()
        self._wait_s: float = body.get("waitSeconds", 0)
        self._presence: str = body.get("presence", "online")
        self._given = given
        self._line = line
        self._answer = Answer(queued_bytes())
        # What is told once, by what it is about; None until it is told in this poll.
        self._marks: dict[Key, bytes] | None = None
        self._lost: dict[Key, bytes] = {}
        self._blocked: set[str] = set()
        self._told_count = 0
        self._connection = Connection(
            house().new_connection_id(),
            self._answer.send,
            max_frames=QUEUED_FRAMES,
            max_bytes=MAX_ANSWER_BYTES,
            write_now=self._answer.take,
            together=queued_bytes(),
        )
        self._visit = Visit(self._connection)

    async def run(self) -> dict[str, Any]:
        """Raises TooManyConnections, ConnectionQuotaExceeded, RateLimited, ServiceUnavailable, DatabaseError."""
        house().check_opening(self._who.user_id)
        with house().place(self._visit):
            try:
                until = asyncio.get_running_loop().time() + self._wait_s
                self._connection.open(frames.event("authenticated", await self._visit.enter(self._who)))
                if (status := self._presence) != "online":
                    session = self._visit.session
                    await session.presence.show_as(session.tenant.id, session.user_id, self._connection.id, status)
                resumption = _Resumption(self._connection, self._held, self._tell_lost)
                await resumption.begin()
                if await self._catch_up(resumption):
                    await self._wait(resumption, until)
            finally:
                self._answer.release()
                await self._visit.leave()
        if self._marks is None:
            marks = self._given
        else:
            self._keep_in_mind(self._marks)
            marks = frozenset(self._marks.values())
        return {"frames": [orjson.Fragment(frame) for frame in self._answer.frames], "state": told.encode(marks)}

    async def _catch_up(self, resumption: _Resumption) -> bool:
        """Whether everything that was missed is in the answer."""
        resuming = asyncio.ensure_future(resumption.finish())
        try:
            async with asyncio.timeout(CATCH_UP_WITHIN_S):
                while not (resuming.done() or self._answer.is_done or self._line.gone.done()):
                    await self._until_something(resuming)
        except TimeoutError:
            logger.warning("a poll is answered before it was read what was missed")
        finally:
            if not resuming.done():
                resuming.cancel()
            await asyncio.gather(resuming, return_exceptions=True)
        try:
            resumed = None if resuming.cancelled() or self._connection.is_closing else resuming.result()
        except DatabaseError:
            if not self._answer.frames:
                raise
            resumed = None
        if resumed is None or self._answer.is_full:  # the next poll goes on behind what there is
            self._tell_cut(resumption)
            return False
        self._marks = dict(self._lost)
        self._tell_state(resumption, resumed)
        await self._tell_people()
        self._told_count = len(self._answer.frames)
        return True

    async def _wait(self, resumption: _Resumption, until: float) -> None:
        loop = asyncio.get_running_loop()
        while not (self._answer.frames or self._is_to_end(until)):
            if self._answer.state_changed:
                await self._tell_state_again(resumption)
            else:
                await self._until_something(timeout_s=until - loop.time())
                if self._answer.frames and not self._is_to_end(until):
                    await asyncio.sleep(GATHER_S)
                    await self._tell_state_again(resumption)

    def _is_to_end(self, until: float) -> bool:
        is_late = asyncio.get_running_loop().time() >= until
        return is_late or self._answer.is_done or self._connection.is_closing or self._line.gone.done()

    async def _until_something(self, also: "asyncio.Future[Any] | None" = None, timeout_s: float | None = None) -> None:
        self._answer.changed.clear()
        changed = asyncio.ensure_future(self._answer.changed.wait())
        try:
            awaited: set[asyncio.Future[Any]] = {changed, self._line.gone}
            if also is not None:
                awaited.add(also)
            await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    # --- what is told once ------------------------------------------------------------------------------------------

    def _tell(self, key: Key, value: object, frame: str | None) -> None:
        """Unless it is what the client was told last, by this answer or the one before. None: it need not be said."""
        assert self._marks is not None
        made = mark(key, value)
        last = self._marks.get(key)
        is_known = made in self._given if last is None else made == last
        if is_known or frame is None or self._answer.add((frame,)):
            self._marks[key] = made

    def _tell_lost(self, name: str, frame: str) -> None:
        """At once, before anything else: the user may be let in again while the rest is read."""
        key: Key = ("lost", name)
        made = mark(key, self._held[name])
        if made in self._given or self._answer.add((frame,)):
            self._lost[key] = made

    def _tell_state(self, resumption: _Resumption, resumed: Mapping[str, Any]) -> None:
        """What is not to be had, whom the user blocks, read positions and memberships."""
        knows_memberships = self._tell_resumed(resumption, resumed)
        for state in resumption.places.values():
            self._tell_place(state, knows_membership=knows_memberships)

    def _tell_cut(self, resumption: _Resumption) -> None:
        if cut := resumption.cut():
            data = {"conversations": cut, "blockedUserIds": sorted(map(str, self._connection.blocked))}
            self._answer.append(frames.event("resumed", data))

    def _tell_resumed(self, resumption: _Resumption, resumed: Mapping[str, Any]) -> bool:
        """`resumed`, to a client that polls for the first time, or where it says something new; whether it was told."""
        assert self._marks is not None
        self._blocked = set(resumed["blockedUserIds"])
        facts: dict[Key, object] = {("resumed",): True, ("blocked",): resumed["blockedUserIds"]}
        for name, found in resumed["conversations"].items():
            if not found["complete"]:
                facts["outcome", name] = [found.get(key) for key in ("seq", "reason", "truncatedBefore")]
        marks = {key: mark(key, value) for key, value in facts.items()}
        is_known = self._given.issuperset(marks.values())
        is_told = not is_known and self._answer.add((frames.event("resumed", resumed),))
        if is_known or is_told:
            self._marks |= marks
        else:
            self._tell_cut(resumption)
        return is_told

    def _tell_place(self, state: MembershipState, *, knows_membership: bool) -> None:
        unread, membership = state.unread, state.membership
        name = unread["conversationId"]
        self._tell(("read", name), unread["lastReadSeq"], frames.event("unread_updated", unread))
        chosen = [membership[key] for key in ("mutedUntil", "pinned", "archived", "hidden")]
        self._tell(("member", name), chosen, None if knows_membership else _membership_updated(state))

    async def _tell_state_again(self, resumption: _Resumption) -> None:
        """What happened while the poll waited may have changed it, the user's own messages for one."""
        self._answer.state_changed = False
        try:
            await resumption.read_places()
        except DatabaseError:
            return  # the next poll finds it
        for state in resumption.places.values():
            self._tell_place(state, knows_membership=False)

    async def _tell_people(self) -> None:
        """Begins to look at what the client looks at. To one that did so already it is said who went offline, too."""
        for any_id in self._looking_at:
            room = hub().find_room(self._connection, any_id)
            if room is None:
                self._tell(("unknown", any_id), True, frames.error(ConversationNotFound(details={"id": any_id}), None))
                continue
            hub().look_at(self._connection, room)
            key: Key = ("looking", str(room.id))
            was_looking = mark(key, True) in self._given
            for shown in await people_of(self._visit.session, room, offline=True):
                is_news = was_looking or shown.value != "offline"
                self._tell(_about(shown.fact, room.id, shown.user_id), shown.value, shown.frame if is_news else None)
            self._tell(key, True, None)

    def _keep_in_mind(self, marks: dict[Key, bytes]) -> None:
        for frame in self._answer.frames[self._told_count :]:
            if not frame.startswith(_KEPT_IN_MIND):
                continue
            event = orjson.loads(frame)
            data = event["data"]
            match event["type"]:
                case "conversation_read":
                    key = _about("read", data["conversationId"], data["userId"])
                    marks[key] = mark(key, data["lastReadSeq"])
                case "user_presence":
                    key = _about("presence", "", data["userId"])
                    marks[key] = mark(key, data["status"])
                case "user_blocked":
                    self._blocked.add(data["userId"])
                case "user_unblocked":
                    self._blocked.discard(data["userId"])
        if ("blocked",) in marks:
            marks["blocked",] = mark(("blocked",), sorted(self._blocked))


def _about(fact: str, conversation_id: object, user_id: object) -> Key:
    """Presence is the same wherever one looks."""
    return fact, "" if fact == "presence" else str(conversation_id), str(user_id)


def _membership_updated(state: MembershipState) -> str:
    names = ("conversationId", "conversationExternalId", "lastSeq", "timestamp")
    data = {name: state.unread[name] for name in names} | {"membership": state.membership}
    return frames.event("membership_updated", data)
