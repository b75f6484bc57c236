"""The one way to send. Every message, however it arrives, goes through `send_messages`; one send is a batch of one."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import IntegrityError, transaction
from django.utils import timezone

from messagecore.kernel import ids, metrics, wire
from messagecore.kernel.errors import FieldError, PayloadTooLarge, PermissionDenied, Refusal, ValidationFailed
from messagecore.kernel.ids import find_uuid
from messaging import ports, roles
from messaging.access import ConversationNotFound, MessageNotFound, UserBanned, UserInactive, UserNotFound
from messaging.events import DurableEvent
from messaging.models import HeldStatus
from messaging.queries import messages as message_queries
from messaging.queries import moderation
from messaging.queries import sending as queries
from messaging.queries.files import Use
from messaging.queries.identity import resolve
from messaging.queries.messages import MessageView, SenderView
from messaging.queries.moderation import HeldState, NewHeld
from messaging.queries.sending import Advance, DraftKey, DraftState, LockedConversation, NewMessage
from messaging.rendering import render_new_message
from messaging.services import files, filters, mentions
from messaging.services.filters import MessageHeld, MessageRejected
from messaging.services.matching import Action, Rules, Verdict
from quotas.services.limits import get_limits
from quotas.services.metering import message_quota_exceeded, take_messages

MAX_CONTENT_BYTES = 64 * 1024
MAX_METADATA_BYTES = 16 * 1024


class NotAParticipant(Refusal):
    code = "not_a_participant"


class ConversationFrozen(Refusal):
    code = "conversation_frozen"


class SlowMode(Refusal):
    code = "slow_mode"


class Blocked(Refusal):
    code = "blocked"


class IdempotencyConflict(Refusal):
    code = "idempotency_conflict"


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that somebody wants to send; its shape was checked against the catalogue.

    Ids may be the server's or the integrator's. `hides_conversation`: to this caller a conversation without the
    sender does not exist; an integrator is told that the sender is not in it. `reviewed_digest`: a moderator approved
    it, so filters are not asked; it is the digest of what was sent at first, by which a repeat is known.
    """

    conversation: str
    sender: str
    type: str
    content: dict[str, Any]
    reply_to_id: str | None = None
    client_message_id: str | None = None
    mentions: Sequence[str] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    silent: bool = False
    forwarded_from_id: UUID | None = None
    hides_conversation: bool = False
    reviewed_digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is in the log. `replayed`: it was there before, under the same client message id."""

    message: MessageView
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """`draft` is as it will be stored: masked. `verdict`: None without filters."""

    position: int
    draft: Draft
    key: DraftKey
    content: str
    metadata: str
    mentions: list[str]
    people: dict[str, UUID]
    use: Use | None
    digest: bytes
    verdict: Verdict | None


def draft_from_body(body: dict[str, Any], *, sender: str, hides_conversation: bool) -> Draft:
    """A draft from a validated `SendMessage` body, nulls removed."""
    return Draft(
        conversation=body["conversationId"],
        sender=sender,
        type=body["type"],
        content=body["content"],
        reply_to_id=body.get("replyToId"),
        client_message_id=body.get("clientMessageId"),
        mentions=body.get("mentions", ()),
        metadata=body.get("metadata", {}),
        silent=body.get("silent", False),
        hides_conversation=hides_conversation,
    )


def send_messages(
    *, tenant_id: UUID, drafts: Sequence[Draft], via: str, clock: Callable[[], datetime] = timezone.now
) -> list[Sent | Refusal]:
    """Sends a batch in the caller's tenant scope and transaction; one outcome for each draft, in order.

    A refused draft costs nothing and harms no other. Outcomes hold once the transaction has committed; the
    announcement follows then. Refusals: ConversationNotFound, UserNotFound, UserInactive, NotAParticipant,
    PermissionDenied, Blocked, MessageNotFound (the replied one), ValidationFailed, PayloadTooLarge,
    IdempotencyConflict, MessageQuotaExceeded, UserBanned, MessageRejected, MessageHeld: what that one names is in the
    review queue, which this transaction wrote.

    Locks the conversations in id order, the files that are linked to, then the month's quota row. A fixed number of
    statements, whatever the batch; two more where there are files, and two where something is held. Raises
    IntegrityError, for the whole batch, if the same client message id is being sent at this very moment to another
    conversation.
    """
    outcomes: list[Sent | Refusal | None] = [None] * len(drafts)
    prepared = _prepare(drafts, outcomes, filters.get_rules(tenant_id))
    locked = queries.lock_conversations(list({item.key.conversation_id for item in prepared}))
    states = queries.check_drafts([item.key for item in prepared]) if prepared else []
    members = _members_mentioned(prepared)
    usable = files.usable_files([item.use for item in prepared if item.use is not None])

    # The log's time, taken under the locks, never goes back, whatever the clocks of several machines do.
    now = max([clock(), *(conversation.last_event_at for conversation in locked.values())])
    accepted, held, repeats = _sort_out(prepared, states, locked, members, outcomes, usable=usable, now=now)
    _hold(held, outcomes, now)
    allowed = take_messages(tenant_id, len(accepted), limit=get_limits(tenant_id).max_messages, now=now)
    for item, _ in accepted[allowed:]:
        outcomes[item.position] = message_quota_exceeded(now)
    views = _write(tenant_id, accepted[:allowed], locked, now)
    for (item, _), view in zip(accepted, views, strict=False):
        outcomes[item.position] = Sent(view, replayed=False)
    _answer_repeats(repeats, outcomes)

    _announce(tenant_id, views, now, via)
    return [_counted(outcome) for outcome in outcomes]


def send_message(
    *, tenant_id: UUID, draft: Draft, via: str, clock: Callable[[], datetime] = timezone.now
) -> Sent | MessageHeld:
    """One message; raises what `send_messages` would return as a refusal, but for MessageHeld, which it returns:
    raised, it would take back the row in the review queue that it speaks of.

    The same client message id committed at this very moment elsewhere is IdempotencyConflict: within one
    conversation the sends wait for each other, so elsewhere is another conversation, and that another message.
    """
    try:
        (outcome,) = send_messages(tenant_id=tenant_id, drafts=[draft], via=via, clock=clock)
    except IntegrityError as error:
        if queries.is_sent_already(error):
            raise IdempotencyConflict from None
        raise
    if isinstance(outcome, Refusal) and not isinstance(outcome, MessageHeld):
        raise outcome
    return outcome


@dataclass(frozen=True, slots=True)
class Checked:
    """A draft that may be sent, with what it names resolved: server ids, and mentions as they are stored."""

    conversation_id: UUID
    sender_id: UUID
    mentions: Sequence[str]


def check_draft(draft: Draft) -> Checked:
    """What can be said now of a draft that is sent later. Raises what `send_messages` would refuse it for, but for what
    passes by itself: a frozen conversation, slow mode, the month's quota; nor does it look for earlier sends, and
    filters are asked when it is sent.

    Locks the conversation; writes nothing.
    """
    outcomes: list[Sent | Refusal | None] = [None]
    prepared = _prepare([draft], outcomes)
    if not prepared:
        refusal = outcomes[0]
        assert isinstance(refusal, Refusal)
        raise refusal
    (item,) = prepared
    locked = queries.lock_conversations([item.key.conversation_id])
    (state,) = queries.check_drafts([item.key])
    members = _members_mentioned(prepared).get(item.key.conversation_id, frozenset())
    usable = files.usable_files([] if item.use is None else [item.use])
    refusals = (
        _refusal(item, state, locked, now=timezone.now()),
        mentions.outsiders(item.draft.mentions, item.people, members),
        files.unusable() if item.use and (item.use.user_id, item.use.file_id) not in usable else None,
    )
    for found in refusals:
        if found is not None and not isinstance(found, ConversationFrozen):
            raise found
    return Checked(item.key.conversation_id, item.key.sender_id, item.mentions)


@dataclass(frozen=True, slots=True)
class _Repeats:
    """Drafts that were sent before: by an earlier send, or by an earlier draft of this batch."""

    of_messages: list[tuple[_Prepared, UUID]] = field(default_factory=list)
    of_drafts: list[tuple[_Prepared, int]] = field(default_factory=list)


def _sort_out(
    prepared: Sequence[_Prepared],
    states: Sequence[DraftState],
    locked: dict[UUID, LockedConversation],
    members: dict[UUID, frozenset[UUID]],
    outcomes: list[Sent | Refusal | None],
    *,
    usable: set[tuple[UUID, UUID]],
    now: datetime,
) -> tuple[list[tuple[_Prepared, DraftState]], list[tuple[_Prepared, DraftState]], _Repeats]:
    """What may be written, what waits for a moderator, and what was sent before; refusals go straight into
    `outcomes`."""
    accepted: list[tuple[_Prepared, DraftState]] = []
    held: list[tuple[_Prepared, DraftState]] = []
    repeats = _Repeats()
    first_uses: dict[tuple[UUID, str], _Prepared] = {}
    spoke: set[tuple[UUID, UUID]] = set()
    for item, state in zip(prepared, states, strict=True):
        if state.earlier_message_id is not None:
            if state.earlier_digest == item.digest:
                repeats.of_messages.append((item, state.earlier_message_id))
            else:
                outcomes[item.position] = IdempotencyConflict()
            continue
        if state.held is not None and _stands(item, state.held):
            outcomes[item.position] = _held_before(item, state.held)
            continue
        refusal = (
            _refusal(item, state, locked, now=now)
            or mentions.outsiders(item.draft.mentions, item.people, members.get(item.key.conversation_id, frozenset()))
            or (files.unusable() if item.use and (item.use.user_id, item.use.file_id) not in usable else None)
            or _too_soon(item, state, locked, spoke, now=now)
            or _rejected(item)
        )
        if refusal is not None:
            outcomes[item.position] = refusal
            continue
        if item.key.client_message_id is not None:
            first = first_uses.setdefault((item.key.sender_id, item.key.client_message_id), item)
            if first is not item:
                if first.digest == item.digest:
                    repeats.of_drafts.append((item, first.position))
                else:
                    outcomes[item.position] = IdempotencyConflict()
                continue
        if item.verdict is not None and item.verdict.action is Action.HOLD:
            held.append((item, state))
            continue
        accepted.append((item, state))
        spoke.add((item.key.conversation_id, item.key.sender_id))
    return accepted, held, repeats


def _rejected(item: _Prepared) -> MessageRejected | None:
    return MessageRejected() if item.verdict is not None and item.verdict.action is Action.REJECT else None


def _stands(item: _Prepared, held: HeldState) -> bool:
    """Whether a row of the review queue speaks for this draft. The moderator's own send goes past it, and so does what
    was approved once its message is gone."""
    return item.draft.reviewed_digest is None and held.status != HeldStatus.APPROVED


def _held_before(item: _Prepared, held: HeldState) -> Refusal:
    if held.body_digest != item.digest:
        return IdempotencyConflict()
    if held.status == HeldStatus.REJECTED:
        return MessageRejected("A moderator rejected it.", details={"heldMessageId": str(held.id)})
    return MessageHeld(held.id)


def _hold(held: Sequence[tuple[_Prepared, DraftState]], outcomes: list[Sent | Refusal | None], now: datetime) -> None:
    """Puts drafts into the review queue."""
    if not held:
        return
    moderation.remove_approved([state.held.id for _, state in held if state.held is not None])
    rows = [
        NewHeld(
            id=row_id,
            sender_id=item.key.sender_id,
            conversation_id=item.key.conversation_id,
            filter_id=None if item.verdict is None else item.verdict.filter_id,
            draft=wire.dumps(_kept(item)).decode(),
            client_message_id=item.key.client_message_id,
            body_digest=item.digest,
        )
        for (item, _), row_id in zip(held, ids.new_ids(len(held)), strict=True)
    ]
    for (item, _), standing in zip(held, moderation.hold(rows, now=now), strict=True):
        outcomes[item.position] = _held_before(item, standing)


def _kept(item: _Prepared) -> dict[str, Any]:
    """A draft as the review queue holds it: by the body's names, but for who asked; the rest are columns."""
    return {
        "type": item.draft.type,
        "content": item.draft.content,
        "replyToId": item.key.reply_to_id,
        "forwardedFromId": item.draft.forwarded_from_id,
        "mentions": item.mentions,
        "metadata": item.draft.metadata,
        "silent": item.draft.silent,
        "speaksForTenant": not item.draft.hides_conversation,
    }


