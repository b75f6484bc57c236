"""The pages of a tenant's users."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from messagecore.kernel.ids import find_uuid
from messaging.admin.chosen import TenantDataAdmin
from messaging.admin.display import as_json
from messaging.models import Participant, User

SHOWN_MEMBERSHIPS = 50


@admin.register(User)
class UserAdmin(TenantDataAdmin):
    fields = (
        "id",
        "external_user_id",
        "display_name",
        "email",
        "avatar_url",
        "is_active",
        "shown_metadata",
        "created_at",
        "updated_at",
    )
    readonly_fields = fields
    list_display = ("external_user_id", "display_name", "email", "is_active", "created_at")
    list_filter = ("is_active", "created_at")
    search_fields = ("external_user_id", "display_name", "email")
    search_help_text = gettext_lazy("Part of an external id, a name or an email address, or an id.")
    ordering = ("-created_at", "-id")
    change_form_template = "admin/messaging/user/change_form.html"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        user_id = find_uuid(search_term.strip().lower())
        if user_id is not None and queryset.filter(pk=user_id).exists():
            return queryset.filter(pk=user_id), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description=gettext_lazy("metadata"))
    def shown_metadata(self, obj: User) -> str:
        return as_json(obj.metadata)

    def get_detail_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        if not request.user.has_perm("messaging.view_participant"):
            return {}
        memberships = Participant.objects.filter(user=obj).select_related("conversation")
        newest = memberships.order_by("-conversation__last_event_at", "-id")[:SHOWN_MEMBERSHIPS]
        return {"memberships": newest, "membership_count": memberships.count()}
