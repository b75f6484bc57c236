"""What every page of the console has in common: refusals and malformed requests become words, not errors."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect, RelatedFieldWidgetWrapper
from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from messagecore.kernel.errors import Refusal
from messagecore.kernel.ids import find_uuid


def refusal_words(refusal: Refusal) -> str:
    """What a refusal says to staff, in their language; the catalogue's own words for those that staff rarely meet."""
    return {
        "subdomain_taken": _("Another tenant has this subdomain already."),
        "conflict": _("The object has changed meanwhile and does not allow this any more."),
        "plan_not_found": _("There is no such plan any more."),
        "service_unavailable": _("The tenant template is not prepared. Run `manage.py prepare`, then try again."),
    }.get(refusal.code, refusal.message)


class TenantSelect(AutocompleteSelect):
    """Offers tenants as staff type. An id in an address or a form that is none is nothing chosen, not an error."""

    def optgroups(self, name: str, value: Sequence[Any], attrs: dict[str, Any] | None = None) -> Any:
        chosen = [each for each in value if not each or find_uuid(str(each)) is not None]
        return super().optgroups(name, chosen, attrs)


class ConsoleAdmin(admin.ModelAdmin):
    """Base of all our pages."""

    list_per_page = 50
    show_full_result_count = False  # a second count(*) of the whole table for each search

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """A list; a filter that the database cannot even read leads back to the list without it."""
        try:
            return super().changelist_view(request, extra_context)
        except (DataError, ValidationError):
            self.message_user(request, _("This selection cannot be read and was dropped."), messages.ERROR)
            return HttpResponseRedirect(request.path)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A form; what a service refuses although the form was valid (a race) is said on the form's page."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except Refusal as refusal:
            self.message_user(request, refusal_words(refusal), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except Refusal as refusal:
            self.message_user(request, refusal_words(refusal), messages.ERROR)
            return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def response_action(
        self, request: HttpRequest, queryset: QuerySet, *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """An action on selected rows; ids that no row can have select nothing."""
        try:
            return super().response_action(request, queryset, *args, **kwargs)
        except (DataError, ValidationError):
            self.message_user(request, _("This selection cannot be read and was dropped."), messages.ERROR)
            return HttpResponseRedirect(request.path)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = TenantSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget  # without the buttons that add or change a tenant on the way
        return field

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        # PostgreSQL has no NUL in text, so nothing has such an id.
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)