def _answer_repeats(repeats: _Repeats, outcomes: list[Sent | Refusal | None]) -> None:
    """A repeat is answered with what is there now; a repeat of a draft with whatever became of that draft."""
    for item, position in repeats.of_drafts:
        first = outcomes[position]
        outcomes[item.position] = Sent(first.message, replayed=True) if isinstance(first, Sent) else first
    if repeats.of_messages:
        earlier = message_queries.get_messages([message_id for _, message_id in repeats.of_messages])
        for item, message_id in repeats.of_messages:
            outcomes[item.position] = Sent(earlier[message_id], replayed=True)


def _prepare(
    drafts: Sequence[Draft], outcomes: list[Sent | Refusal | None], rules: Rules | None = None
) -> list[_Prepared]:
    conversations = resolve("conversation", [draft.conversation for draft in drafts])
    users = resolve("user", [name for draft in drafts for name in (draft.sender, *mentions.people(draft.mentions))])
    prepared: list[_Prepared] = []
    for position, draft in enumerate(drafts):
        try:
            prepared.append(_prepare_one(position, draft, conversations, users, rules))
        except Refusal as refusal:
            outcomes[position] = refusal
    return prepared


def _prepare_one(
    position: int, draft: Draft, conversations: dict[str, UUID], users: dict[str, UUID], rules: Rules | None
) -> _Prepared:
    if draft.conversation not in conversations:
        raise ConversationNotFound
    if draft.sender not in users:
        raise UserNotFound
    mentioned = mentions.resolve_mentions(draft.mentions, users)
    reply_to_id = None
    if draft.reply_to_id is not None:
        reply_to_id = find_uuid(draft.reply_to_id)
        if reply_to_id is None:
            raise MessageNotFound("The message that this replies to does not exist.")
    content, metadata = (
        require_bounded(draft.content, "/content", MAX_CONTENT_BYTES),
        require_bounded(draft.metadata, "/metadata", MAX_METADATA_BYTES),
    )
    key = DraftKey(conversations[draft.conversation], users[draft.sender], draft.client_message_id, reply_to_id)
    # A forward repeated after its source was edited is the same forward.
    said = draft.content if draft.forwarded_from_id is None else {"forwarded": draft.forwarded_from_id}
    # Of what was sent, not of what filters make of it: a repeat is the same whatever they are by then.
    digest = (
        draft.reviewed_digest
        or hashlib.blake2b(
            orjson.dumps(
                [key.conversation_id, draft.type, said, reply_to_id, mentioned, draft.metadata, draft.silent],
                option=orjson.OPT_SORT_KEYS,
            ),
            digest_size=16,
        ).digest()
    )
    people = {name: users[name] for name in mentions.people(draft.mentions)}
    file_id = files.linked_file(draft.type, draft.content)
    use = None if file_id is None else Use(key.sender_id, file_id, speaks_for_tenant=not draft.hides_conversation)
    verdict = None if rules is None or draft.reviewed_digest is not None else rules.judge(draft.content)
    if verdict is not None and verdict.action is Action.MASK:
        draft = replace(draft, content=verdict.content)
        content = wire.dumps(verdict.content).decode()
    return _Prepared(position, draft, key, content, metadata, mentioned, people, use, digest, verdict)


