"""The list of a conversation's participants; reached from the conversation's page."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from messaging.admin.chosen import TenantDataAdmin
from messaging.admin.display import conversation_link, user_link
from messaging.models import Participant


@admin.register(Participant)
class ParticipantAdmin(TenantDataAdmin):
    fields = ("shown_user", "shown_conversation", "role", "joined_at", "shown_read")
    readonly_fields = fields
    list_display = ("shown_user", "shown_conversation", "role", "joined_at", "shown_read")
    list_display_links = None
    list_filter = ("role",)
    list_select_related = ("user", "conversation")
    search_fields = ("user__external_user_id", "user__display_name")
    search_help_text = gettext_lazy("Part of a user's external id or name.")
    ordering = ("joined_at", "id")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False  # not in the menu: a list of memberships makes sense from a conversation or a user

    @admin.display(description=gettext_lazy("user"))
    def shown_user(self, obj: Participant) -> str:
        return user_link(obj.user)

    @admin.display(description=gettext_lazy("conversation"))
    def shown_conversation(self, obj: Participant) -> str:
        return conversation_link(obj.conversation)

    @admin.display(description=gettext_lazy("read to"), ordering="last_read_seq")
    def shown_read(self, obj: Participant) -> int:
        return obj.last_read_seq
