"""Bulk imports: jobs that are fed chunk by chunk, and go on where they stopped, whatever stopped them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from messagecore.kernel import ids, metrics, wire
from messagecore.kernel.api.paging import behind
from messagecore.kernel.errors import (
    Conflict,
    FieldError,
    NotFound,
    PayloadTooLarge,
    Refusal,
    ServiceUnavailable,
    ValidationFailed,
)
from messagecore.kernel.ids import find_uuid
from messaging import ports
from messaging.events import Announcement, DurableEvent, Expelled
from messaging.models import ConversationType, ImportFailure, ImportJob
from messaging.queries import imports as queries
from messaging.queries import log as log_queries
from messaging.queries import messages as message_queries
from messaging.queries import rendered
from messaging.queries.files import Use
from messaging.queries.imports import ConversationState
from messaging.queries.sending import members_among
from messaging.rendering import render_new_message
from messaging.services import files
from messaging.services.imports_lines import ConversationLine, Failure, Lines, read_lines
from messaging.services.imports_planning import Known, People, Plan, Rooms, direct_key_of, make_plan
from messaging.services.mentions import people as people_mentioned
from quotas.services.limits import get_limits
from quotas.services.metering import UserQuotaExceeded, active_users, release_users, take_users
from tenants import outbox

MAX_CHUNK_LINES = 10_000
SHOWN_FAILURES = 20
ATTEMPTS = 5


class ImportNotFound(NotFound):
    code = "import_not_found"


class ImportPosition(Refusal):
    """`details.positionBytes` is where the job stands."""

    code = "import_position"

    def __init__(self, position_bytes: int) -> None:
        super().__init__(details={"positionBytes": position_bytes})


@dataclass(frozen=True, slots=True)
class TakenChunk:
    """What became of a chunk: the job after it, the chunk's own counts and all of its failures, in order of lines."""

    job: ImportJob
    lines: int
    created: int
    updated: int
    unchanged: int
    failures: Sequence[Failure]


def create_import(*, name: str | None, now: datetime) -> ImportJob:
    return ImportJob.objects.create(name=name or "", created_at=now, updated_at=now)


def get_import(import_id: str) -> ImportJob:
    """Raises ImportNotFound."""
    uuid = find_uuid(import_id)
    job = None if uuid is None else ImportJob.objects.filter(pk=uuid).first()
    if job is None:
        raise ImportNotFound
    return job


def list_imports(*, before: tuple[datetime, UUID] | None, limit: int) -> list[ImportJob]:
    """Latest first, behind the cursor (created_at, id)."""
    jobs = ImportJob.objects.order_by("-created_at", "-id")
    if before is not None:
        jobs = jobs.filter(behind(("-created_at", "-id"), before))
    return list(jobs[:limit])


def list_failures(job: ImportJob, *, after: tuple[int, int] | None, limit: int) -> list[ImportFailure]:
    """In order of lines, behind the cursor (line, id)."""
    failures = ImportFailure.objects.filter(job=job).order_by("line", "id")
    if after is not None:
        failures = failures.filter(behind(("line", "id"), after))
    return list(failures[:limit])


def finish_import(*, import_id: str, now: datetime) -> ImportJob:
    """Takes no chunk from now on. Finishing twice changes nothing. Raises ImportNotFound."""
    job = _lock(import_id)
    if job.finished_at is None:
        job.finished_at = job.updated_at = now
        job.save(update_fields=["finished_at", "updated_at"])
    return job