def _members_mentioned(prepared: Sequence[_Prepared]) -> dict[UUID, frozenset[UUID]]:
    """Who of the people mentioned is in the conversation; asked only where somebody is."""
    pairs = [(item.key.conversation_id, user_id) for item in prepared for user_id in item.people.values()]
    return queries.members_among(pairs) if pairs else {}


def require_bounded(value: dict[str, Any], pointer: str, limit_bytes: int) -> str:
    """The value as JSON text. Raises PayloadTooLarge, naming the field, if that is longer than the limit."""
    encoded = wire.dumps(value)
    if len(encoded) > limit_bytes:
        refusal = PayloadTooLarge(f"{pointer} is larger than {limit_bytes} bytes.")
        refusal.details = ValidationFailed([FieldError(pointer, f"is larger than {limit_bytes} bytes")]).details
        raise refusal
    return encoded.decode()


def _refusal(
    item: _Prepared, state: DraftState, locked: dict[UUID, LockedConversation], *, now: datetime
) -> Refusal | None:
    """Why a draft may not be sent, None if it may (slow mode apart)."""
    if item.key.conversation_id not in locked or (state.role is None and item.draft.hides_conversation):
        return ConversationNotFound()
    if not state.sender_is_active:
        return UserInactive()
    if state.sender_banned_until is not None and state.sender_banned_until > now:
        return UserBanned(state.sender_banned_until)
    if state.role is None:
        return NotAParticipant()
    return _refusal_of_participant(item, state, state.role, locked[item.key.conversation_id])


