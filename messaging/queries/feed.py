"""What the feed asks of a tenant beside its logs."""

from collections.abc import Collection
from uuid import UUID

from messaging.models import Conversation


def external_ids(conversation_ids: Collection[UUID]) -> dict[UUID, str | None]:
    """The integrator's ids of these conversations; those that are gone are left out. One statement."""
    found = Conversation.objects.filter(id__in=conversation_ids)
    return dict(found.values_list("id", "external_id"))
