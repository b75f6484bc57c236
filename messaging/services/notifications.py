"""Telling people who were not connected. This file has the store; other channels hang onto the same sweep.

Who is told of a message: the active members of its conversation who are not connected, have not read that far, were
there when it was sent, and neither wrote it nor block who did; not of silent, deleted and the server's own ones. Of
these

- who wants everything: all, and of a conversation that they muted what mentions them by name;
- who wants mentions: what mentions them by name, or `channel` where they did not mute it;
- who wants nothing: nothing.

`here` means those who are connected, so it adds nothing for those who are not.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Exists, F, OuterRef

from messagecore.kernel import ids
from messagecore.kernel.api.paging import behind
from messaging import ports
from messaging.models import Message, Notification, Participant, UserBlock
from tenants.models import Tenant
from tenants.outbox import OutboxRow
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

_STORE = """
INSERT INTO messaging_notification (id, user_id, message_id, created_at)
SELECT n.id, n.user_id, n.message_id, %(now)s
FROM unnest(%(ids)s::uuid[], %(users)s::uuid[], %(messages)s::uuid[]) AS n(id, user_id, message_id)
JOIN messaging_message m ON m.id = n.message_id AND m.sender_id IS DISTINCT FROM n.user_id
  AND NOT m.silent AND m.type <> 'system' AND m.deleted_at IS NULL
JOIN messaging_user u ON u.id = n.user_id AND u.is_active AND (u.banned_until IS NULL OR u.banned_until <= %(now)s)
JOIN messaging_participant p ON p.conversation_id = m.conversation_id AND p.user_id = n.user_id
LEFT JOIN messaging_notificationpreferences f ON f.user_id = n.user_id
WHERE NOT EXISTS (SELECT 1 FROM messaging_userblock b WHERE b.blocker_id = n.user_id AND b.blocked_id = m.sender_id)
  AND CASE COALESCE(f.level, 'all')
    WHEN 'nothing' THEN FALSE
    WHEN 'mentions' THEN m.mentions ? n.user_id::text
      OR (m.mentions ? 'channel' AND (p.muted_until IS NULL OR p.muted_until <= %(now)s))
    ELSE p.muted_until IS NULL OR p.muted_until <= %(now)s OR m.mentions ? n.user_id::text END
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
    # An import's rows are many and silent: they are left out before they are multiplied by the members.
    messages = [row.subject_id for row in rows if row.subject_id is not None]
    loud = set(Message.objects.filter(id__in=messages, silent=False).values_list("id", flat=True))
    rows = [row for row in rows if row.subject_id in loud]
    if not rows:
        return
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
                {
                    "now": now,
                    "ids": ids.new_ids(len(pairs)),
                    "users": [user_id for user_id, _ in pairs],
                    "messages": [message for _, message in pairs],
                },
            )


def list_notifications(
    *, user_id: UUID, before: tuple[datetime, UUID] | None, unread_only: bool, limit: int
) -> list[Notification]:
    """Latest first, behind the cursor (created_at, id), with the user's preferences: one statement. Not of messages
    that retention took, or whose sender the user blocks by now."""
    blocked = UserBlock.objects.filter(blocker_id=user_id, blocked_id=OuterRef("message__sender_id"))
    found = Notification.objects.filter(
        ~Exists(blocked), user_id=user_id, message__seq__gt=F("message__conversation__purged_seq")
    )
    found = found.select_related("user__notification_preferences").order_by("-created_at", "-id")
    if before is not None:
        found = found.filter(behind(("-created_at", "-id"), before))
    if unread_only:
        found = found.filter(read_at=None)
    return list(found[:limit])
