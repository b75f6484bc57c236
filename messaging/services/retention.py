"""Retention: what is older than the plan keeps goes, in small transactions that nobody who sends has to wait for.

For each conversation that has something too old, in this order:

1. the log's start is moved, under the conversation's lock: from then on nobody sees, answers or changes what lies
   before it, and nobody is moved back there;
2. read positions before the start are moved to it, some at a time under the lock, so that unread counts go on being
   those of the log;
3. messages and events before the start are deleted, with all that hangs on them, without the conversation's lock;
4. content behind the start whose own time is too old (an import brought it) is emptied: the message stays as a
   tombstone, some at a time under the lock;
5. the conversation says what its oldest is now, and is left alone until that is too old.

Then the tenant's feed loses its beginning, and search what it still finds of old messages.

Killed anywhere, the next run goes on: 5 comes last, and until then the conversation is found again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from django.db import IntegrityError, OperationalError

from messaging.queries import files as file_queries
from messaging.queries import retention as queries
from messaging.queries import unread
from messaging.queries.retention import Candidate, Prefix
from messaging.services import files
from quotas.services.limits import read_limits
from tenants import feed
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

DELETED_AT_ONCE = 500
"""Rows that one transaction deletes."""
LOCKED_AT_ONCE = 200
"""Rows that one transaction changes while it holds a conversation's lock: sends wait some milliseconds."""
PAGE = 100
ATTEMPTS = 5
PAUSE_S = 0.2


class Purgeable(Protocol):
    @property
    def id(self) -> UUID: ...
    @property
    def schema_name(self) -> str: ...


@dataclass(slots=True)
class Purged:
    """What went, or would go: messages and events with their rows, contents of messages that stay as tombstones.
    `skipped` conversations were in use and are left to a later run; `is_done`: the time did not run out."""

    conversations: int = 0
    messages: int = 0
    events: int = 0
    contents: int = 0
    skipped: int = 0
    is_done: bool = True


class _Busy(Exception):
    """Others held the rows too long; a later run tries again."""


def cutoff_of(tenant_id: UUID, now: datetime) -> datetime:
    """The time before which the tenant's plan keeps nothing. Raises Subscription.DoesNotExist."""
    return now - timedelta(days=read_limits(tenant_id).retention_days)


def purge(tenant: Purgeable, *, cutoff: datetime, now: datetime, budget_s: float | None = None) -> Purged:
    """Takes away what is older than `cutoff`; after `budget_s` seconds it stops and says that it is not done. Of the
    outbox it takes what is handled, indexed and has its place in the feed, which begins behind it from then on.

    To be called outside of transactions. Runs beside sends, reads and other purges. The month's counts stay.
    """
    ends_at = None if budget_s is None else time.monotonic() + budget_s
    purged = Purged()
    for candidate in _candidates(tenant, cutoff):
        if ends_at is not None and time.monotonic() > ends_at:
            purged.is_done = False
            return purged
        try:
            _purge_conversation(tenant, candidate.id, purged, cutoff=cutoff, now=now)
        except _Busy:
            logger.warning("retention leaves %s for later: it is in use", candidate.id)
            purged.skipped += 1
    try:
        while _calmly(tenant, lambda: queries.sweep_search(cutoff, limit=DELETED_AT_ONCE)):
            pass
        for take in (feed.purge, feed.purge_unlogged):
            while _calmly(tenant, partial(take, tenant.id, cutoff, limit=DELETED_AT_ONCE)):
                if ends_at is not None and time.monotonic() > ends_at:
                    purged.is_done = False
                    return purged
    except _Busy:
        logger.warning("retention leaves search entries and the feed of %s for later", tenant.schema_name)
    return purged


