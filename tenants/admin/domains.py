"""The pages of tenants' domains: added and removed, never edited; the primary one stays."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from messagecore.kernel.errors import ValidationFailed
from tenants.admin.base import ConsoleAdmin
from tenants.models import Domain
from tenants.services.domains import add_domain, normalised_host, remove_domain


class DomainForm(forms.ModelForm):
    class Meta:
        model = Domain
        fields = ["tenant", "domain"]
        labels = {"tenant": gettext_lazy("Tenant"), "domain": gettext_lazy("Host name")}
        help_texts = {
            "domain": gettext_lazy(
                "Such as chat.example.com, without a scheme or port; international names in punycode (xn--…)."
            )
        }

    def clean_domain(self) -> str:
        try:
            return normalised_host(self.cleaned_data["domain"])
        except ValidationFailed:
            raise ValidationError(
                _("Not a host name that a tenant can have: no address, nothing under the platform's own domain.")
            ) from None


class PrimaryFilter(admin.BooleanFieldListFilter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("primary")


@admin.register(Domain)
class DomainAdmin(ConsoleAdmin):
    form = DomainForm
    fields = ("tenant", "domain")
    list_display = ("host", "shown_tenant", "primary")
    list_filter = (("is_primary", PrimaryFilter),)
    list_select_related = ("tenant",)
    search_fields = ("domain", "tenant__name", "tenant__subdomain")
    search_help_text = gettext_lazy("Part of a host name, or of a tenant's name or subdomain.")
    autocomplete_fields = ("tenant",)
    actions = None  # deleted one at a time, with a look at each

    def has_change_permission(self, request: HttpRequest, obj: Domain | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Domain | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or not obj.is_primary)

    def get_fields(self, request: HttpRequest, obj: Domain | None = None) -> Any:
        return ("tenant", "domain") if obj is None else ("host", "shown_tenant", "primary")

    def get_readonly_fields(self, request: HttpRequest, obj: Domain | None = None) -> Any:
        return () if obj is None else self.get_fields(request, obj)

    @admin.display(description=gettext_lazy("host name"), ordering="domain")
    def host(self, obj: Domain) -> str:
        return obj.domain

    @admin.display(description=gettext_lazy("tenant"), ordering="tenant__name")
    def shown_tenant(self, obj: Domain) -> str:
        return str(obj.tenant)

    @admin.display(description=gettext_lazy("primary"), ordering="is_primary", boolean=True)
    def primary(self, obj: Domain) -> bool:
        return obj.is_primary

    def save_model(self, request: HttpRequest, obj: Domain, form: Any, change: bool) -> None:
        made = add_domain(tenant=form.cleaned_data["tenant"], host=form.cleaned_data["domain"])
        obj.pk = made.pk
        obj.refresh_from_db()

    def delete_model(self, request: HttpRequest, obj: Domain) -> None:
        remove_domain(domain=obj)
