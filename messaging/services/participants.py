"""Who is in a conversation: adding, removing, roles, joining, and what each member set for themselves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from messagecore.kernel import wire
from messagecore.kernel.errors import Conflict, FieldError, PermissionDenied, Refusal, ValidationFailed
from messaging import roles
from messaging.access import ConversationNotFound, ParticipantNotFound, unknown_ids
from messaging.events import Left, ToUser
from messaging.models import Conversation, ConversationType, Participant, Role, User
from messaging.queries.identity import resolve
from messaging.queries.moderation import banned_among
from messaging.queries.unread import place_of
from messaging.rendering import delivered_seq, render_membership
from messaging.rendering_moderation import render_end_of_ban
from messaging.services import log
from messaging.services.conversations import MAX_PARTICIPANTS, check_may, joined
from messaging.services.log import Entry
from messaging.services.system_messages import tell_membership


class BannedFromConversation(Refusal):
    """`details.users` names who is banned, with when it ends; null: never."""

    code = "banned_from_conversation"


def add_participants(
    *,
    tenant_id: UUID,
    conversation: Conversation,
    participants: Sequence[str],
    role: str,
    show_history: bool | None,
    actor: User | None,
) -> Conversation:
    """Adds users, each with a `participant_added` in the log; who is in already is left as they are.

    Without `show_history` newcomers see the log from their own arrival on. None: as the conversation's setting says.
    Raises ValidationFailed, Conflict (a direct conversation), PermissionDenied, ConversationNotFound,
    BannedFromConversation.
    """
    locked = log.lock(conversation.id)
    check_may(locked, actor, roles.Action.ADD_PARTICIPANTS)
    if locked.type == ConversationType.DIRECT:
        raise Conflict("A direct conversation keeps its two participants; create a group instead.")
    found = resolve("user", participants)
    missing = [(position, name) for position, name in enumerate(participants) if name not in found]
    if missing:
        raise unknown_ids("/participantIds", missing)
    if actor is not None and role == Role.OWNER:
        raise PermissionDenied("Only the owner hands ownership on.")
    wanted = list(dict.fromkeys(found[name] for name in participants))
    if show_history is None:
        show_history = _shows_history(locked)
    return _enter(tenant_id, locked, wanted, role=role, show_history=show_history, actor=actor)


def _shows_history(conversation: Conversation) -> bool:
    return bool(conversation.settings.get("historyForNewcomers", True))


def _enter(
    tenant_id: UUID,
    locked: Conversation,
    wanted: Sequence[UUID],
    *,
    role: str,
    show_history: bool,
    actor: User | None,
) -> Conversation:
    """Adds those of `wanted` who are not in yet, under the conversation's lock. Raises BannedFromConversation."""
    present = set(Participant.objects.filter(conversation=locked, user_id__in=wanted).values_list("user_id", flat=True))
    newcomers = [user_id for user_id in wanted if user_id not in present]
    if not newcomers:
        return locked
    if banned := banned_among(locked.id, newcomers, now=timezone.now()):
        raise BannedFromConversation(details={"users": [render_end_of_ban(ban) for ban in banned]})
    if locked.participant_count + len(newcomers) > MAX_PARTICIPANTS:
        raise ValidationFailed([FieldError("/participantIds", f"at most {MAX_PARTICIPANTS} participants")])
    first_seq = locked.last_seq + 1
    before = locked.participant_count
    now = log.advance(locked, events=len(newcomers), participants=len(newcomers))
    Participant.objects.bulk_create(
        [
            Participant(
                conversation=locked,
                user_id=user_id,
                role=role,
                joined_at=now,
                visible_from_seq=1 if show_history else first_seq,
                last_read_seq=first_seq - 1,
                read_index=locked.unread_total,
            )
            for user_id in newcomers
        ],
        batch_size=1000,
    )
    entries = [
        Entry(
            "participant_added",
            user_id,
            {
                "role": role,
                "joinedAt": wire.timestamp(now),
                "lastReadSeq": first_seq - 1,
                "participantCount": before + place,
            },
        )
        for place, user_id in enumerate(newcomers, start=1)
    ]
    arrived = joined(locked, newcomers, after_seq=first_seq - 1, now=now, shows_history=show_history)
    log.append(tenant_id, locked, entries, actor=actor, now=now, before=[arrived])
    tell_membership(tenant_id, locked, "participants_added", newcomers, actor=actor, now=now)
    return locked


def remove_participant(*, tenant_id: UUID, conversation: Conversation, user: User, actor: User | None) -> Conversation:
    """Takes a user out, at once on every open socket. One's own removal is leaving, which every role may.

    Raises ParticipantNotFound, Conflict (a direct conversation), PermissionDenied, ConversationNotFound.
    """
    locked = log.lock(conversation.id)
    leaving = actor is not None and actor.id == user.id
    check_may(locked, actor, roles.Action.LEAVE if leaving else roles.Action.REMOVE_PARTICIPANTS)
    if locked.type == ConversationType.DIRECT:
        raise Conflict("A direct conversation keeps its two participants.")
    place = Participant.objects.filter(conversation=locked, user=user).first()
    if place is None:
        raise ParticipantNotFound
    if actor is not None and not leaving and place.role == Role.OWNER:
        raise PermissionDenied("The owner is not removed; ownership is handed on first.")
    take_out(tenant_id, locked, user, actor=actor, reason="left" if leaving else "removed")
    return locked


