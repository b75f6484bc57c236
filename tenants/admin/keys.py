"""The pages of API keys."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.admin.credentials import CredentialAdmin, CredentialForm, StateFilter, as_lines
from tenants.admin.fields import networks_field, scopes_field
from tenants.models import ApiKey, KeyKind
from tenants.services.keys import NewCredential, create_api_key, revoke_api_key


class ApiKeyForm(CredentialForm):
    scopes = scopes_field("messages:write, users:*")
    allowed_networks = networks_field()

    class Meta:
        model = ApiKey
        fields = ["tenant", "kind", "name", "scopes", "allowed_networks", "expires_at"]
        labels = {"tenant": gettext_lazy("Tenant")}
        help_texts = {
            "kind": gettext_lazy(
                "A secret key speaks for the whole tenant and belongs in its back end. A publishable key may be in "
                "browsers and apps; it needs a user token beside it."
            ),
            "name": gettext_lazy("Who or what will hold it."),
            "expires_at": gettext_lazy("UTC. Empty: never."),
        }


@admin.register(ApiKey)
class ApiKeyAdmin(CredentialAdmin):
    form = ApiKeyForm
    list_display = ("shown_prefix", "name", "shown_tenant", "shown_kind", "state", "last_used_at", "created_on")
    list_filter = ("kind", StateFilter)
    list_select_related = ("tenant",)
    search_fields = ("prefix__startswith", "name", "tenant__name", "tenant__subdomain")
    search_help_text = gettext_lazy("The beginning of a key (mc_sk_…), its name, or a tenant's name or subdomain.")
    autocomplete_fields = ("tenant",)
    credential_label = gettext_lazy("API key")
    credential_help = gettext_lazy("Sent as X-API-Key.")

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        if obj is None:
            return list(ApiKeyForm.Meta.fields)
        shown = ["shown_prefix", "shown_tenant", "kind", "name", "shown_scopes", "shown_networks"]
        return [*shown, "state", "expires_at", "revoked_at", "last_used_at", "created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        return [] if obj is None else self.get_fields(request, obj)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApiKey], search_term: str
    ) -> tuple[QuerySet[ApiKey], bool]:
        # Keys are shown with an ellipsis behind the prefix, and so they are copied.
        return super().get_search_results(request, queryset, search_term.rstrip("…"))

    @admin.display(description=gettext_lazy("tenant"), ordering="tenant__name")
    def shown_tenant(self, obj: ApiKey) -> str:
        return str(obj.tenant)

    @admin.display(description=gettext_lazy("kind"), ordering="kind")
    def shown_kind(self, obj: ApiKey) -> str:
        return _("Secret") if obj.kind == KeyKind.SECRET else _("Publishable")

    @admin.display(description=gettext_lazy("allowed networks"))
    def shown_networks(self, obj: ApiKey) -> str:
        return as_lines(obj.allowed_networks, none=_("Any"))

    def make(self, request: HttpRequest, fields: dict[str, Any]) -> NewCredential:
        return create_api_key(
            tenant=fields["tenant"],
            kind=fields["kind"],
            name=fields["name"],
            scopes=fields["scopes"],
            allowed_networks=fields["allowed_networks"],
            expires_at=fields["expires_at"],
        )

    def revoke(self, credential: ApiKey) -> None:
        revoke_api_key(key=credential, now=timezone.now())
