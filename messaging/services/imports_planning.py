"""What an import's chunk does: each sound line, in order, judged by what is there and by the lines before it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from messagecore.kernel import ids, wire
from messagecore.kernel.ids import find_uuid
from messaging.models import ConversationType, Role
from messaging.queries.imports import (
    ConversationState,
    ImportedMessage,
    KnownMessage,
    NewPlace,
    NewReaction,
    UserState,
)
from messaging.queries.log import EventRow
from messaging.services.conversations import MAX_PARTICIPANTS
from messaging.services.imports_lines import (
    ConversationLine,
    Failure,
    Fault,
    Line,
    MessageLine,
    ParticipantPart,
    UserLine,
    failure,
)
from messaging.services.mentions import GROUP_MENTIONS
from tenants.outbox import Promise

NOBODY = "names no user of this tenant"


class People:
    """Users by either id; the server's wins."""

    def __init__(self, users: Sequence[UserState]) -> None:
        self.by_id = {user.id: user for user in users}
        self.by_external_id = {user.external_id: user for user in users}

    def find(self, name: str) -> UserState | None:
        uuid = find_uuid(name)
        return (self.by_id.get(uuid) if uuid is not None else None) or self.by_external_id.get(name)

    def get(self, name: str, pointer: str) -> UserState:
        """Raises Fault."""
        user = self.find(name)
        if user is None:
            raise Fault("user_not_found", pointer, NOBODY)
        return user

    def add(self, user: UserState) -> None:
        self.by_id[user.id] = user
        self.by_external_id[user.external_id] = user


class Rooms:
    """Conversations by either id, the server's winning, and by the pair of a direct one."""

    def __init__(self, conversations: Sequence[ConversationState]) -> None:
        self.by_id: dict[UUID, ConversationState] = {}
        self.by_external_id: dict[str, ConversationState] = {}
        self.by_direct_key: dict[str, ConversationState] = {}
        for conversation in conversations:
            self.add(conversation)

    def find(self, name: str) -> ConversationState | None:
        uuid = find_uuid(name)
        return (self.by_id.get(uuid) if uuid is not None else None) or self.by_external_id.get(name)

    def add(self, conversation: ConversationState) -> None:
        self.by_id[conversation.id] = conversation
        if conversation.external_id is not None:
            self.by_external_id[conversation.external_id] = conversation
        if conversation.direct_key is not None:
            self.by_direct_key[conversation.direct_key] = conversation


@dataclass(frozen=True, slots=True)
class Known:
    """What is there, read under the locks: everything that the chunk names. `free_places`: how many more users may
    be active; `files`: (user, file) pairs that may be linked; `new_ids`: the ids that new users will have."""

    people: People
    rooms: Rooms
    members: Mapping[UUID, frozenset[UUID]]
    owned: set[UUID]
    messages: Mapping[UUID, KnownMessage]
    sent: set[tuple[UUID, str]]
    files: set[tuple[UUID, UUID]]
    new_ids: Mapping[str, UUID]
    free_places: int


