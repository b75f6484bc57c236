"""Finding messages by their words, newest first, without looking at more of them than an answer needs.

The index of words (GIN) knows no order: asked for a common word it brings every message that has it. The indexes by
time know no words. So a search goes back in time in steps:

1. It looks through the newest LOOKED_THROUGH entries in their order. For a common word that is the answer. It also
   tells how fast entries come, how many of them have the words, and how many are the reader's.
2. It asks the index of words for a stretch of time before that, long enough to fill the page by what was seen so
   far. Stretches are lexemes of the index (`messaging.search.vectors`), so what lies outside is not
   read. The next stretch is measured by this one, until the page is full or nothing is left.
3. Where the reader's conversations are many and hold less than the words do, it goes by them instead of by the words.

Words of which the newest entries had none are asked for at once, all the way back. docs/adr/0010 has the plans and what
each takes on a million messages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from messaging.models import Participant
from messaging.search import vectors
from messaging.search.words import Wanted

LOOKED_THROUGH = 1_000
MORE_THAN_NEEDED = 3
"""Times what the page lacks is what a stretch is expected to find."""
MAX_ROWS = 2_000
"""Entries that a stretch is expected to bring at most."""
AT_LEAST_LONGER = 8
"""Each stretch is that many times as long as the one before, whatever was measured: entries come unevenly."""
FEW_CONVERSATIONS = 32
"""So many of a reader's conversations are asked for in the index of words itself."""

_START = UUID(int=0)
_FUTURE = datetime.max.replace(tzinfo=UTC)
_PAST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands in the order of an answer."""

    created_at: datetime
    message_id: UUID


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and by whom: `reader_id` finds what is in their own conversations, visible to them, and not
    by people whom they block; None finds everything. `conversation` narrows it to one that they are in,
    from the seq on that they see. `since` is included, `until` is not."""

    wanted: Wanted
    reader_id: UUID | None = None
    conversation: tuple[UUID, int] | None = None
    sender_id: UUID | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a step saw: how many entries, how many of them with the words, how many of the reader's; where the last of
    them in time stands, how long the stretch was, where the oldest entry of all stands, and what it found."""

    entries: int
    with_words: int
    readers: int
    last: Place | None
    seconds: float
    oldest: Place | None
    found: Sequence[Place]


# --- the statements -------------------------------------------------------------------------------------------------

_COLUMNS = "e.message_id, e.created_at, e.conversation_id, e.seq, e.sender_id"

# Both go backwards along an index and stop.
_NEWEST = f"""
SELECT {_COLUMNS}, e.terms FROM messaging_searchentry e
WHERE (e.created_at, e.message_id) < (%(before_at)s, %(before_id)s) AND e.created_at >= %(since)s
ORDER BY e.created_at DESC, e.message_id DESC LIMIT %(looked_through)s"""  # noqa: S608 - constants of this module
_NEWEST_OF_CONVERSATION = f"""
SELECT {_COLUMNS}, e.terms FROM messaging_searchentry e
WHERE e.conversation_id = %(conversation_id)s
  AND (e.created_at, e.message_id) < (%(before_at)s, %(before_id)s) AND e.created_at >= %(since)s
ORDER BY e.created_at DESC, e.message_id DESC LIMIT %(looked_through)s"""  # noqa: S608
# A bitmap of the GIN index alone: without OFFSET 0 the planner adds one of the index by time, which brings every entry
# of the stretch (8 ms instead of 2).
_WITH_WORDS = f"""
SELECT {_COLUMNS}, NULL::tsvector AS terms
FROM (SELECT * FROM messaging_searchentry WHERE terms @@ %(query)s::tsquery OFFSET 0) e
WHERE (e.created_at, e.message_id) < (%(before_at)s, %(before_id)s) AND e.created_at >= %(since)s"""  # noqa: S608
# One index scan for each of the reader's conversations.
_OF_CONVERSATIONS = f"""
SELECT {_COLUMNS}, e.terms FROM messaging_participant p
CROSS JOIN LATERAL (SELECT * FROM messaging_searchentry e WHERE e.conversation_id = p.conversation_id
  AND (e.created_at, e.message_id) < (%(before_at)s, %(before_id)s) AND e.created_at >= %(since)s OFFSET 0) e
WHERE p.user_id = %(reader_id)s"""  # noqa: S608

_IN_CONVERSATION = "SELECT s.*, s.seq >= %(from_seq)s AS is_readers FROM ({source}) s"
_IN_CONVERSATIONS = """
SELECT s.*, COALESCE(s.seq >= p.visible_from_seq, FALSE) AS is_readers FROM ({source}) s
LEFT JOIN messaging_participant p ON p.conversation_id = s.conversation_id AND p.user_id = %(reader_id)s"""
_ANYWHERE = "SELECT s.*, TRUE AS is_readers FROM ({source}) s"

_LOOK = """
WITH looked AS MATERIALIZED (
  SELECT message_id, created_at, sender_id, COALESCE(terms @@ %(query)s::tsquery, TRUE) AS has_words, is_readers
  FROM ({scoped}) scoped
), found AS (
  SELECT message_id, created_at FROM looked WHERE has_words AND is_readers AND NOT EXISTS (
    SELECT 1 FROM messaging_userblock b WHERE b.blocker_id = %(reader_id)s AND b.blocked_id = looked.sender_id)
  ORDER BY created_at DESC, message_id DESC LIMIT %(limit)s
)
SELECT s.*, l.*, a.*, o.* FROM
  (SELECT count(*), count(*) FILTER (WHERE has_words), count(*) FILTER (WHERE is_readers),
     COALESCE(extract(epoch FROM max(created_at) - min(created_at)), 0)::float8 FROM looked) s
