"""The pages of plans."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.validators import MaxValueValidator
from django.db import transaction
from django.db.models import Count, ProtectedError, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext_lazy, ngettext

from quotas.models import Plan
from quotas.services.limits import forget_cached_limits
from tenants.admin.base import ConsoleAdmin

MAX_LIMIT = 2**53 - 1  # the largest whole number that every JSON client reads exactly
MAX_RETENTION_DAYS = 36_500
MAXIMA = {
    "max_users": MAX_LIMIT,
    "max_messages": MAX_LIMIT,
    "retention_days": MAX_RETENTION_DAYS,
    "max_storage_bytes": MAX_LIMIT,
    "max_connections": MAX_LIMIT,
}
LIMIT_HELP = {
    "max_users": gettext_lazy("Users who are not deactivated. Beyond it creating users is refused; nobody is removed."),
    "max_messages": gettext_lazy("Messages accepted in a calendar month, UTC. Beyond it sending is refused."),
    "retention_days": gettext_lazy("Older messages are removed."),
    "max_storage_bytes": gettext_lazy("Files together, in bytes: 1 GiB is 1073741824."),
    "max_connections": gettext_lazy("Sockets open at the same moment."),
}


class PlanForm(forms.ModelForm):
    class Meta:
        model = Plan
        fields = [
            "plan_type",
            "name",
            "position",
            "max_users",
            "max_messages",
            "retention_days",
            "max_storage_bytes",
            "max_connections",
        ]
        help_texts = {
            "plan_type": gettext_lazy("The word that the API knows it by, such as pro. It cannot be changed later."),
            "name": gettext_lazy("What staff and customers read."),
            "position": gettext_lazy("Lists show the lowest first."),
            **LIMIT_HELP,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, maximum in MAXIMA.items():
            if name in self.fields:
                self.fields[name].validators.append(MaxValueValidator(maximum))
                self.fields[name].widget.attrs["max"] = maximum


@admin.register(Plan)
class PlanAdmin(ConsoleAdmin):
    form = PlanForm
    fieldsets = (
        (None, {"fields": ("plan_type", "name", "position")}),
        (
            gettext_lazy("Limits"),
            {
                "fields": tuple(MAXIMA),
                "description": gettext_lazy("A change takes effect within 5 seconds, for every tenant on the plan."),
            },
        ),
    )
    list_display = ("name", "plan_type", "users", "messages", "retention_days", "tenants")
    search_fields = ("plan_type", "name")
    ordering = ("position", "plan_type")
    actions = None  # a bulk deletion would list every tenant on the plans

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        return super().get_queryset(request).annotate(tenant_count=Count("subscriptions"))

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        return () if obj is None else ("plan_type",)

    @admin.display(description=gettext_lazy("active users"), ordering="max_users")
    def users(self, obj: Plan) -> str:
        return number_format(obj.max_users, force_grouping=True)

    @admin.display(description=gettext_lazy("messages a month"), ordering="max_messages")
    def messages(self, obj: Plan) -> str:
        return number_format(obj.max_messages, force_grouping=True)

    @admin.display(description=gettext_lazy("tenants"), ordering="tenant_count")
    def tenants(self, obj: Any) -> str:
        return number_format(obj.tenant_count, force_grouping=True)

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        transaction.on_commit(forget_cached_limits)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Deletes a plan that nobody is on, and says how many are on it otherwise."""
        if not self.has_delete_permission(request):
            raise PermissionDenied
        plan = self.get_object(request, object_id)
        if plan is not None and plan.tenant_count:
            return self._still_used(request, plan)
        try:
            return super().delete_view(request, object_id, extra_context)
        except ProtectedError:  # a tenant came to it while the question was on the screen
            return self._still_used(request, self.get_object(request, object_id))

    def _still_used(self, request: HttpRequest, plan: Any) -> HttpResponse:
        words = ngettext(
            "%(count)d tenant is on the plan %(plan)s. Move it to another plan first, then delete this one.",
            "%(count)d tenants are on the plan %(plan)s. Move them to another plan first, then delete this one.",
            plan.tenant_count,
        )
        self.message_user(request, words % {"count": plan.tenant_count, "plan": plan}, messages.ERROR)
        return HttpResponseRedirect(reverse("admin:quotas_plan_change", args=[plan.pk]))
