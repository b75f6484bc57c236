"""The Django admin's pages over a tenant's own tables: read-only, for one chosen tenant at a time, in its schema."""

from messaging.admin.conversations import ConversationAdmin
from messaging.admin.messages import MessageAdmin
from messaging.admin.participants import ParticipantAdmin
from messaging.admin.users import UserAdmin

__all__ = ["ConversationAdmin", "MessageAdmin", "ParticipantAdmin", "UserAdmin"]