LEFT JOIN (SELECT created_at, message_id FROM looked ORDER BY created_at, message_id LIMIT 1) l ON TRUE
CROSS JOIN (SELECT array_agg(created_at ORDER BY created_at DESC, message_id DESC),
  array_agg(message_id ORDER BY created_at DESC, message_id DESC) FROM found) a
LEFT JOIN (
  SELECT created_at, message_id FROM messaging_searchentry ORDER BY created_at, message_id LIMIT 1) o ON TRUE"""


def _statement(search: Search, source: str) -> str:
    if search.conversation is not None:
        scope = _IN_CONVERSATION
    elif search.reader_id is not None:
        scope = _IN_CONVERSATIONS
    else:
        scope = _ANYWHERE
    return _LOOK.replace("{scoped}", scope.replace("{source}", source))


# --- the search -----------------------------------------------------------------------------------------------------


def find(search: Search, *, before: Place | None, limit: int) -> list[Place]:
    """Up to `limit` entries behind `before`, newest first.

    One statement where the newest entries fill the page or are all there are, a few more where they do not; one more to
    know a reader's conversations. Entries may be of messages that changed a moment ago: hold them to the text.
    """
    return list(_find(search, before=before, limit=limit))


def _find(search: Search, *, before: Place | None, limit: int) -> Iterator[Place]:
    filters = _filters(search)
    if any(not names for names in filters):
        return  # a reader without conversations
    since = search.since or _PAST
    end = Place(_FUTURE if search.until is None else search.until, _START)
    if before is not None and (before.created_at, before.message_id) < (end.created_at, end.message_id):
        end = before
    newest = _NEWEST if search.conversation is None else _NEWEST_OF_CONVERSATION
    looked = _look(search, newest, filters, since=since, before=end, limit=limit)
    yield from looked.found
    limit -= len(looked.found)
    if looked.entries < LOOKED_THROUGH or looked.last is None or looked.oldest in (None, looked.last):
        return
    assert looked.oldest is not None
    first_at = max(since, looked.oldest.created_at)
    words, readers = looked.with_words / looked.entries, looked.readers / looked.entries
    # How long an entry takes to come; no stretch is shorter than what was looked through.
    pace, seconds = max(looked.seconds, 0.001) / looked.entries, max(looked.seconds, 1.0)
    end = looked.last
    while limit > 0 and end.created_at >= first_at:
        by_words = search.reader_id is None or search.conversation is not None or words <= readers
        share = words if by_words else readers
        start = _PAST
        if share > 0:
            entries = min(MORE_THAN_NEEDED * limit / max(words * readers, 1e-9), MAX_ROWS / share)
            seconds = max(seconds * AT_LEAST_LONGER, pace * entries)
            start = _earlier(end.created_at, seconds)
        is_last = start <= first_at
        start = max(start, since)
        source, buckets = _OF_CONVERSATIONS, []
        if by_words:
            source = _WITH_WORDS
            if not is_last or search.since is not None:
                buckets = vectors.between(start, end.created_at)
        looked = _look(search, source, [*filters, buckets], since=start, before=end, limit=limit)
        yield from looked.found
        limit -= len(looked.found)
        measured = looked.entries / max(seconds / pace, 1)
        words, readers = (measured, readers) if by_words else (words, measured)
        end = Place(start, _START)
        if is_last:
            return


def _earlier(at: datetime, seconds: float) -> datetime:
    try:
        return at - timedelta(seconds=seconds)
    except OverflowError:
        return _PAST


def _filters(search: Search) -> list[list[str]]:
    """What the index of words is asked for beside the words."""
    filters = []
    if search.conversation is not None:
        filters.append([vectors.conversation(search.conversation[0])])
    elif search.reader_id is not None:
        own = list(
            Participant.objects.filter(user_id=search.reader_id)
            .order_by()
            .values_list("conversation_id", flat=True)[: FEW_CONVERSATIONS + 1]
        )
        if len(own) <= FEW_CONVERSATIONS:
            filters.append([vectors.conversation(conversation_id) for conversation_id in own])
    if search.sender_id is not None:
        filters.append([vectors.sender(search.sender_id)])
    if search.type is not None:
        filters.append([vectors.message_type(search.type)])
    return filters


def _look(
    search: Search,
    source: str,
    filters: Sequence[Sequence[str]],
    *,
    since: datetime,
    before: Place,
    limit: int,
) -> _Looked:
    conversation_id, from_seq = search.conversation or (None, 0)
    given: dict[str, Any] = {
        "query": vectors.query(search.wanted, *filters),
        "since": since,
        "before_at": before.created_at,
        "before_id": before.message_id,
        "reader_id": search.reader_id,
        "conversation_id": conversation_id,
        "from_seq": from_seq,
        "limit": limit,
        "looked_through": LOOKED_THROUGH,
    }
    with connection.cursor() as cursor:
        cursor.execute(_statement(search, source), given)
        row = cursor.fetchone()
    assert row is not None
    entries, with_words, readers, seconds, last_at, last_id, times, ids, oldest_at, oldest_id = row
    last = None if last_at is None else Place(last_at, last_id)
    oldest = None if oldest_at is None else Place(oldest_at, oldest_id)
    found = [Place(at, message_id) for at, message_id in zip(times or (), ids or (), strict=True)]
    return _Looked(entries, with_words, readers, last, seconds, oldest, found)