def count(tenant: Purgeable, *, cutoff: datetime) -> Purged:
    """What `purge` would take away now. Writes nothing and takes no lock. Cost: the rows that it counts."""
    counted = Purged()
    for candidate in _candidates(tenant, cutoff):
        with tenant_scope(tenant):
            prefix = queries.find_prefix(candidate.id, cutoff)
            if prefix is None:
                continue
            messages, events, contents = queries.count(candidate.id, prefix, cutoff)
        counted.conversations += bool(messages or events or contents)
        counted.messages += messages
        counted.events += events
        counted.contents += contents
    return counted


def _candidates(tenant: Purgeable, cutoff: datetime) -> Iterator[Candidate]:
    """Those whose `oldest_at` was before the cutoff when its page was read, each once."""
    after: Candidate | None = None
    while True:
        with tenant_scope(tenant):
            page = queries.candidates(cutoff, after=after, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]


def _purge_conversation(
    tenant: Purgeable, conversation_id: UUID, purged: Purged, *, cutoff: datetime, now: datetime
) -> None:
    """Raises _Busy."""
    with tenant_scope(tenant):
        prefix = queries.find_prefix(conversation_id, cutoff)
    if prefix is None:
        return
    before = (purged.messages, purged.events, purged.contents)
    _calmly(tenant, lambda: _move_start(conversation_id, prefix))
    while _calmly(tenant, lambda: _move_readers(conversation_id, prefix.last_seq)):
        pass
    while messages := _calmly(tenant, lambda: _delete_messages(tenant.id, conversation_id, prefix.last_seq)):
        purged.messages += messages
    while events := _calmly(
        tenant, lambda: queries.delete_events(conversation_id, prefix.last_seq, limit=DELETED_AT_ONCE)
    ):
        purged.events += events
    while contents := _calmly(tenant, lambda: _empty_contents(tenant.id, conversation_id, cutoff, now)):
        purged.contents += contents
    _calmly(tenant, lambda: _settle(conversation_id, now))
    purged.conversations += before != (purged.messages, purged.events, purged.contents)


def _calmly(tenant: Purgeable, work: Callable[[], int]) -> int:
    """One short transaction that gives way to others, and is tried again when it did. Raises _Busy."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * attempt)
        try:
            with _short_transaction(tenant):
                return work()
        except (OperationalError, IntegrityError) as error:
            # A lock that others hold, or a row that came to hang on one that is going (a notification, a report).
            logger.info("a step of retention is tried again: %s", error)
    raise _Busy


@contextmanager
def _short_transaction(tenant: Purgeable) -> Iterator[None]:
    with tenant_scope(tenant):
        queries.give_way()
        yield


def _move_start(conversation_id: UUID, prefix: Prefix) -> int:
    queries.lock(conversation_id)
    queries.move_start(conversation_id, prefix)
    return 1


def _move_readers(conversation_id: UUID, seq: int) -> int:
    queries.lock(conversation_id)
    index = unread.index_at(conversation_id, seq)
    return queries.move_readers(conversation_id, seq, index=index, limit=LOCKED_AT_ONCE)


def _delete_messages(tenant_id: UUID, conversation_id: UUID, seq: int) -> int:
    ids = queries.lock_purged_messages(conversation_id, seq, limit=DELETED_AT_ONCE)
    if ids:
        queries.delete_dependants(ids)
        unlinked = file_queries.unlink_messages(ids)
        queries.delete_messages(ids)
        files.release_files(tenant_id, unlinked)  # last: it may lock the tenant's counter
    return len(ids)


def _empty_contents(tenant_id: UUID, conversation_id: UUID, cutoff: datetime, now: datetime) -> int:
    queries.lock(conversation_id)
    ids = queries.lock_old_content(conversation_id, cutoff, limit=LOCKED_AT_ONCE)
    if ids:
        queries.delete_dependants(ids)
        queries.empty_messages(ids, now=now)
        files.unlink_messages(tenant_id, ids)
    return len(ids)


def _settle(conversation_id: UUID, now: datetime) -> int:
    queries.lock(conversation_id)
    queries.settle(conversation_id, now=now)
    return 1
