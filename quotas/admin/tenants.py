"""The pages of tenants, with their plan and what they use."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from messagecore.kernel.errors import Conflict
from messagecore.kernel.ids import find_uuid
from quotas.admin.forms import LIMIT_FIELDS, TenantForm
from quotas.models import MonthlyUsage
from quotas.services.accounts import change_plan, open_account
from quotas.services.metering import month_of
from tenants.admin.base import ConsoleAdmin
from tenants.admin.shownonce import SAVE_ALONE, ShownCredential, render_credentials
from tenants.models import ApiKey, Domain, Tenant, TenantStatus
from tenants.services.lifecycle import change_status, update_tenant


class PlanFilter(admin.RelatedFieldListFilter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("plan")


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ApiKeyInline(ReadOnlyInline):
    model = ApiKey
    fields = ("kind", "name", "last_used_at", "expires_at", "revoked_at", "created_at")
    readonly_fields = fields


class DomainInline(ReadOnlyInline):
    model = Domain
    fields = ("primary",)
    readonly_fields = fields

    @admin.display(description=gettext_lazy("primary"), boolean=True)
    def primary(self, obj: Domain) -> bool:
        return obj.is_primary


@admin.register(Tenant)
class TenantAdmin(ConsoleAdmin):
    form = TenantForm
    inlines = (ApiKeyInline, DomainInline)
    list_display = ("name", "subdomain", "plan", "shown_status", "created_on", "messages_this_month")
    list_filter = ("status", ("subscription__plan", PlanFilter), "created_at")
    list_select_related = ("subscription__plan",)
    search_fields = ("name", "subdomain")
    search_help_text = gettext_lazy("Part of a name or subdomain, or an id.")
    ordering = ("name", "id")
    actions = ("suspend_selected", "reactivate_selected")
    change_form_template = "admin/tenants/tenant/change_form.html"

    # --- reading -----------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        this_month = MonthlyUsage.objects.filter(tenant=OuterRef("pk"), month=month_of(timezone.now()))
        sent = Coalesce(Subquery(this_month.values("messages")[:1]), 0, output_field=IntegerField())
        return super().get_queryset(request).select_related("subscription__plan").annotate(sent_this_month=sent)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Tenant], search_term: str
    ) -> tuple[QuerySet[Tenant], bool]:
        tenant_id: UUID | None = find_uuid(search_term.strip().lower())
        if tenant_id is not None:
            return queryset.filter(pk=tenant_id), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description=gettext_lazy("plan"), ordering="subscription__plan__position")
    def plan(self, obj: Any) -> str:
        return str(obj.subscription.plan)

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, obj: Tenant) -> SafeString:
        return format_html('<span class="status status-{}">{}</span>', obj.status, obj.get_status_display())

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created_on(self, obj: Tenant) -> str:
        return date_format(localtime(obj.created_at))

    @admin.display(description=gettext_lazy("messages this month"), ordering="sent_this_month")
    def messages_this_month(self, obj: Any) -> str:
        subscription = obj.subscription
        limit = subscription.plan.max_messages if subscription.max_messages is None else subscription.max_messages
        numbers = (number_format(number, force_grouping=True) for number in (obj.sent_this_month, limit))
        return " / ".join(numbers)

    @admin.display(description=gettext_lazy("allowed origins"))
    def shown_origins(self, obj: Tenant) -> str:
        return ", ".join(obj.allowed_origins) or _("Any")

    @admin.display(description=gettext_lazy("limits of its own"))
    def shown_overrides(self, obj: Any) -> str:
        own = (
            (obj.subscription._meta.get_field(name).verbose_name, getattr(obj.subscription, name))
            for name in LIMIT_FIELDS
        )
        shown = [f"{label}: {number_format(value, force_grouping=True)}" for label, value in own if value is not None]
        return ", ".join(shown) or "-"

    # --- forms -------------------------------------------------------------------------------------------------------

    def get_inlines(self, request: HttpRequest, obj: Tenant | None) -> Any:
        return () if obj is None else self.inlines

    def get_fieldsets(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("name", "subdomain", "plan_type")}),)
        facts = ("subdomain", "shown_status", "messages_this_month", "id", "created_at", "updated_at")
        if not self.has_change_permission(request, obj):
            return ((None, {"fields": ("name", *facts, "plan", "shown_overrides", "shown_origins")}),)
        return (
            (None, {"fields": ("name", *facts)}),
            (
                gettext_lazy("Plan"),
                {
                    "fields": ("plan_type", *LIMIT_FIELDS),
                    "description": gettext_lazy(
                        "A limit that is left empty is the plan's. Changes take effect within 5 seconds."
                    ),
                },
            ),
            (gettext_lazy("Browsers"), {"fields": ("allowed_origins",)}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        if obj is None:
            return ()
        shown = ("subdomain", "shown_status", "messages_this_month", "id", "created_at", "updated_at")
        return (*shown, "plan", "shown_overrides", "shown_origins")

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().add_view(request, form_url, {**(extra_context or {}), **SAVE_ALONE})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        fields = form.cleaned_data
        if not change:
            made = open_account(
                name=fields["name"], subdomain=fields["subdomain"], plan_type=fields["plan_type"].plan_type
            )
            obj.pk = made.tenant.pk
            obj.refresh_from_db()
            obj.shown_once = made
            return
        changed = set(form.changed_data)
        update_tenant(
            tenant=obj,
            name=fields["name"] if "name" in changed else None,
            allowed_origins=fields["allowed_origins"] if "allowed_origins" in changed else None,
            now=timezone.now(),
        )
        change_plan(
            tenant=obj,
            plan_type=fields["plan_type"].plan_type if "plan_type" in changed else None,
            overrides={name: fields[name] for name in LIMIT_FIELDS if name in changed},
        )

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        made = obj.shown_once
        shown = [
            ShownCredential(
                _("API key"),
                made.secret_key.value,
                _("Secret: for the customer's back end, sent as X-API-Key. Speaks for the whole tenant."),
            ),
            ShownCredential(
                _("Publishable key"),
                made.publishable_key.value,
                _("For browsers and apps, together with a user token."),
            ),
            ShownCredential(
                _("Token secret"),
                made.token_secret.value,
                _("Secret: with it the customer's back end signs user tokens of its own (HS256)."),
            ),
        ]
        return render_credentials(request, self, obj, shown)

    # --- suspending and reactivating ---------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        moves = {"suspend": TenantStatus.SUSPENDED, "reactivate": TenantStatus.ACTIVE}
        own = [
            path(
                f"<path:object_id>/{verb}/",
                self.admin_site.admin_view(self._move_view(status)),
                name=f"tenants_tenant_{verb}",
            )
            for verb, status in moves.items()
        ]
        return [*own, *super().get_urls()]

    def _move_view(self, status: TenantStatus) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if not self.has_change_permission(request):
                raise PermissionDenied
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            tenant = self.get_object(request, object_id)
            if tenant is None:
                raise Http404
            self._move(request, [tenant], status)
            return HttpResponseRedirect(reverse("admin:tenants_tenant_change", args=[tenant.pk]))

        return view

    @admin.action(description=gettext_lazy("Suspend the selected tenants"), permissions=["change"])
    def suspend_selected(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        self._move(request, list(queryset), TenantStatus.SUSPENDED)

    @admin.action(description=gettext_lazy("Reactivate the selected tenants"), permissions=["change"])
    def reactivate_selected(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        self._move(request, list(queryset), TenantStatus.ACTIVE)

    def _move(self, request: HttpRequest, tenants: list[Tenant], status: TenantStatus) -> None:
        """Moves those that are not there already, logs each, and says what was done and what was not."""
        now = timezone.now()
        moved = 0
        for tenant in tenants:
            if tenant.status == status:
                continue
            try:
                with transaction.atomic():
                    change_status(tenant=tenant, status=status, now=now)
                    suspended = status == TenantStatus.SUSPENDED
                    self.log_change(request, tenant, _("Suspended.") if suspended else _("Reactivated."))
            except Conflict:
                words = _("%(tenant)s is closed and stays closed.") % {"tenant": tenant}
                self.message_user(request, words, messages.ERROR)
            else:
                moved += 1
        if status == TenantStatus.SUSPENDED:
            words = ngettext(
                "%(count)d tenant was suspended. Its callers are refused within 5 seconds.",
                "%(count)d tenants were suspended. Their callers are refused within 5 seconds.",
                moved,
            )
        else:
            words = ngettext("%(count)d tenant was reactivated.", "%(count)d tenants were reactivated.", moved)
        self.message_user(request, words % {"count": moved}, messages.SUCCESS if moved else messages.INFO)
