"""Reading and writing what moderation keeps: bans in force, filters, held messages, reports."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q, QuerySet

from messagecore.kernel.api.paging import behind
from messaging.models import Ban, HeldMessage, HeldStatus, MessageFilter, MessageReport, ReportStatus

Place = tuple[datetime, UUID]
"""A position in a list: its row's (created_at, id)."""


# --- bans -----------------------------------------------------------------------------------------------------------


def in_force(now: datetime) -> QuerySet[Ban]:
    """Bans that have not ended."""
    return Ban.objects.filter(Q(until=None) | Q(until__gt=now))


def from_place(conversation_id: UUID | None) -> Q:
    """Bans from a conversation, None: from the tenant."""
    return Q(conversation=None) if conversation_id is None else Q(conversation_id=conversation_id)


def banned_among(conversation_id: UUID, user_ids: Collection[UUID], now: datetime) -> list[Ban]:
    """The bans from this conversation that keep these users out. One index look for each."""
    return list(in_force(now).filter(conversation_id=conversation_id, user_id__in=user_ids).order_by("user_id"))


def list_bans(*, conversation_id: UUID | None, before: Place | None, now: datetime, limit: int) -> list[Ban]:
    """Those in force from a conversation, None: from the tenant; latest first, behind the cursor. One statement."""
    found = in_force(now).filter(from_place(conversation_id))
    found = found.select_related("user", "conversation", "banned_by").order_by("-created_at", "-id")
    if before is not None:
        found = found.filter(behind(("-created_at", "-id"), before))
    return list(found[:limit])


# --- filters --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FilterSummary:
    """A filter without its patterns."""

    id: UUID
    name: str
    kind: str
    pattern_count: int
    action: str
    is_enabled: bool
    created_at: datetime
    updated_at: datetime


_SUMMARIES = """
SELECT id, name, kind, jsonb_array_length(patterns), action, is_enabled, created_at, updated_at
FROM messaging_messagefilter WHERE %s::timestamptz IS NULL OR (created_at, id) > (%s, %s)
ORDER BY created_at, id LIMIT %s"""


def list_filters(*, after: Place | None, limit: int) -> list[FilterSummary]:
    """In order of creation, behind the cursor. The patterns, which may be megabytes, stay where they are.

    ORM: `MessageFilter.objects.defer("patterns").annotate(…)`.
    """
    created_at, row_id = after or (None, None)
    with connection.cursor() as cursor:
        cursor.execute(_SUMMARIES, [created_at, created_at, row_id, limit])
        return [FilterSummary(*row) for row in cursor.fetchall()]


def filter_versions() -> tuple[tuple[UUID, datetime], ...]:
    """The filters that are enabled, each with when it was changed. One statement over a few rows."""
    enabled = MessageFilter.objects.filter(is_enabled=True).order_by("created_at", "id")
    return tuple(enabled.values_list("id", "updated_at"))


# --- held messages --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewHeld:
    """A row to insert; `draft` is JSON text."""

    id: UUID
    sender_id: UUID
    conversation_id: UUID
    filter_id: UUID | None
    draft: str
    client_message_id: str | None
    body_digest: bytes


@dataclass(frozen=True, slots=True)
class HeldState:
    """What stands in the queue for a draft: its own row, or that of an earlier one with its client message id."""

    id: UUID
    status: str
    body_digest: bytes


# The filter's lock: one that is deleted at this very moment would fail the whole batch at its commit.
_HOLD = """
WITH there AS (SELECT id FROM messaging_messagefilter WHERE id = ANY(%(filters)s) FOR KEY SHARE)
INSERT INTO messaging_heldmessage
  (id, sender_id, conversation_id, filter_id, draft, client_message_id, body_digest, status, created_at)
SELECT n.id, n.sender_id, n.conversation_id, there.id, n.draft::jsonb, n.client_message_id, n.body_digest, 'pending',
  %(now)s
FROM unnest(%(ids)s::uuid[], %(senders)s::uuid[], %(conversations)s::uuid[], %(filters)s::uuid[], %(drafts)s::text[],
  %(client_ids)s::text[], %(digests)s::bytea[])
  AS n(id, sender_id, conversation_id, filter_id, draft, client_message_id, body_digest)
LEFT JOIN there ON there.id = n.filter_id
ON CONFLICT DO NOTHING"""

_STANDING = """
SELECT h.id, h.status, h.body_digest
FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) WITH ORDINALITY AS n(id, sender_id, client_message_id, ordinal)
JOIN messaging_heldmessage h
  ON h.id = n.id OR (h.sender_id = n.sender_id AND h.client_message_id = n.client_message_id)
ORDER BY n.ordinal"""


def hold(rows: Sequence[NewHeld], *, now: datetime) -> list[HeldState]:
    """Puts drafts into the queue, but for those that are there already by sender and client message id; what stands
    there for each, in order. Two statements, whatever the number.

    ORM: `HeldMessage.objects.bulk_create(…, ignore_conflicts=True)` and a `filter` by pairs.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _HOLD,
            {
                "now": now,
                "ids": [row.id for row in rows],
                "senders": [row.sender_id for row in rows],
                "conversations": [row.conversation_id for row in rows],
                "filters": [row.filter_id for row in rows],
                "drafts": [row.draft for row in rows],
                "client_ids": [row.client_message_id for row in rows],
                "digests": [row.body_digest for row in rows],
            },
        )
        cursor.execute(
            _STANDING,
            [[row.id for row in rows], [row.sender_id for row in rows], [row.client_message_id for row in rows]],
        )
        return [HeldState(row[0], row[1], bytes(row[2])) for row in cursor.fetchall()]


def remove_approved(held_ids: Collection[UUID]) -> None:
    """Those of the rows that were approved: to be called for what has no message any more, so that their client message
    ids are free again. One statement, none for no rows."""
    if held_ids:
        HeldMessage.objects.filter(pk__in=held_ids, status=HeldStatus.APPROVED).delete()


def held_messages() -> QuerySet[HeldMessage]:
    """With what is shown of them."""
    return HeldMessage.objects.select_related("sender", "conversation")


def list_held(*, status: str, after: Place | None, limit: int) -> list[HeldMessage]:
    """Those of a status, oldest first, behind the cursor. One statement, by the index `held_listed`."""
    found = held_messages().filter(status=status).order_by("created_at", "id")
    if after is not None:
        found = found.filter(behind(("created_at", "id"), after))
    return list(found[:limit])


# --- reports --------------------------------------------------------------------------------------------------------


def list_reports(*, status: str, reason: str | None, before: Place | None, limit: int) -> list[MessageReport]:
    """Those of a status, latest first, behind the cursor, with their reporters. One statement, by the index
    `report_listed`."""
    found = MessageReport.objects.select_related("reporter").filter(status=status).order_by("-created_at", "-id")
    if reason is not None:
        found = found.filter(reason=reason)
    if before is not None:
        found = found.filter(behind(("-created_at", "-id"), before))
    return list(found[:limit])


@dataclass(frozen=True, slots=True)
class ReportCount:
    """How many reports of a message there are, and how many of them are open."""

    total: int
    open: int


def count_reports(message_ids: Collection[UUID]) -> dict[UUID, ReportCount]:
    """Of these messages. One statement."""
    rows = MessageReport.objects.filter(message_id__in=message_ids).order_by().values("message_id")
    counted = rows.annotate(total=Count("id"), open=Count("id", filter=Q(status=ReportStatus.OPEN)))
    return {row["message_id"]: ReportCount(row["total"], row["open"]) for row in counted}
