"""Conversations: making, changing and deleting them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from messagecore.kernel import ids, wire
from messagecore.kernel.errors import Conflict, FieldError, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messaging import rendering, roles
from messaging.access import ConversationNotFound, unknown_ids
from messaging.events import Joined, Left
from messaging.models import Conversation, ConversationType, Message, Participant, Role, User, UserBlock
from messaging.queries.conversations import view_conversations
from messaging.queries.files import unlink_conversation
from messaging.queries.identity import resolve
from messaging.queries.indexing import remove_conversation
from messaging.services import files, log
from messaging.services.log import Entry
from messaging.services.users import IdConflict
from tenants import outbox
from tenants.outbox import Promise

MAX_PARTICIPANTS = 10_000


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation to make; participants by either id."""

    type: str
    title: str | None
    participants: Sequence[str]
    external_id: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    conversation: Conversation
    created: bool


def create_conversation(*, tenant_id: UUID, wanted: NewConversation, actor: User | None, now: datetime) -> Made:
    """Makes a conversation, or returns the one that already has this `external_id` or joins this direct pair.

    A user who makes one is in it: as owner, in a direct one as member. Everyone's connections hear of it.
    Raises ValidationFailed, IdConflict, ConversationNotFound (the `external_id` is of one that the actor is not in).
    """
    members = _members(wanted, actor)
    direct_key = None
    if wanted.type == ConversationType.DIRECT:
        if len(members) != 2:
            raise ValidationFailed(
                [FieldError("/participantIds", "a direct conversation has exactly two participants")]
            )
        direct_key = ":".join(sorted(str(member) for member in members))
    existing = _find_existing(wanted.external_id, direct_key, actor)
    if existing is not None:
        return Made(existing, created=False)
    if wanted.external_id is not None and _is_server_id(wanted.external_id):
        raise IdConflict("The externalId equals the id of an existing conversation.")

    conversation = Conversation(
        id=ids.new_id(),
        external_id=wanted.external_id,
        type=wanted.type,
        direct_key=direct_key,
        title=wanted.title,
        metadata=wanted.metadata,
        created_by=actor,
        created_at=now,
        updated_at=now,
        last_event_at=now,
        oldest_at=now,
        participant_count=len(members),
    )
    (inserted,) = Conversation.objects.bulk_create([conversation], ignore_conflicts=True)
    if not Conversation.objects.filter(pk=inserted.pk).exists():  # made elsewhere at this very moment
        existing = _find_existing(wanted.external_id, direct_key, actor)
        if existing is None:
            raise Conflict
        return Made(existing, created=False)
    owner_id = actor.id if actor is not None and wanted.type != ConversationType.DIRECT else None
    Participant.objects.bulk_create(
        [
            Participant(
                conversation=conversation,
                user_id=member,
                role=Role.OWNER if member == owner_id else Role.MEMBER,
                joined_at=now,
            )
            for member in members
        ],
        batch_size=1000,
    )
    outbox.write(tenant_id, [Promise("conversation_created", conversation.id, None, None, now)])
    log.announce(tenant_id, [joined(conversation, members, after_seq=0, now=now)])
    return Made(conversation, created=True)


def _members(wanted: NewConversation, actor: User | None) -> list[UUID]:
    found = resolve("user", wanted.participants)
    missing = [(position, name) for position, name in enumerate(wanted.participants) if name not in found]
    if missing:
        raise unknown_ids("/participantIds", missing)
    own = [actor.id] if actor is not None else []
    members = list(dict.fromkeys([*own, *(found[name] for name in wanted.participants)]))
    if len(members) > MAX_PARTICIPANTS:
        raise ValidationFailed([FieldError("/participantIds", f"at most {MAX_PARTICIPANTS} participants")])
    return members


def _find_existing(external_id: str | None, direct_key: str | None, actor: User | None) -> Conversation | None:
    existing = None
    if external_id is not None:
        existing = Conversation.objects.filter(external_id=external_id).first()
    if existing is None and direct_key is not None:
        existing = Conversation.objects.filter(direct_key=direct_key).first()
    if (
        existing is not None
        and actor is not None
        and not Participant.objects.filter(conversation=existing, user=actor).exists()
    ):
        raise ConversationNotFound
    return existing


def _is_server_id(external_id: str) -> bool:
    uuid = find_uuid(external_id)
    return uuid is not None and Conversation.objects.filter(pk=uuid).exists()


def update_conversation(
    *, tenant_id: UUID, conversation: Conversation, change: Mapping[str, Any], actor: User | None
) -> Conversation:
    """Changes title (empty: none), metadata and settings where given; settings that are not named stay.

    Changing nothing writes nothing. Raises PermissionDenied, ConversationNotFound.
    """
    locked = log.lock(conversation.id)
    check_may(locked, actor, roles.Action.UPDATE_CONVERSATION)
    wanted = {
        "title": (change["title"] or None) if "title" in change else locked.title,
        "metadata": change.get("metadata", locked.metadata),
        "settings": locked.settings | change.get("settings", {}),
    }
    changed = [name for name, value in wanted.items() if getattr(locked, name) != value]
    if not changed:
        return locked
    for name in changed:
        setattr(locked, name, wanted[name])
    now = log.advance(locked, events=1)
    locked.updated_at = now
    locked.save(update_fields=[*changed, "updated_at"])
    log.append(tenant_id, locked, [Entry("conversation_updated", None, {})], actor=actor, now=now)
    return locked


def delete_conversation(*, tenant_id: UUID, conversation: Conversation, actor: User | None, now: datetime) -> None:
    """Takes a conversation away with everything in it; everyone's connections hear of it.

    Cost: its rows. Raises PermissionDenied, ConversationNotFound.
    """
    locked = log.lock(conversation.id)
    check_may(locked, actor, roles.Action.DELETE_CONVERSATION)
    user_ids = list(Participant.objects.filter(conversation=locked).values_list("user_id", flat=True))
    outbox.write(tenant_id, [Promise("conversation_deleted", locked.id, None, None, now)])
    linked = unlink_conversation(locked.id)
    Message.objects.filter(conversation=locked).delete()
    remove_conversation(locked.id)
    locked.delete()
    files.release_files(tenant_id, linked)
    log.announce(
        tenant_id,
        [
            Left(
                conversation_id=conversation.id,
                conversation_external_id=conversation.external_id,
                user_id=user_id,
                reason="deleted",
                after_seq=locked.last_seq,
                timestamp=wire.timestamp(now),
            )
            for user_id in user_ids
        ],
    )


def check_may(conversation: Conversation, actor: User | None, action: roles.Action) -> None:
    """The integrator may everything. Raises ConversationNotFound, PermissionDenied."""
    if actor is None:
        return
    place = Participant.objects.filter(conversation=conversation, user=actor).first()
    if place is None:
        raise ConversationNotFound
    roles.require(place.role, action)


def joined(
    conversation: Conversation, user_ids: Sequence[UUID], *, after_seq: int, now: datetime, shows_history: bool = True
) -> Joined:
    """The announcement of newcomers. Without the history they are not shown the last message either, nor is anybody
    if one of them blocks who wrote it: they all get the same."""
    (view,) = view_conversations([conversation], viewer_id=None)
    last = view.last_message if shows_history else None
    if last is not None and last.sender is not None:
        blockers = UserBlock.objects.filter(blocker__in=user_ids, blocked_id=last.sender.id)
        last = None if blockers.exists() else last
    rendered = rendering.render_conversation(conversation, participants=view.participants, last_message=last)
    return Joined(conversation.id, tuple(user_ids), after_seq, rendered, wire.timestamp(now))
