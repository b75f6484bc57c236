"""What the pages of API keys and of platform tokens share: made, shown once, revoked, never edited or deleted."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from tenants.admin.base import ConsoleAdmin
from tenants.admin.shownonce import SAVE_ALONE, ShownCredential, render_credentials
from tenants.services.keys import NewCredential


class StateFilter(admin.SimpleListFilter):
    """Whether a credential works."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, Any]]:
        return [
            ("working", gettext_lazy("Working")),
            ("expired", gettext_lazy("Expired")),
            ("revoked", gettext_lazy("Revoked")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        expired = Q(revoked_at=None, expires_at__lte=timezone.now())
        match self.value():
            case "working":
                return queryset.filter(revoked_at=None).exclude(expired)
            case "expired":
                return queryset.filter(expired)
            case "revoked":
                return queryset.exclude(revoked_at=None)
        return queryset


class CredentialForm(forms.ModelForm):
    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError(_("This time has passed already."))
        return expires_at


class CredentialAdmin(ConsoleAdmin):
    """`make` and `revoke` come from the subclass and call the service."""

    actions = ["revoke_selected"]
    ordering = ("-created_at", "-id")
    credential_label: Any
    credential_help: Any

    def make(self, request: HttpRequest, fields: dict[str, Any]) -> NewCredential:
        raise NotImplementedError

    def revoke(self, credential: Any) -> None:
        raise NotImplementedError

    # --- permissions: add makes, change revokes, nobody edits or deletes ---------------------------------------------

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    # --- making ------------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        made = self.make(request, form.cleaned_data)
        obj.pk = made.id
        obj.refresh_from_db()
        obj.shown_once = made.value

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        shown = ShownCredential(self.credential_label, obj.shown_once, self.credential_help)
        return render_credentials(request, self, obj, [shown])

    # --- showing -----------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("key"), ordering="prefix")
    def shown_prefix(self, obj: Any) -> str:
        return f"{obj.prefix}…"

    @admin.display(description=gettext_lazy("state"))
    def state(self, obj: Any) -> str:
        if obj.revoked_at is not None:
            return _("Revoked")
        if obj.expires_at is not None and obj.expires_at <= timezone.now():
            return _("Expired")
        return _("Working")

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created_on(self, obj: Any) -> str:
        return date_format(localtime(obj.created_at))

    @admin.display(description=gettext_lazy("scopes"))
    def shown_scopes(self, obj: Any) -> str:
        return as_lines(obj.scopes, none=_("Everything"))

    # --- revoking ----------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.revoke_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_revoke"
        return [path("<path:object_id>/revoke/", view, name=name), *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().add_view(request, form_url, {**(extra_context or {}), **SAVE_ALONE})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.get_object(request, object_id)
        revocable = obj is not None and obj.revoked_at is None and self.has_revoke_permission(request)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "revocable": revocable})

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET asks whether it is meant; POST revokes."""
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404
        if request.method != "POST":
            return self._confirm(request, [obj], action=None)
        self._revoke_all(request, [obj])
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    @admin.action(description=gettext_lazy("Revoke the selected"), permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        chosen = list(queryset.filter(revoked_at=None))
        if "confirmed" not in request.POST:
            return self._confirm(request, chosen, action="revoke_selected")
        self._revoke_all(request, chosen)
        return None

    def _revoke_all(self, request: HttpRequest, credentials: Sequence[Any]) -> None:
        for credential in credentials:
            self.revoke(credential)
            self.log_change(request, credential, _("Revoked."))
        count = len(credentials)
        text = ngettext("%(count)d was revoked.", "%(count)d were revoked.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS)

    def _confirm(self, request: HttpRequest, credentials: Sequence[Model], *, action: str | None) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Revoke?"),
            "credentials": credentials,
            "action": action,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "changelist_url": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
        }
        return TemplateResponse(request, "admin/confirm_revoke.html", context)


def as_lines(values: Sequence[str], *, none: str) -> SafeString | str:
    return format_html_join(SafeString("<br>"), "<code>{}</code>", ((value,) for value in values)) or none
