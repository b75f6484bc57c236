"""The pages of a tenant's messages, for those who may read them."""

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from messagecore.kernel.ids import find_uuid
from messaging.admin.chosen import TenantDataAdmin
from messaging.admin.display import as_json, conversation_link, excerpt_of, user_link
from messaging.models import Message


@admin.register(Message)
class MessageAdmin(TenantDataAdmin):
    fields = (
        "id",
        "shown_conversation",
        "shown_seq",
        "shown_sender",
        "type",
        "shown_content",
        "shown_metadata",
        "created_at",
        "updated_at",
        "edited_at",
        "deleted_at",
    )
    readonly_fields = fields
    list_display = ("shown_seq", "shown_conversation", "shown_sender", "type", "shown_excerpt", "created_at", "state")
    list_filter = ("type", "created_at")
    list_select_related = ("conversation", "sender")
    sortable_by = ()  # only the orders below have an index
    search_fields = ("id",)
    search_help_text = gettext_lazy("A message's id, or that of its conversation or sender.")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # Ids grow with time; inside one conversation its own index gives the order.
        return ("-seq",) if "conversation__id__exact" in request.GET else ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Message], search_term: str
    ) -> tuple[QuerySet[Message], bool]:
        if not search_term.strip():
            return queryset, False
        any_id = find_uuid(search_term.strip().lower())
        if any_id is None:
            return queryset.none(), False
        return queryset.filter(Q(pk=any_id) | Q(conversation_id=any_id) | Q(sender_id=any_id)), False

    @admin.display(description=gettext_lazy("seq"))
    def shown_seq(self, obj: Message) -> int:
        return obj.seq

    @admin.display(description=gettext_lazy("conversation"))
    def shown_conversation(self, obj: Message) -> str:
        return conversation_link(obj.conversation)

    @admin.display(description=gettext_lazy("sender"))
    def shown_sender(self, obj: Message) -> str:
        return user_link(obj.sender)

    @admin.display(description=gettext_lazy("content"))
    def shown_excerpt(self, obj: Message) -> str:
        return excerpt_of(obj.content)

    @admin.display(description=gettext_lazy("content"))
    def shown_content(self, obj: Message) -> str:
        return as_json(obj.content)

    @admin.display(description=gettext_lazy("metadata"))
    def shown_metadata(self, obj: Message) -> str:
        return as_json(obj.metadata)

    @admin.display(description=gettext_lazy("state"))
    def state(self, obj: Message) -> str:
        if obj.deleted_at is not None:
            return _("Deleted")
        return _("Edited") if obj.edited_at is not None else ""
