"""The durable log in its views by REST: a conversation's, and the tenant's feed of all conversations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from messagecore.kernel.api.paging import InvalidCursor, decode_cursor, encode_cursor
from messagecore.kernel.errors import Refusal
from messaging.access import ConversationAccess
from messaging.queries.feed import external_ids
from messaging.queries.log import LogSpan
from messaging.services.blocks import blocked_by
from messaging.services.reading import LogEntry, read_log
from tenants import feed
from tenants.cards import TenantCard
from tenants.feed import FeedPosition, FeedRow
from tenants.scope import tenant_scope

LATEST = "latest"
"""As a cursor: the feed's end, so that only what is numbered from now on follows."""


class CursorExpired(Refusal):
    """`details.reason`: `retention`, or `ahead` of what the feed has, as after a restored backup."""

    code = "cursor_expired"

    def __init__(self, reason: str) -> None:
        super().__init__(details={"reason": reason})


# --- a conversation's log -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries in order of seq. `last_seq` is up to where they say everything; `truncated_before` the first seq that is
    to be had, where that is not the one that was asked for; `reason` why: `retention`, `membership`, or `ahead` of
    what the log has."""

    entries: Sequence[LogEntry]
    last_seq: int
    has_more: bool
    truncated_before: int | None
    reason: str | None


def read_conversation_events(tenant: TenantCard, access: ConversationAccess, *, after: int, limit: int) -> LogPage:
    """The log behind `after` as the accessing user may see it; the integrator sees all of it. A fixed number of
    statements."""
    conversation = access.conversation
    first_visible = access.visible_from_seq
    truncated_before = reason = None
    if after > conversation.last_seq:
        return LogPage((), conversation.last_seq, has_more=False, truncated_before=None, reason="ahead")
    if after + 1 < first_visible:
        truncated_before = first_visible
        reason = "retention" if first_visible == conversation.purged_seq + 1 else "membership"
    first = max(after + 1, first_visible)
    last = min(first + limit - 1, conversation.last_seq)
    entries: Sequence[LogEntry] = ()
    if first <= last:
        viewer_id = access.viewpoint.viewer_id
        blocked = frozenset() if viewer_id is None else blocked_by([viewer_id]).get(viewer_id, frozenset())
        found = read_log(tenant, [LogSpan(conversation.id, first, last)])[conversation.id]
        entries = [_hidden(access, entry) if entry.author_id in blocked else entry for entry in found]
    return LogPage(entries, max(last, after), last < conversation.last_seq, truncated_before, reason)


def _hidden(access: ConversationAccess, entry: LogEntry) -> LogEntry:
    """Stands in for an entry that its reader may not see."""
    data = {
        "conversationId": str(access.conversation.id),
        "conversationExternalId": access.conversation.external_id,
        "seq": entry.seq,
    }
    return LogEntry(entry.seq, "event_hidden", data, None)


# --- the feed -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedItem:
    """`data` is None where the log no longer has the entry."""

    cursor: str
    type: str
    recorded_at: datetime
    conversation_id: UUID
    conversation_external_id: str | None
    data: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Items in the feed's order; `position` is where it goes on, also when there are none."""

    items: Sequence[FeedItem]
    position: FeedPosition
    has_more: bool

    @property
    def cursor(self) -> str:
        return _cursor(self.position)


def read_feed(tenant: TenantCard, *, after: str | None, limit: int) -> FeedPage:
    """What comes behind a cursor: None is the oldest item there is, LATEST the end. Holds everything that was committed
    before the call, or `limit` items.

    To be called outside of transactions: it numbers first what waits for that. A fixed number of statements.
    Raises InvalidCursor (also for another tenant's), CursorExpired.
    """
    seq = None if after in {None, LATEST} else _seq(tenant.id, str(after))
    feed.number(tenant.id)
    with tenant_scope(tenant, at_one_moment=True):
        edges = feed.edges(tenant.id)
        if after == LATEST:
            return FeedPage((), FeedPosition(tenant.id, edges.last_seq), has_more=False)
        if seq is None:
            seq = edges.purged_seq
        elif seq < edges.purged_seq:
            raise CursorExpired("retention")
        elif seq > edges.last_seq:
            raise CursorExpired("ahead")
        found = feed.rows_after(tenant.id, seq, limit=limit + 1)
        rows = found[:limit]
        items = _render(tenant, rows)
    position = FeedPosition(tenant.id, rows[-1].feed_seq if rows else seq)
    return FeedPage(items, position, has_more=len(found) > limit)


def _render(tenant: TenantCard, rows: Sequence[FeedRow]) -> list[FeedItem]:
    """As the tables are now. A conversation's rows follow each other in its log as they do here, so one span each
    holds them."""
    spans: dict[UUID, LogSpan] = {}
    for row in rows:
        span = spans.get(row.conversation_id)
        first_seq = row.seq if span is None else span.first_seq
        spans[row.conversation_id] = LogSpan(row.conversation_id, first_seq, row.seq)
    if not spans:
        return []
    logs = read_log(tenant, list(spans.values()))
    entries = {(id_, entry.seq): entry for id_, log in logs.items() for entry in log}
    names = external_ids(spans)
    items = []
    for row in rows:
        entry = entries.get((row.conversation_id, row.seq))
        items.append(
            FeedItem(
                cursor=_cursor(FeedPosition(tenant.id, row.feed_seq)),
                type=row.type,
                recorded_at=row.recorded_at,
                conversation_id=row.conversation_id,
                conversation_external_id=names.get(row.conversation_id),
                data=None if entry is None else entry.data,
            )
        )
    return items


def _cursor(position: FeedPosition) -> str:
    return encode_cursor([position.seq, _mark(position)])


def _seq(tenant_id: UUID, cursor: str) -> int:
    """Raises InvalidCursor."""
    seq, mark = decode_cursor(cursor, _whole_number, str)
    position = FeedPosition(tenant_id, seq)
    if mark != _mark(position):
        raise InvalidCursor
    return position.seq


def _whole_number(value: object) -> int:
    """Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("not a place in a feed")
    return value


def _mark(position: FeedPosition) -> str:
    """Tells a mangled cursor, and one of another tenant, from ours. No secret: it guards nothing but against mistakes,
    and consumers keep cursors for longer than secrets live."""
    number = position.seq.to_bytes(8, "big")
    return blake2b(number, digest_size=8, key=position.tenant_id.bytes, person=b"mc-feed").hexdigest()