def take_out(tenant_id: UUID, locked: Conversation, user: User, *, actor: User | None, reason: str) -> None:
    """Ends a membership under the conversation's lock, whatever its type; nothing where there is none."""
    deleted, _ = Participant.objects.filter(conversation=locked, user=user).delete()
    if not deleted:
        return
    now = log.advance(locked, events=1, participants=-1)
    entry = Entry("participant_removed", user.id, {"reason": reason, "participantCount": locked.participant_count})
    gone = Left(
        conversation_id=locked.id,
        conversation_external_id=locked.external_id,
        user_id=user.id,
        reason=reason,
        after_seq=locked.last_seq,
        timestamp=wire.timestamp(now),
    )
    log.append(tenant_id, locked, [entry], actor=actor, now=now, after=[gone])
    event = "participant_left" if reason == "left" else "participant_removed"
    tell_membership(tenant_id, locked, event, [user.id], actor=actor, now=now)


def join_channel(*, tenant_id: UUID, conversation: Conversation, user: User) -> Conversation:
    """Lets a user into a channel as a member; who is in already stays as they are.

    Raises ConversationNotFound for anything but a channel: others are joined by being added; BannedFromConversation.
    """
    if conversation.type != ConversationType.CHANNEL:
        raise ConversationNotFound
    return _enter(
        tenant_id,
        log.lock(conversation.id),
        [user.id],
        role=Role.MEMBER,
        show_history=_shows_history(conversation),
        actor=user,
    )


def change_role(
    *, tenant_id: UUID, conversation: Conversation, user: User, role: str, actor: User | None
) -> Participant:
    """Gives a participant another role. Whoever makes somebody owner is an admin afterwards: there is one owner.

    Raises PermissionDenied, ParticipantNotFound, Conflict (a direct conversation), ConversationNotFound.
    """
    locked = log.lock(conversation.id)
    check_may(locked, actor, roles.Action.CHANGE_ROLES)
    if locked.type == ConversationType.DIRECT:
        raise Conflict("A direct conversation has no roles.")
    place = Participant.objects.filter(conversation=locked, user=user).first()
    if place is None:
        raise ParticipantNotFound
    own = None if actor is None else Participant.objects.filter(conversation=locked, user=actor).first()
    if own is not None and own.role != Role.OWNER and Role.OWNER in {role, place.role}:
        raise PermissionDenied("Only the owner hands ownership on.")
    if place.role == role:
        return place
    moved = [(place, role)]
    if role == Role.OWNER:
        former = Participant.objects.filter(conversation=locked, role=Role.OWNER).exclude(pk=place.pk)
        moved += [(owner, Role.ADMIN) for owner in former]
    now = log.advance(locked, events=len(moved))
    for participant, new_role in moved:
        participant.role = new_role
        participant.save(update_fields=["role"])
    entries = [
        Entry(
            "participant_updated",
            participant.user_id,
            {
                "role": new_role,
                "joinedAt": wire.timestamp(participant.joined_at),
                "lastReadSeq": participant.last_read_seq,
                "lastDeliveredSeq": delivered_seq(participant),
            },
        )
        for participant, new_role in moved
    ]
    log.append(tenant_id, locked, entries, actor=actor, now=now)
    tell_membership(tenant_id, locked, "role_changed", [place.user_id], actor=actor, now=now, facts={"role": role})
    return place


def change_membership(
    *, tenant_id: UUID, conversation: Conversation, user: User, change: Mapping[str, Any], now: datetime
) -> Participant:
    """What a member sets for themselves: `mutedUntil`, `pinned`, `archived`, `hidden` (until the next message). Nobody
    else notices; their own devices hear `membership_updated`.

    Raises ConversationNotFound.
    """
    place = Participant.objects.select_for_update(no_key=True).filter(conversation=conversation, user=user).first()
    if place is None:
        raise ConversationNotFound
    for name in ("pinned", "archived"):
        setattr(place, name, change.get(name, getattr(place, name)))
    if "hidden" in change:
        place.hidden_at_index = conversation.message_count if change["hidden"] else None
    if "mutedUntil" in change:
        place.muted_until = wire.parse_timestamp(change["mutedUntil"]) if change["mutedUntil"] else None
    place.save(update_fields=["pinned", "archived", "hidden_at_index", "muted_until"])
    shown = place_of(user.id, conversation.id)
    data = {
        "conversationId": str(conversation.id),
        "conversationExternalId": conversation.external_id,
        "lastSeq": shown.last_seq,
        "membership": render_membership(shown),
        "timestamp": wire.timestamp(now),
    }
    log.announce(tenant_id, [ToUser(user.id, "membership_updated", data)])
    return place
