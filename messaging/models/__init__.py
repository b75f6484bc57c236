"""The tables of a tenant's schema, a file per noun."""

from messaging.models.ban import Ban
from messaging.models.block import UserBlock
from messaging.models.conversation import Conversation, ConversationType
from messaging.models.event import ConversationEvent
from messaging.models.file import File, MessageFile
from messaging.models.held import HeldMessage, HeldStatus
from messaging.models.importjob import ImportFailure, ImportJob
from messaging.models.message import Message, MessageType
from messaging.models.messagefilter import FilterAction, FilterKind, MessageFilter
from messaging.models.notification import Notification
from messaging.models.participant import Participant, Role
from messaging.models.pin import PinnedMessage
from messaging.models.preferences import NotificationLevel, NotificationPreferences
from messaging.models.reaction import Reaction
from messaging.models.report import MessageReport, ReportReason, ReportStatus
from messaging.models.revision import MessageRevision
from messaging.models.scheduled import ScheduledMessage, ScheduledStatus
from messaging.models.searchentry import SearchEntry
from messaging.models.tenantsettings import TenantSettings
from messaging.models.user import User

__all__ = [
    "Ban",
    "Conversation",
    "ConversationEvent",
    "ConversationType",
    "File",
    "FilterAction",
    "FilterKind",
    "HeldMessage",
    "HeldStatus",
    "ImportFailure",
    "ImportJob",
    "Message",
    "MessageFile",
    "MessageFilter",
    "MessageReport",
    "MessageRevision",
    "MessageType",
    "Notification",
    "NotificationLevel",
    "NotificationPreferences",
    "Participant",
    "PinnedMessage",
    "Reaction",
    "ReportReason",
    "ReportStatus",
    "Role",
    "ScheduledMessage",
    "ScheduledStatus",
    "SearchEntry",
    "TenantSettings",
    "User",
    "UserBlock",
]
