"""Pages over a tenant's own tables: choosing the tenant, and running the whole page in its schema."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext as _

from messagecore.kernel.ids import find_uuid
from tenants.admin.base import ConsoleAdmin
from tenants.models import Tenant
from tenants.scope import tenant_scope

SESSION_KEY = "console_tenant"
OFFERED_TENANTS = 25

Page = Callable[[dict[str, Any]], HttpResponse]


def find_chosen_tenant(request: HttpRequest) -> Tenant | None:
    """The tenant that this session looks into; None when none was chosen or it is gone."""
    tenant_id = find_uuid(str(request.session.get(SESSION_KEY, "")))
    return Tenant.objects.filter(pk=tenant_id).first() if tenant_id is not None else None


class TenantDataAdmin(ConsoleAdmin):
    """Read-only pages of one table of the chosen tenant.

    Query, filters, count, pagination and the rendering of the template all happen inside the tenant's scope; the
    staff's own tables (sessions, permissions, log) are found in `public`, which stands behind it in the path.
    """

    actions = None
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # --- the pages ---------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        page = super().changelist_view
        return self._in_chosen_tenant(request, lambda extra: page(request, extra), extra_context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        page = super().change_view

        def shown(extra: dict[str, Any]) -> HttpResponse:
            obj = self.get_object_or_404(request, object_id)
            return page(request, object_id, form_url, {**extra, **self.get_detail_context(request, obj)})

        return self._in_chosen_tenant(request, shown, extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        raise PermissionDenied  # before the base looks the object up, outside any tenant

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        raise Http404  # nothing is changed here, so nothing has a history

    def get_detail_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """What the page of one object shows besides its fields. Called, and rendered, in the tenant's scope."""
        return {}

    def get_object_or_404(self, request: HttpRequest, object_id: str) -> Any:
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        return obj

    def _in_chosen_tenant(self, request: HttpRequest, page: Page, extra_context: dict[str, Any] | None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        tenant = find_chosen_tenant(request)
        if tenant is None:
            return HttpResponseRedirect(self._chooser_url(request.get_full_path()))
        extra = {**(extra_context or {}), "chosen_tenant": tenant, "chooser_url": self._chooser_url()}
        try:
            with tenant_scope(tenant):
                response = page(extra)
                if isinstance(response, TemplateResponse):
                    response.render()  # here, or its lazy queries would run in `public`
                return response
        except Http404:
            context = {**self.admin_site.each_context(request), **extra}
            return TemplateResponse(request, "admin/404.html", context, status=404)

    # --- choosing ----------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.choose_tenant_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_choose_tenant"
        return [path("choose-tenant/", view, name=name), *super().get_urls()]

    def choose_tenant_view(self, request: HttpRequest) -> HttpResponse:
        """GET offers tenants, searched by name or subdomain; POST chooses one and goes on to `next`."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            tenant_id = find_uuid(request.POST.get("tenant", ""))
            tenant = Tenant.objects.filter(pk=tenant_id).first() if tenant_id is not None else None
            if tenant is None:
                raise Http404
            request.session[SESSION_KEY] = str(tenant.pk)
            return HttpResponseRedirect(self._next_url(request, request.POST.get("next", "")))
        search = request.GET.get("q", "").replace("\0", "").strip()
        found = _tenants_like(search)
        offered = Paginator(found, OFFERED_TENANTS).get_page(request.GET.get("p"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Choose a tenant"),
            "chosen_tenant": None,
            "current": find_chosen_tenant(request),
            "offered": offered,
            "search": search,
            "next": self._next_url(request, request.GET.get("next", "")),
        }
        return TemplateResponse(request, "admin/messaging/choose_tenant.html", context)

    def _chooser_url(self, next_url: str = "") -> str:
        url = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_choose_tenant")
        return f"{url}?{urlencode({'next': next_url})}" if next_url else url

    def _next_url(self, request: HttpRequest, wanted: str) -> str:
        """`wanted` if it is an address of ours, this table's list otherwise."""
        if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
            return wanted
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


def _tenants_like(search: str) -> QuerySet[Tenant]:
    tenants = Tenant.objects.order_by("name", "id")
    return tenants.filter(Q(name__icontains=search) | Q(subdomain__icontains=search)) if search else tenants
