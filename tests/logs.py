"""A conversation's log as the server reads it."""

from uuid import UUID

from messaging.queries.log import LogSpan
from messaging.services.reading import LogEntry, read_log
from tenants.cards import TenantCard
from tests.ports import as_sent


def log_between(tenant: TenantCard, conversation_id: UUID, first_seq: int, last_seq: int) -> list[LogEntry]:
    """The entries with first_seq ≤ seq ≤ last_seq, in order, as clients read them."""
    entries = read_log(tenant, [LogSpan(conversation_id, first_seq, last_seq)])[conversation_id]
    return [entry._replace(data=as_sent(entry.data)) for entry in entries]