def _refusal_of_participant(
    item: _Prepared, state: DraftState, role: str, conversation: LockedConversation
) -> Refusal | None:
    if item.key.reply_to_id is not None and not state.reply_exists:
        return MessageNotFound("The message that this replies to is not in this conversation.")
    if state.is_blocked:
        return Blocked()
    if not roles.may(role, roles.Action.SEND):
        return PermissionDenied(f"The role {role} may not send here.")
    if conversation.is_frozen and not roles.may(role, roles.Action.SEND_WHEN_FROZEN):
        return ConversationFrozen()
    return None


def _too_soon(
    item: _Prepared,
    state: DraftState,
    locked: dict[UUID, LockedConversation],
    spoke: set[tuple[UUID, UUID]],
    *,
    now: datetime,
) -> Refusal | None:
    """Slow mode: what a member may not send yet. `spoke` are those whose message of this batch was accepted."""
    gap_s = locked[item.key.conversation_id].slow_mode_s
    if not gap_s or roles.may(state.role or "", roles.Action.IGNORE_SLOW_MODE):
        return None
    wait_s = 0.0 if state.last_sent_at is None else gap_s - (now - state.last_sent_at).total_seconds()
    if (item.key.conversation_id, item.key.sender_id) in spoke:
        wait_s = gap_s
    return SlowMode(headers={"Retry-After": str(math.ceil(wait_s))}) if wait_s > 0 else None


