"""The pages of platform tokens."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy

from tenants.admin.credentials import CredentialAdmin, CredentialForm, StateFilter
from tenants.admin.fields import scopes_field
from tenants.models import PlatformToken
from tenants.services.keys import NewCredential, create_platform_token, revoke_platform_token


class PlatformTokenForm(CredentialForm):
    scopes = scopes_field("tenants:read, stats:read")

    class Meta:
        model = PlatformToken
        fields = ["name", "scopes", "expires_at"]
        help_texts = {
            "name": gettext_lazy("Who or what will hold it."),
            "expires_at": gettext_lazy("UTC. Empty: never."),
        }


@admin.register(PlatformToken)
class PlatformTokenAdmin(CredentialAdmin):
    form = PlatformTokenForm
    list_display = ("shown_prefix", "name", "state", "expires_at", "shown_creator", "created_on")
    list_filter = (StateFilter,)
    list_select_related = ("created_by",)
    search_fields = ("prefix__startswith", "name")
    search_help_text = gettext_lazy("The beginning of a token (mc_pt_…), or its name.")
    credential_label = gettext_lazy("Platform token")
    credential_help = gettext_lazy("Sent as Authorization: Bearer to /api/v1/admin/….")

    def get_fields(self, request: HttpRequest, obj: PlatformToken | None = None) -> Any:
        if obj is None:
            return list(PlatformTokenForm.Meta.fields)
        return [
            "shown_prefix",
            "name",
            "shown_scopes",
            "state",
            "expires_at",
            "revoked_at",
            "shown_creator",
            "created_at",
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: PlatformToken | None = None) -> Any:
        return [] if obj is None else self.get_fields(request, obj)

    @admin.display(description=gettext_lazy("made by"), ordering="created_by")
    def shown_creator(self, obj: PlatformToken) -> str:
        return str(obj.created_by) if obj.created_by is not None else "-"

    def make(self, request: HttpRequest, fields: dict[str, Any]) -> NewCredential:
        return create_platform_token(
            name=fields["name"],
            scopes=fields["scopes"],
            expires_at=fields["expires_at"],
            created_by_id=request.user.pk,
        )

    def revoke(self, credential: PlatformToken) -> None:
        revoke_platform_token(token=credential, now=timezone.now())
