"""The tables of a tenant's schema, a file per noun."""

from messaging.models.conversation import Conversation, ConversationType
from messaging.models.event import ConversationEvent
from messaging.models.message import Message, MessageType
from messaging.models.notification import Notification
from messaging.models.participant import Participant, Role
from messaging.models.user import User

__all__ = [
    "Conversation",
    "ConversationEvent",
    "ConversationType",
    "Message",
    "MessageType",
    "Notification",
    "Participant",
    "Role",
    "User",
]
