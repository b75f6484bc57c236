"""Resuming: a client that comes back says what it holds, and gets what it missed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.utils import timezone

from messagecore.kernel import metrics, wire
from messagecore.kernel.ids import find_uuid
from messaging.queries.log import LogPosition
from messaging.services import reading
from messaging.services.reading import MembershipState
from realtime.connection import Connection
from realtime.database import read_in_turn
from realtime.hub import Hub
from realtime.protocol import frames
from realtime.rooms import LocalTenant

ANNOUNCED_AT_ONCE = 50
STATES_AT_ONCE = 500


@dataclass(slots=True)
class _Claim:
    """What the client says of one conversation, and what can be had of it."""

    names: list[str]
    position: LogPosition
    seq: int
    """Up to where the client holds everything, or can be told nothing more."""
    outcome: dict[str, Any] = field(default_factory=dict)


class Resumption:
    """One `resume` of an authenticated connection.

    `begin` decides from where each conversation goes on, so that whatever is handled after it comes behind what was
    missed. `finish` waits until the client has taken it, and returns the `resumed` data.
    """

    def __init__(self, hub: Hub, connection: Connection, held: Mapping[str, int]) -> None:
        tenant = hub.tenant_of(connection)
        assert tenant is not None
        assert connection.user_id is not None
        self._hub = hub
        self._connection = connection
        self._tenant: LocalTenant = tenant
        self._user_id: UUID = connection.user_id
        self._held = held
        self._claims: dict[UUID, _Claim] = {}
        self._lost: dict[str, int] = {}
        self._unnamed: list[UUID] = []

    async def begin(self) -> None:
        """One read. Raises DatabaseError, and then nothing was changed."""
        read = await read_in_turn(reading.positions, self._tenant.card, self._user_id)
        # What the connection was taken out of while that was read is over, whatever it says.
        departures = self._connection.departures
        positions = [one for one in read if one.last_seq >= departures.get(one.conversation_id, 0)]
        self._catch_up = self._hub.catch_up_of(self._connection, self._tenant)
        self._sort_out(positions)
        for claim in self._claims.values():
            self._place(claim)
        for name in self._lost:
            self._remove(name)

    async def finish(self) -> dict[str, Any]:
        """Raises DatabaseError: the client comes back and resumes, with what it holds by then."""
        await self._announce()
        await self._catch_up.reached({id_: claim.position.last_seq for id_, claim in self._claims.items()})
        memberships = await self._tell_state()
        resumed = {
            name: {"seq": seq, "complete": False, "reason": "removed"}
            for name, seq in self._lost.items()
            if not self._is_back(name)
        }
        for conversation_id, claim in self._claims.items():
            if conversation_id not in self._connection.conversations:
                resumed |= {name: {"seq": claim.seq, "complete": False, "reason": "removed"} for name in claim.names}
                continue
            truncated = self._catch_up.truncated.get(conversation_id, None)
            if truncated is not None:
                claim.outcome = {"complete": False, "truncatedBefore": truncated, "reason": "retention"}
            outcome = {"seq": self._seq(conversation_id), "complete": True} | claim.outcome
            if conversation_id in memberships:
                outcome["membership"] = memberships[conversation_id]
            resumed |= dict.fromkeys(claim.names, outcome)
        self._hub.release(self._connection)
        self._hub.end_catch_up(self._connection)
        return {"conversations": resumed, "blockedUserIds": sorted(map(str, self._connection.blocked))}

    def _sort_out(self, positions: list[LogPosition]) -> None:
        by_id = {position.conversation_id: position for position in positions}
        by_external_id = {
            position.conversation_external_id: position
            for position in positions
            if position.conversation_external_id is not None
        }
        for name, seq in self._held.items():
            uuid = find_uuid(name)
            position = (None if uuid is None else by_id.get(uuid)) or by_external_id.get(name)
            if position is None:
                self._lost[name] = seq
            elif (claim := self._claims.get(position.conversation_id)) is not None:
                claim.names.append(name)
                claim.seq = min(claim.seq, seq)
            else:
                self._claims[position.conversation_id] = _Claim([name], position, seq)
        self._unnamed = [conversation_id for conversation_id in by_id if conversation_id not in self._claims]

    def _place(self, claim: _Claim) -> None:
        position = claim.position
        first_seq = max(position.visible_from_seq, position.purged_seq + 1)
        if claim.seq > position.last_seq:
            # The client saw what the log does not have: a database was restored from a backup.
            claim.seq = position.last_seq
            claim.outcome = {"complete": False, "reason": "ahead"}
        elif claim.seq + 1 < first_seq:
            claim.seq = first_seq - 1
            reason = "retention" if first_seq == position.purged_seq + 1 else "membership"
            claim.outcome = {"complete": False, "truncatedBefore": first_seq, "reason": reason}
        connection = self._connection
        self._catch_up.confirmed[position.conversation_id] = position.last_seq
        if position.conversation_id not in connection.conversations:
            self._hub.listen(
                self._tenant,
                connection,
                position.conversation_id,
                position.conversation_external_id,
                after_seq=claim.seq,
            )
        else:
            self._hub.release_room(connection, position.conversation_id, after_seq=claim.seq)
        room = self._tenant.rooms[position.conversation_id]
        self._hub.fill(self._tenant, room, up_to=position.last_seq)

    def _is_back(self, name: str) -> bool:
        """Whether the user was let in again since: `conversation_created` has said so."""
        conversation_id = find_uuid(name) or self._tenant.by_external_id.get(name)
        return conversation_id in self._connection.conversations

    def _remove(self, name: str) -> None:
        """At once, also where the hub has not heard of it: the log's own event would come behind a gap."""
        connection, tenant = self._connection, self._tenant
        conversation_id = find_uuid(name) or tenant.by_external_id.get(name)
        if conversation_id is None:
            return
        removed = {
            "conversationId": str(conversation_id),
            "conversationExternalId": None,
            "reason": "removed",
            "timestamp": wire.timestamp(timezone.now()),
        }
        frame = frames.event("conversation_removed", removed)
        if conversation_id in connection.conversations:
            cursor = tenant.rooms[conversation_id].cursor
            self._hub.leave(tenant, connection, conversation_id, frame, at_seq=cursor)
        elif conversation_id not in connection.departures:  # or told a moment ago, while the positions were read
            self._tell_lost(name, frame)

    def _tell_lost(self, name: str, frame: str) -> None:
        self._connection.deliver(frame)

    async def _announce(self) -> None:
        """Shows the conversations that the client did not name; each goes on from where it was shown."""
        for first in range(0, len(self._unnamed), ANNOUNCED_AT_ONCE):
            await self._connection.drained()
            page = self._unnamed[first : first + ANNOUNCED_AT_ONCE]
            found = await read_in_turn(reading.announcements, self._tenant.card, self._user_id, page)
            now = wire.timestamp(timezone.now())
            for conversation_id in page:
                conversation = found.get(conversation_id)
                if conversation is None or conversation_id not in self._connection.conversations:
                    continue  # its removal is told as every removal is
                created = {"conversation": conversation, "timestamp": now}
                self._connection.deliver(frames.event("conversation_created", created))
                metrics.DELIVERIES.labels("conversation_created").inc()
                after_seq = max(conversation["lastSeq"], self._seq(conversation_id))
                self._hub.release_room(self._connection, conversation_id, after_seq=after_seq)

    async def _tell_state(self) -> dict[UUID, Mapping[str, Any]]:
        """The read positions and unread counts of what the client named, as events; and the memberships."""
        memberships: dict[UUID, Mapping[str, Any]] = {}
        ids = list(self._claims)
        for first in range(0, len(ids), STATES_AT_ONCE):
            await self._connection.drained()
            page = ids[first : first + STATES_AT_ONCE]
            states = await read_in_turn(
                reading.membership_states, self._tenant.card, self._user_id, page, now=timezone.now()
            )
            for conversation_id, state in states.items():
                memberships[conversation_id] = state.membership
                self._tell_place(conversation_id, state)
        return memberships

    def _tell_place(self, conversation_id: UUID, state: MembershipState) -> None:
        self._connection.deliver(frames.event("unread_updated", state.unread))

    def _seq(self, conversation_id: UUID) -> int:
        """Up to where the connection was told everything."""
        room = self._tenant.rooms[conversation_id]
        return room.apart.get(self._connection, room.cursor)