@dataclass(slots=True)
class Plan:
    """What the chunk adds and changes, and what became of its lines."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    new_users: list[UserState] = field(default_factory=list)
    changed_users: list[UserState] = field(default_factory=list)
    deactivated: list[UUID] = field(default_factory=list)
    taken_places: int = 0
    """Net: below zero where more users were deactivated than activated."""
    new_rooms: dict[UUID, ConversationState] = field(default_factory=dict)
    moved_rooms: dict[UUID, ConversationState] = field(default_factory=dict)
    renewed: set[UUID] = field(default_factory=set)
    places: list[NewPlace] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    messages: dict[UUID, ImportedMessage] = field(default_factory=dict)
    answers: Counter[UUID] = field(default_factory=Counter)
    reactions: list[NewReaction] = field(default_factory=list)
    links: list[tuple[UUID, UUID]] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)


def make_plan(lines: Sequence[Line], known: Known, *, now: datetime) -> Plan:
    """Writes nothing; changes the states in `known`. `now` is the log's time. A line knows only what is there and the
    lines before it, so where a file is cut into chunks makes no difference."""
    planner = _Planner(known, now)
    for line in lines:
        try:
            planner.take(line)
        except Fault as fault:
            planner.plan.failures.append(failure(line.line, fault))
    return planner.plan


class _Planner:
    def __init__(self, known: Known, now: datetime) -> None:
        self.known = known
        self.now = now
        self.plan = Plan()
        self._free_places = known.free_places
        self._seen_users: set[str] = set()
        self._seen_rooms: set[str] = set()
        self._sent: set[tuple[UUID, str]] = set(known.sent)

    def take(self, line: Line) -> None:
        """Raises Fault, and has done nothing then."""
        match line:
            case UserLine():
                self._user(line)
            case ConversationLine():
                self._conversation(line)
            case MessageLine():
                self._message(line)

    # --- users ------------------------------------------------------------------------------------------------------

    def _user(self, line: UserLine) -> None:
        people = self.known.people
        uuid = find_uuid(line.external_id)
        if uuid is not None and uuid in people.by_id:
            raise Fault("id_conflict", "/externalUserId", "is the id of an existing user")
        if line.external_id in self._seen_users:
            raise Fault("conflict", "/externalUserId", "is in this chunk already")
        user = people.by_external_id.get(line.external_id)
        if user is None:
            self._new_user(line)
        else:
            self._known_user(line, user)
        self._seen_users.add(line.external_id)

    def _new_user(self, line: UserLine) -> None:
        is_active = line.is_active is not False
        if is_active:
            self._take_place()
        user = UserState(
            id=self.known.new_ids[line.external_id],
            external_id=line.external_id,
            is_active=is_active,
            created_at=line.created_at or self.now,
        )
        _set(user, line.columns)
        self.known.people.add(user)
        self.plan.new_users.append(user)
        self.plan.created += 1

    def _known_user(self, line: UserLine, user: UserState) -> None:
        is_active = user.is_active if line.is_active is None else line.is_active
        if is_active and not user.is_active:
            self._take_place()
        changed = _set(user, line.columns) or is_active != user.is_active
        if user.is_active and not is_active:
            self._free_places += 1
            self.plan.taken_places -= 1
            self.plan.deactivated.append(user.id)
        user.is_active = is_active
        if changed:
            self.plan.changed_users.append(user)
            self.plan.updated += 1
        else:
            self.plan.unchanged += 1

    def _take_place(self) -> None:
        if self._free_places <= 0:
            raise Fault("user_quota_exceeded", "/externalUserId", "the plan allows no further active user")
        self._free_places -= 1
        self.plan.taken_places += 1

    # --- conversations ------------------------------------------------------------------------------------------------

    def _conversation(self, line: ConversationLine) -> None:
        rooms = self.known.rooms
        uuid = find_uuid(line.external_id)
        if uuid is not None and uuid in rooms.by_id:
            raise Fault("id_conflict", "/externalId", "is the id of an existing conversation")
        if line.external_id in self._seen_rooms:
            raise Fault("conflict", "/externalId", "is in this chunk already")
        people = self._participants(line)
        direct_key = None
        if line.type == ConversationType.DIRECT and len(people) == 2:
            direct_key = direct_key_of(people)
        room = rooms.by_external_id.get(line.external_id)
        if room is None and direct_key is not None:
            room = rooms.by_direct_key.get(direct_key)
            if room is not None and room.external_id is not None:
                raise Fault("conflict", "/externalId", "these two have a direct conversation with another external id")
        if room is None:
            self._new_room(line, people, direct_key)
        else:
            self._known_room(line, room, people)
        self._seen_rooms.add(line.external_id)

    def _participants(self, line: ConversationLine) -> dict[UUID, ParticipantPart]:
        people: dict[UUID, ParticipantPart] = {}
        owners = 0
        for place, part in enumerate(line.participants):
            user = self.known.people.get(part.user, f"/participants/{place}/userId")
            if user.id in people:
                raise Fault("validation_failed", f"/participants/{place}/userId", "names the same user again")
            owners += part.role == Role.OWNER
            if owners > 1:
                raise Fault("validation_failed", f"/participants/{place}/role", "makes a second owner")
            if line.type == ConversationType.DIRECT and part.role != Role.MEMBER:
                raise Fault("validation_failed", f"/participants/{place}/role", "a direct conversation has no roles")
            people[user.id] = part
        return people

    def _new_room(self, line: ConversationLine, people: Mapping[UUID, ParticipantPart], direct_key: str | None) -> None:
        if line.type == ConversationType.DIRECT and direct_key is None:
            raise Fault("validation_failed", "/participants", "a direct conversation has exactly two participants")
        created_at = line.created_at or self.now
        room = ConversationState(
            id=ids.new_id(),
            external_id=line.external_id,
            type=line.type,
            direct_key=direct_key,
            title=line.columns.get("title"),
            metadata=line.columns.get("metadata", {}),
            last_seq=0,
            message_count=0,
            unread_total=0,
            last_event_at=self.now,
            participant_count=len(people),
            last_message_at=None,
            last_message_id=None,
            oldest_at=self.now,
            created_at=created_at,
        )
        self.known.rooms.add(room)
        self.plan.new_rooms[room.id] = room
        self.plan.places += [
            NewPlace(room.id, user_id, part.role, part.joined_at or created_at, 0, 0)
            for user_id, part in people.items()
        ]
        self.plan.promises.append(Promise("conversation_created", room.id, None, None, self.now))
        self.plan.created += 1

    def _known_room(
        self, line: ConversationLine, room: ConversationState, people: Mapping[UUID, ParticipantPart]
    ) -> None:
        if room.type != line.type:
            raise Fault("conflict", "/type", f"the conversation is a {room.type} one")
        present = self.known.members.get(room.id, frozenset())
        newcomers = {user_id: part for user_id, part in people.items() if user_id not in present}
        if newcomers:
            self._check_newcomers(room, newcomers)
        adopted = room.external_id is None
        if adopted:
            room.external_id = line.external_id
            self.known.rooms.add(room)
        renewed = _set(room, line.columns)
        if not (newcomers or adopted or renewed):
            self.plan.unchanged += 1
            return
        if adopted or renewed:
            self.plan.renewed.add(room.id)
            self._event(room, "conversation_updated", None, {})
        self._enter(room, newcomers)
        self.plan.updated += 1

    def _check_newcomers(self, room: ConversationState, newcomers: Mapping[UUID, ParticipantPart]) -> None:
        if room.type == ConversationType.DIRECT:
            raise Fault("conflict", "/participants", "a direct conversation keeps its two participants")
        if room.participant_count + len(newcomers) > MAX_PARTICIPANTS:
            raise Fault("validation_failed", "/participants", f"at most {MAX_PARTICIPANTS} participants")
        if room.id in self.known.owned and any(part.role == Role.OWNER for part in newcomers.values()):
            raise Fault("conflict", "/participants", "the conversation has an owner")

    def _enter(self, room: ConversationState, newcomers: Mapping[UUID, ParticipantPart]) -> None:
        read_seq = room.last_seq
        for user_id, part in newcomers.items():
            joined_at = part.joined_at or self.now
            room.participant_count += 1
            self.plan.places.append(NewPlace(room.id, user_id, part.role, joined_at, read_seq, room.unread_total))
            facts = {
                "role": part.role,
                "joinedAt": wire.timestamp(joined_at),
                "lastReadSeq": read_seq,
                "participantCount": room.participant_count,
            }
            self._event(room, "participant_added", user_id, facts)

    def _event(self, room: ConversationState, type_: str, subject_id: UUID | None, data: dict[str, Any]) -> None:
        seq = self._next_seq(room, type_, subject_id)
        self.plan.events.append(
            EventRow(
                conversation_id=room.id,
                conversation_external_id=room.external_id,
                seq=seq,
                type=type_,
                actor_id=None,
                subject_id=subject_id,
                data=data,
                recorded_at=self.now,
                author_id=None,
            )
        )

    def _next_seq(self, room: ConversationState, type_: str, subject_id: UUID | None) -> int:
        room.last_seq += 1
        if room.id not in self.plan.new_rooms:
            self.plan.moved_rooms[room.id] = room
        self.plan.promises.append(Promise(type_, room.id, room.last_seq, subject_id, self.now))
        return room.last_seq

    # --- messages -----------------------------------------------------------------------------------------------------

    def _message(self, line: MessageLine) -> None:
        room = self.known.rooms.find(line.conversation)
        if room is None:
            raise Fault("conversation_not_found", "/conversationId", "names no conversation of this tenant")
        if line.id in self.plan.messages:
            raise Fault("conflict", "/id", "is in this chunk already")
        earlier = self.known.messages.get(line.id)
        if earlier is not None:
            if earlier.conversation_id != room.id:
                raise Fault("id_conflict", "/id", "is the id of a message in another conversation")
            self.plan.unchanged += 1
            return
        people = self.known.people
        sender = people.get(line.sender, "/senderId")
        thread_id = self._thread(line, room)
        mentions = self._mentions(line)
        reactions = self._reactions(line)
        if line.file_id is not None and (sender.id, line.file_id) not in self.known.files:
            raise Fault("validation_failed", "/content/fileId", "names no file that the sender may use")
        if line.client_message_id is not None:
            key = (sender.id, line.client_message_id)
            if key in self._sent:
                raise Fault("idempotency_conflict", "/clientMessageId", "its sender used it for another message")
            self._sent.add(key)

        room.message_count += 1
        self.plan.messages[line.id] = ImportedMessage(
            id=line.id,
            conversation_id=room.id,
            seq=self._next_seq(room, "new_message", line.id),
            message_index=room.message_count,
            sender_id=sender.id,
            type=line.type,
            content=line.content,
            reply_to_id=line.reply_to_id,
            client_message_id=line.client_message_id,
            mentions=mentions,
            metadata=line.metadata,
            unread_index=room.unread_total,
            thread_id=thread_id,
            reaction_count=len(reactions),
            created_at=line.created_at,
            edited_at=line.edited_at,
            deleted_at=line.deleted_at,
        )
        self.plan.reactions += reactions
        if line.file_id is not None:
            self.plan.links.append((line.id, line.file_id))
        if thread_id is not None and line.deleted_at is None:
            self._count_answer(thread_id)
        if line.deleted_at is None:
            room.oldest_at = min(room.oldest_at, line.created_at)
        if room.last_message_at is None or room.last_message_id is None or line.created_at >= room.last_message_at:
            room.last_message_id = line.id
            room.last_message_at = max(line.created_at, room.last_message_at or line.created_at)
        self.plan.created += 1

    def _thread(self, line: MessageLine, room: ConversationState) -> UUID | None:
        """The root of the thread that the message answers in."""
        if line.reply_to_id is None:
            return None
        fresh = self.plan.messages.get(line.reply_to_id)
        if fresh is not None and fresh.conversation_id == room.id:
            return fresh.thread_id or line.reply_to_id
        earlier = self.known.messages.get(line.reply_to_id)
        if earlier is None or earlier.conversation_id != room.id or not earlier.remains:
            raise Fault("message_not_found", "/replyToId", "names no message that comes before in this conversation")
        return earlier.thread_id or line.reply_to_id

    def _count_answer(self, root_id: UUID) -> None:
        root = self.plan.messages.get(root_id)
        if root is not None:
            root.reply_count += 1
        else:
            self.plan.answers[root_id] += 1

    def _mentions(self, line: MessageLine) -> str:
        if not line.mentions:
            return "[]"
        people = self.known.people
        stored = [
            name if name in GROUP_MENTIONS else str(people.get(name, f"/mentions/{place}").id)
            for place, name in enumerate(line.mentions)
        ]
        return wire.dumps(list(dict.fromkeys(stored))).decode()

    def _reactions(self, line: MessageLine) -> list[NewReaction]:
        people = self.known.people
        return [
            NewReaction(line.id, user_id, name, line.created_at)
            for place, (name, names) in enumerate(line.reactions)
            for user_id in dict.fromkeys(
                people.get(one, f"/reactions/{place}/userIds/{number}").id for number, one in enumerate(names)
            )
        ]


def direct_key_of(user_ids: Iterable[UUID]) -> str:
    """How a direct conversation is found by its two members."""
    return ":".join(sorted(str(user_id) for user_id in user_ids))


def _set(state: UserState | ConversationState, columns: Mapping[str, Any]) -> bool:
    """Sets what differs; whether anything did."""
    changed = False
    for column, value in columns.items():
        if getattr(state, column) != value:
            setattr(state, column, value)
            changed = True
    return changed