def take_chunk(
    *, tenant_id: UUID, import_id: str, position: int, chunk: bytes, clock: Callable[[], datetime] = timezone.now
) -> TakenChunk:
    """Does what the lines say, in the caller's tenant scope and transaction: rows, report and position together.

    A bad line is a failure in the report and stops no other. Messages go to the end of their conversations' logs,
    recorded now and silent: never unread, nobody is notified. Users count against the quota, messages do not count
    against the month. Raises ImportNotFound, Conflict (finished), ImportPosition (the job stands elsewhere),
    ValidationFailed (the chunk ends inside a line), PayloadTooLarge (more than MAX_CHUNK_LINES), ServiceUnavailable
    (others wrote the same rows ATTEMPTS times); nothing has changed then.

    Locks the job, then users, conversations, files, each in id order, then the tenant's counter. A number of
    statements that depends on the kinds of lines, not on how many there are.
    """
    if chunk and not chunk.endswith(b"\n"):
        raise ValidationFailed([FieldError("", "the chunk must end at the end of a line")])
    if chunk.count(b"\n") > MAX_CHUNK_LINES:
        raise PayloadTooLarge(f"A chunk has at most {MAX_CHUNK_LINES} lines.")
    job = _lock(import_id)
    if job.finished_at is not None:
        raise Conflict("The import is finished.")
    if position != job.position_bytes:
        raise ImportPosition(job.position_bytes)
    lines = read_lines(tenant_id, chunk, first_line=job.lines + 1, now=clock())
    plan = _carry_out(tenant_id, lines, clock)
    failures = sorted([*lines.failures, *plan.failures], key=lambda failure: failure.line)
    _record(job, len(chunk), lines, plan, failures, now=clock())
    return TakenChunk(job, lines.count, plan.created, plan.updated, plan.unchanged, failures)


def _lock(import_id: str) -> ImportJob:
    uuid = find_uuid(import_id)
    job = None if uuid is None else ImportJob.objects.select_for_update().filter(pk=uuid).first()
    if job is None:
        raise ImportNotFound
    return job


def _record(
    job: ImportJob, size_bytes: int, lines: Lines, plan: Plan, failures: Sequence[Failure], *, now: datetime
) -> None:
    if failures:
        rows = [(failure.line, failure.code, failure.pointer, failure.message) for failure in failures]
        queries.insert_failures(job.id, rows)
    job.position_bytes += size_bytes
    job.lines += lines.count
    job.created_count += plan.created
    job.updated_count += plan.updated
    job.unchanged_count += plan.unchanged
    job.failed_count += len(failures)
    job.updated_at = now
    job.save()


def _carry_out(tenant_id: UUID, lines: Lines, clock: Callable[[], datetime]) -> Plan:
    """Plans and writes; anew where somebody else made a row, or took a user's place in the quota, between the two."""
    if not lines.sound:
        return Plan()
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                known = _look(tenant_id, lines)
                now = max([clock(), *(room.last_event_at for room in known.rooms.by_id.values())])
                plan = make_plan(lines.sound, known, now=now)
                _write(tenant_id, plan, now)
        except (IntegrityError, UserQuotaExceeded):
            continue
        _announce(tenant_id, plan, now)
        return plan
    raise ServiceUnavailable("Others were writing the same rows; send the chunk again.")


def _look(tenant_id: UUID, lines: Lines) -> Known:
    """Reads and locks what the lines name, in the order of locks."""
    users, rooms, messages = lines.users(), lines.conversations(), lines.messages()
    states = queries.lock_users([line.external_id for line in users]) if users else []
    names = _user_names(lines)
    if names:
        locked = {state.id for state in states}
        states += [state for state in queries.find_users(names) if state.id not in locked]
    people = People(states)
    new_ids = {line.external_id: ids.new_id() for line in users if line.external_id not in people.by_external_id}

    members = {line.line: _known_members(line, people) for line in rooms}
    direct_keys = {
        line.line: direct_key_of(members[line.line])
        for line in rooms
        if line.type == ConversationType.DIRECT and len(members[line.line]) == 2
    }
    room_names = dict.fromkeys([line.external_id for line in rooms] + [line.conversation for line in messages])
    found = Rooms(queries.lock_conversations(list(room_names), list(direct_keys.values())) if room_names else [])
    places = [
        (room.id, user_id)
        for line in rooms
        if (room := _find_room(found, line, direct_keys.get(line.line))) is not None
        for user_id in members[line.line]
    ]
    senders = {line.line: _sender_id(line.sender, people, new_ids) for line in messages}
    sent_keys = [
        (sender, line.client_message_id)
        for line in messages
        if line.client_message_id is not None and (sender := senders[line.line]) is not None
    ]
    message_ids = {line.id for line in messages} | {line.reply_to_id for line in messages if line.reply_to_id}
    known_messages = queries.known_messages(list(message_ids)) if messages else {}
    uses = {
        (sender, line.file_id)
        for line in messages
        if line.file_id is not None and (sender := senders[line.line]) is not None
    }
    return Known(
        people=people,
        rooms=found,
        members=members_among(places) if places else {},
        owned=queries.owned_among(list({room_id for room_id, _ in places})) if places else set(),
        messages=known_messages,
        sent=queries.sent_among(sent_keys) if sent_keys else set(),
        files=files.usable_files([Use(user_id, file_id, speaks_for_tenant=True) for user_id, file_id in sorted(uses)]),
        new_ids=new_ids,
        free_places=get_limits(tenant_id).max_users - active_users(tenant_id) if users else 0,
    )