def _write(
    tenant_id: UUID,
    accepted: Sequence[tuple[_Prepared, DraftState]],
    locked: dict[UUID, LockedConversation],
    now: datetime,
) -> list[MessageView]:
    """Numbers the accepted drafts behind what is there, inserts them, and returns them as they will be read."""
    if not accepted:
        return []
    taken: defaultdict[UUID, int] = defaultdict(int)
    loud: defaultdict[UUID, int] = defaultdict(int)
    replies: defaultdict[UUID | None, int] = defaultdict(int)
    rows: list[NewMessage] = []
    views: list[MessageView] = []
    last: dict[UUID, Advance] = {}
    for (item, state), message_id in zip(accepted, ids.new_ids(len(accepted)), strict=True):
        conversation = locked[item.key.conversation_id]
        taken[conversation.id] += 1
        replies[state.thread_id] += 1
        loud[conversation.id] += not item.draft.silent  # a silent message is never unread
        seq = conversation.last_seq + taken[conversation.id]
        index = conversation.message_count + taken[conversation.id]
        unread_index = conversation.unread_total + loud[conversation.id]
        rows.append(
            NewMessage(
                id=message_id,
                conversation_id=conversation.id,
                seq=seq,
                message_index=index,
                sender_id=item.key.sender_id,
                type=item.draft.type,
                content=item.content,
                reply_to_id=item.key.reply_to_id,
                client_message_id=item.key.client_message_id,
                body_digest=item.digest,
                mentions=wire.dumps(item.mentions).decode(),
                metadata=item.metadata,
                silent=item.draft.silent,
                unread_index=unread_index,
                thread_id=state.thread_id if item.key.reply_to_id is not None else None,
                forwarded_from_id=item.draft.forwarded_from_id,
            )
        )
        last[conversation.id] = Advance(conversation.id, seq, index, unread_index, message_id)
        views.append(
            MessageView(
                id=message_id,
                conversation_id=conversation.id,
                conversation_external_id=conversation.external_id,
                seq=seq,
                message_index=index,
                sender=SenderView(
                    item.key.sender_id, state.sender_external_id, state.sender_display_name, state.sender_avatar_url
                ),
                type=item.draft.type,
                content=item.draft.content,
                reply_to_id=item.key.reply_to_id,
                thread_id=state.thread_id if item.key.reply_to_id is not None else None,
                reply_count=state.reply_count + replies[state.thread_id] if state.thread_id is not None else 0,
                forwarded_from_id=item.draft.forwarded_from_id,
                client_message_id=item.key.client_message_id,
                mentions=item.mentions,
                silent=item.draft.silent,
                metadata=item.draft.metadata,
                created_at=now,
                recorded_at=now,
                updated_at=now,
                edited_at=None,
                deleted_at=None,
            )
        )
    queries.write_messages(tenant_id, rows, list(last.values()), now=now)
    files.link_files([(row.id, item.use.file_id) for row, (item, _) in zip(rows, accepted, strict=True) if item.use])
    return views


def _announce(tenant_id: UUID, views: Sequence[MessageView], now: datetime, via: str) -> None:
    if not views:
        return
    recorded_at = wire.timestamp(now)
    events = [
        DurableEvent(
            view.conversation_id,
            view.seq,
            "new_message",
            render_new_message(view, recorded_at),
            None if view.sender is None else view.sender.id,
        )
        for view in views
    ]

    def committed() -> None:
        metrics.MESSAGES_SENT.labels(via).inc(len(events))
        ports.announcer().announce(tenant_id, events)

    transaction.on_commit(committed)


def _counted(outcome: Sent | Refusal | None) -> Sent | Refusal:
    assert outcome is not None
    if isinstance(outcome, Refusal):
        metrics.SENDS_REFUSED.labels(outcome.code).inc()
    return outcome
