"""Keeping the search index behind the messages: never in the send, always in the end."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from messaging.models import MessageType
from messaging.queries import indexing as queries
from messaging.queries.indexing import Indexable, IndexedAs
from messaging.search import vectors
from messaging.search.words import searched
from tenants.models import Tenant
from tenants.outbox import OutboxRow
from tenants.scope import tenant_scope

INDEXED_TYPES = frozenset({"new_message", "message_updated", "message_deleted"})


def index_outbox_rows(rows: Sequence[OutboxRow]) -> set[int]:
    """Brings the index up to the messages that the rows are about, as they are now, in the sweep's transaction.

    Returns the rows that have to come again: somebody is changing their message at this moment. Waits for nobody.
    """
    by_tenant: defaultdict[UUID, list[OutboxRow]] = defaultdict(list)
    for row in rows:
        if row.type in INDEXED_TYPES and row.subject_id is not None:
            by_tenant[row.tenant_id].append(row)
    tenants = Tenant.objects.in_bulk(by_tenant)
    again: set[int] = set()
    for tenant_id in sorted(by_tenant):
        tenant = tenants.get(tenant_id)
        if tenant is not None:
            with tenant_scope(tenant):
                left = index_messages([row.subject_id for row in by_tenant[tenant_id] if row.subject_id is not None])
            again |= {row.id for row in by_tenant[tenant_id] if row.subject_id in left}
    return again


def index_messages(message_ids: Sequence[UUID]) -> set[UUID]:
    """Writes what these messages are found by; deleted ones, the system's and those without words have no entry.

    Returns those that were being changed meanwhile, and are not indexed. Two statements; about 0.1 ms a message of
    ordinary length, 20 ms for the longest, before any row is locked.
    """
    read = queries.read_messages(message_ids)
    held = queries.write_entries([IndexedAs(message.id, message.version, _terms(message)) for message in read])
    return {message.id for message in read} - held


def _terms(message: Indexable) -> str | None:
    if message.is_deleted or message.type == MessageType.SYSTEM:
        return None
    filters = vectors.filters_of(
        conversation_id=message.conversation_id,
        sender_id=message.sender_id,
        type_=message.type,
        created_at=message.created_at,
    )
    return vectors.vector(searched(message.content).values(), filters)