def _user_names(lines: Lines) -> list[str]:
    """Every user that the lines name; of user lines those whose external id could be a server's id."""
    names: dict[str, None] = {}
    for user in lines.users():
        if find_uuid(user.external_id) is not None:
            names[user.external_id] = None
    for room in lines.conversations():
        names.update(dict.fromkeys(part.user for part in room.participants))
    for message in lines.messages():
        names[message.sender] = None
        if message.mentions:
            names.update(dict.fromkeys(people_mentioned(message.mentions)))
        for _, givers in message.reactions:
            names.update(dict.fromkeys(givers))
    return list(names)


def _known_members(line: ConversationLine, people: People) -> list[UUID]:
    """Those of the participants that are users already; the others are in no conversation."""
    return [user.id for part in line.participants if (user := people.find(part.user)) is not None]


def _find_room(rooms: Rooms, line: ConversationLine, direct_key: str | None) -> ConversationState | None:
    room = rooms.by_external_id.get(line.external_id)
    return rooms.by_direct_key.get(direct_key) if room is None and direct_key is not None else room


def _sender_id(name: str, people: People, new_ids: Mapping[str, UUID]) -> UUID | None:
    user = people.find(name)
    return new_ids.get(name) if user is None else user.id


def _write(tenant_id: UUID, plan: Plan, now: datetime) -> None:
    """A statement for each kind of what there is to write, the tenant's counter last. Raises IntegrityError,
    UserQuotaExceeded."""
    if plan.new_users:
        queries.insert_users(plan.new_users, now=now)
    if plan.changed_users:
        queries.update_users(plan.changed_users, now=now)
    if plan.new_rooms:
        queries.insert_conversations(list(plan.new_rooms.values()), now=now)
    if plan.moved_rooms:
        queries.advance_conversations(list(plan.moved_rooms.values()), plan.renewed, now=now)
    if plan.places:
        queries.insert_places(plan.places)
    if plan.events:
        log_queries.record_events(plan.events)
    if plan.messages:
        queries.insert_messages(list(plan.messages.values()), plan.answers, now=now)
    if plan.reactions:
        queries.insert_reactions(plan.reactions)
    files.link_files(plan.links)
    outbox.write(tenant_id, plan.promises)
    if plan.taken_places > 0:
        take_users(tenant_id, plan.taken_places, limit=get_limits(tenant_id).max_users)
    elif plan.taken_places < 0:
        release_users(tenant_id, -plan.taken_places)


def _announce(tenant_id: UUID, plan: Plan, now: datetime) -> None:
    """Tells of each conversation's last event only: whoever listens reads what came before it from the log. People who
    are in a conversation since hear of it when memberships are compared, at the latest after some seconds."""
    announcements: list[Announcement] = [Expelled(user_id, "the user is deactivated") for user_id in plan.deactivated]
    announcements += _last_events({**plan.new_rooms, **plan.moved_rooms}, plan, now)

    def committed() -> None:
        metrics.MESSAGES_SENT.labels("import").inc(len(plan.messages))
        ports.announcer().announce(tenant_id, announcements)

    transaction.on_commit(committed)


def _last_events(rooms: Mapping[UUID, ConversationState], plan: Plan, now: datetime) -> list[Announcement]:
    """Five statements at most."""
    ends = {(room.id, room.last_seq) for room in rooms.values()}
    rows = [row for row in plan.events if (row.conversation_id, row.seq) in ends]
    ids_of_last = [one.id for one in plan.messages.values() if (one.conversation_id, one.seq) in ends]
    views = message_queries.get_messages(ids_of_last) if ids_of_last else {}
    told: list[Announcement] = [
        DurableEvent(row.conversation_id, row.seq, row.type, data)
        for row, data in zip(rows, rendered.render_events(rows) if rows else [], strict=True)
    ]
    told += [
        DurableEvent(
            view.conversation_id,
            view.seq,
            "new_message",
            render_new_message(view, wire.timestamp(now)),
            None if view.sender is None else view.sender.id,
        )
        for view in views.values()
    ]
    return told
