"""Holding what is stored beside the log to the log: unread counts, and mending them."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from messaging.queries import unread, verification
from tenants.scope import HasSchema, tenant_scope

PAGE = 500
"""Conversations whose ids are read at once."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A number that is not what the log says. `kind` is `count` for a member's unread count, else the column that it
    is made of (`unread_index`: `stored` is how many messages have a wrong one)."""

    conversation_id: UUID
    user_id: UUID | None
    kind: str
    stored: int
    counted: int


@dataclass(frozen=True, slots=True)
class Checked:
    """One conversation: what was wrong, how many members were compared, whether all of it was mended."""

    conversation_id: UUID
    members: int
    drifts: tuple[Drift, ...]
    repaired: bool


def verify_unread(tenant: HasSchema, *, repair: bool) -> Iterator[Checked]:
    """Every conversation of the tenant, in id order: each member's unread count beside the one counted from the log.

    A transaction for each conversation. Looking takes no lock; what looks wrong is looked at again under the
    conversation's lock, as a send or a read in between looks like drift. With `repair` it is mended there and then.
    Memory: one conversation's members. Cost: of each conversation its messages and its members' unread ones.
    """
    after: UUID | None = None
    while True:
        with tenant_scope(tenant):
            page = verification.conversation_ids(after=after, limit=PAGE)
        for conversation_id in page:
            with tenant_scope(tenant):
                checked = _check(conversation_id, repair=repair)
            yield checked
        if len(page) < PAGE:
            return
        after = page[-1]


def _check(conversation_id: UUID, *, repair: bool) -> Checked:
    members, drifts = _compare(conversation_id)
    if not drifts:
        return Checked(conversation_id, members, (), repaired=False)
    verification.lock_conversation(conversation_id)
    members, drifts = _compare(conversation_id)
    repaired = False
    if drifts and repair:
        verification.mend(conversation_id)
        repaired = not _compare(conversation_id)[1]
    return Checked(conversation_id, members, tuple(drifts), repaired=repaired)


def _compare(conversation_id: UUID) -> tuple[int, list[Drift]]:
    """How many members there are, and what differs: the numbers first, then the counts made of them."""
    numbers = verification.log_numbers(conversation_id)
    if numbers is None:
        return 0, []
    drifts: list[Drift] = []
    if numbers.unread_total != numbers.counted_total:
        drifts.append(Drift(conversation_id, None, "unread_total", numbers.unread_total, numbers.counted_total))
    if numbers.wrong_messages:
        drifts.append(Drift(conversation_id, None, "unread_index", numbers.wrong_messages, 0))
    for place in verification.wrong_places(conversation_id):
        if place.read_index != place.counted_read_index:
            stored, counted = place.read_index, place.counted_read_index
            drifts.append(Drift(conversation_id, place.user_id, "read_index", stored, counted))
        if place.own_since_read != place.counted_own_since_read:
            stored, counted = place.own_since_read, place.counted_own_since_read
            drifts.append(Drift(conversation_id, place.user_id, "own_since_read", stored, counted))
    shown, counted_by_log = verification.shown_counts(conversation_id), unread.recount(conversation_id)
    drifts += [
        Drift(conversation_id, user_id, "count", shown[user_id], count)
        for user_id, count in sorted(counted_by_log.items())
        if user_id in shown and shown[user_id] != count
    ]
    return len(shown), drifts
