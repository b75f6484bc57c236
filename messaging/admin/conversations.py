"""The pages of a tenant's conversations, with participants and the latest messages."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from messagecore.kernel.ids import find_uuid
from messaging.admin.chosen import TenantDataAdmin
from messaging.admin.display import as_json, excerpt_of, user_link
from messaging.models import Conversation, Message, Participant

SHOWN_PARTICIPANTS = 100
SHOWN_MESSAGES = 50


@admin.register(Conversation)
class ConversationAdmin(TenantDataAdmin):
    fields = (
        "id",
        "external_id",
        "type",
        "title",
        "shown_creator",
        "shown_messages",
        "shown_participants",
        "shown_last_seq",
        "last_message_at",
        "shown_metadata",
        "shown_settings",
        "created_at",
        "updated_at",
    )
    readonly_fields = fields
    list_display = ("__str__", "type", "shown_participants", "shown_messages", "last_message_at", "created_at")
    list_filter = ("type", "created_at")
    search_fields = ("title", "external_id")
    search_help_text = gettext_lazy("Part of a title or external id, or an id.")
    ordering = ("-created_at", "-id")
    change_form_template = "admin/messaging/conversation/change_form.html"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Conversation], search_term: str
    ) -> tuple[QuerySet[Conversation], bool]:
        conversation_id = find_uuid(search_term.strip().lower())
        if conversation_id is not None and queryset.filter(pk=conversation_id).exists():
            return queryset.filter(pk=conversation_id), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description=gettext_lazy("made by"))
    def shown_creator(self, obj: Conversation) -> str:
        return user_link(obj.created_by)

    @admin.display(description=gettext_lazy("messages"), ordering="message_count")
    def shown_messages(self, obj: Conversation) -> int:
        return obj.remaining_count

    @admin.display(description=gettext_lazy("participants"), ordering="participant_count")
    def shown_participants(self, obj: Conversation) -> int:
        return obj.participant_count

    @admin.display(description=gettext_lazy("last seq"))
    def shown_last_seq(self, obj: Conversation) -> int:
        return obj.last_seq

    @admin.display(description=gettext_lazy("metadata"))
    def shown_metadata(self, obj: Conversation) -> str:
        return as_json(obj.metadata)

    @admin.display(description=gettext_lazy("settings"))
    def shown_settings(self, obj: Conversation) -> str:
        return as_json(obj.settings)

    def get_detail_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        may_read = request.user.has_perm("messaging.view_message")
        latest = Message.objects.filter(conversation=obj).select_related("sender").order_by("-seq")[:SHOWN_MESSAGES]
        context: dict[str, Any] = {
            "may_read_messages": may_read,
            # The content leaves the database only for those who may read it.
            "latest_messages": [
                {"message": message, "excerpt": excerpt_of(message.content) if may_read else None}
                for message in (latest if may_read else latest.defer("content", "metadata"))
            ],
        }
        if request.user.has_perm("messaging.view_participant"):
            participants = Participant.objects.filter(conversation=obj).select_related("user")
            context["participants"] = participants.order_by("joined_at", "id")[:SHOWN_PARTICIPANTS]
        return context
