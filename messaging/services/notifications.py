"""Telling people who were not connected. This file has the store; other channels hang onto the same sweep."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Q

from messagecore.kernel import ids
from messaging import ports
from messaging.models import Notification, Participant
from tenants.models import Tenant
from tenants.outbox import OutboxRow
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

_STORE = """
INSERT INTO messaging_notification (id, user_id, message_id, created_at)
SELECT n.id, n.user_id, n.message_id, %s FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[]) AS n(id, user_id, message_id)
JOIN messaging_message m ON m.id = n.message_id AND NOT m.silent AND m.sender_id IS DISTINCT FROM n.user_id
JOIN messaging_user u ON u.id = n.user_id AND u.is_active
ON CONFLICT (user_id, message_id) DO NOTHING"""


class PresenceUnavailable(Exception):
    """Nobody can say who is connected; the rows stay in the outbox until somebody can."""


def handle_outbox_rows(rows: Sequence[OutboxRow], *, now: datetime) -> None:
    """Does what the rows promise, in the sweep's transaction: stores a notification for each offline participant.

    Raises PresenceUnavailable, which leaves the rows for the next sweep.
    """
    by_tenant: defaultdict[UUID, list[OutboxRow]] = defaultdict(list)
    for row in rows:
        if row.type == "new_message":
            by_tenant[row.tenant_id].append(row)
    tenants = Tenant.objects.in_bulk(by_tenant)
    for tenant_id in sorted(by_tenant):
        tenant = tenants.get(tenant_id)
        if tenant is not None:
            with tenant_scope(tenant):
                _store_for_offline(tenant_id, by_tenant[tenant_id], now)


def _store_for_offline(tenant_id: UUID, rows: Sequence[OutboxRow], now: datetime) -> None:
    # Each member with the seq up to which nothing is news to them: read already, or from before their time.
    members: defaultdict[UUID, list[tuple[UUID, int]]] = defaultdict(list)
    conversations = {row.conversation_id for row in rows if row.conversation_id is not None}
    places = Participant.objects.filter(conversation_id__in=conversations)
    for conversation_id, user_id, visible_from_seq, last_read_seq in places.values_list(
        "conversation_id", "user_id", "visible_from_seq", "last_read_seq"
    ):
        members[conversation_id].append((user_id, max(visible_from_seq - 1, last_read_seq)))
    everyone = list({user_id for places_there in members.values() for user_id, _ in places_there})
    presence = ports.presence_reader().presence_of(tenant_id, everyone)
    if any(found.status == "unknown" for found in presence.values()):
        raise PresenceUnavailable
    pairs = [
        (user_id, row.subject_id)
        for row in rows
        if row.conversation_id is not None and row.seq is not None
        for user_id, known_seq in members[row.conversation_id]
        if row.seq > known_seq and presence[user_id].status == "offline"
    ]
    if pairs:
        with connection.cursor() as cursor:
            cursor.execute(
                _STORE,
                [now, ids.new_ids(len(pairs)), [user_id for user_id, _ in pairs], [message for _, message in pairs]],
            )


def list_notifications(
    *, user_id: UUID, before: tuple[datetime, UUID] | None, unread_only: bool, limit: int
) -> list[Notification]:
    """Latest first, behind the cursor (created_at, id)."""
    found = Notification.objects.filter(user_id=user_id).order_by("-created_at", "-id")
    if before is not None:
        created_at, notification_id = before
        found = found.filter(Q(created_at__lt=created_at) | Q(created_at=created_at, id__lt=notification_id))
    if unread_only:
        found = found.filter(read_at=None)
    return list(found[:limit])
