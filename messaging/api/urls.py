"""Every route under /api/v1."""

from django.urls import path

from messaging.api import conversations, message_actions, messages, platform, positions, usage, users

urlpatterns = [
    path("messages/send", messages.SendMessage.as_view()),
    path("messages/conversations", conversations.FixedCreate.as_view()),
    path("messages/conversations/<id:conversationId>", messages.ConversationHistory.as_view()),
    path("messages/<id:messageId>", message_actions.MessageDetail.as_view()),
    path("messages/<id:messageId>/revisions", message_actions.MessageRevisions.as_view()),
    path("messages/<id:messageId>/reactions", message_actions.MessageReactions.as_view()),
    path("messages/<id:messageId>/reactions/<id:name>", message_actions.MessageReaction.as_view()),
    path("messages/<id:messageId>/pin", message_actions.MessagePin.as_view()),
    path("messages/<id:messageId>/thread", message_actions.MessageThread.as_view()),
    path("users", users.Users.as_view()),
    path("users/batch", users.UserBatch.as_view()),
    path("users/<id:userId>", users.UserDetail.as_view()),
    path("users/<id:userId>/tokens", users.UserTokens.as_view()),
    path("users/<id:userId>/conversations", users.UserConversations.as_view()),
    path("users/<id:userId>/unread", positions.UserUnread.as_view()),
    path("users/<id:userId>/notifications", users.UserNotifications.as_view()),
    path("conversations", conversations.Conversations.as_view()),
    path("conversations/<id:conversationId>", conversations.ConversationDetail.as_view()),
    path("conversations/<id:conversationId>/join", conversations.ConversationJoin.as_view()),
    path("conversations/<id:conversationId>/membership", conversations.ConversationMembership.as_view()),
    path("conversations/<id:conversationId>/read", positions.ConversationRead.as_view()),
    path("conversations/<id:conversationId>/unread", positions.ConversationUnread.as_view()),
    path("conversations/<id:conversationId>/pins", message_actions.ConversationPins.as_view()),
    path("conversations/<id:conversationId>/participants", conversations.ConversationParticipants.as_view()),
    path("conversations/<id:conversationId>/participants/<id:userId>", conversations.ConversationParticipant.as_view()),
    path("usage", usage.Usage.as_view()),
    path("admin/tenants", platform.Tenants.as_view()),
    path("admin/tenants/<id:tenantId>", platform.TenantDetail.as_view()),
    path("admin/tenants/<id:tenantId>/suspend", platform.TenantSuspend.as_view()),
    path("admin/tenants/<id:tenantId>/reactivate", platform.TenantReactivate.as_view()),
    path("admin/tenants/<id:tenantId>/close", platform.TenantClose.as_view()),
    path("admin/tenants/<id:tenantId>/usage", platform.TenantUsage.as_view()),
    path("admin/plans", platform.Plans.as_view()),
    path("admin/stats", platform.Stats.as_view()),
]
