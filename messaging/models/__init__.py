"""The tables of a tenant's schema, a file per noun."""

from messaging.models.conversation import Conversation, ConversationType
from messaging.models.event import ConversationEvent
from messaging.models.message import Message, MessageType
from messaging.models.notification import Notification
from messaging.models.participant import Participant, Role
from messaging.models.pin import PinnedMessage
from messaging.models.reaction import Reaction
from messaging.models.revision import MessageRevision
from messaging.models.user import User

__all__ = [
    "Conversation",
    "ConversationEvent",
    "ConversationType",
    "Message",
    "MessageRevision",
    "MessageType",
    "Notification",
    "Participant",
    "PinnedMessage",
    "Reaction",
    "Role",
    "User",
]
