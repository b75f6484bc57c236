"""The page that shows new credentials, this once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _


@dataclass(frozen=True, slots=True)
class ShownCredential:
    label: str
    value: str
    help_text: str


SAVE_ALONE = {"show_save_and_add_another": False, "show_save_and_continue": False}
"""Context for the add form: whatever button is pressed, the credentials come next, so there is one button."""


def render_credentials(
    request: HttpRequest, model_admin: admin.ModelAdmin, made: Model, credentials: Sequence[ShownCredential]
) -> TemplateResponse:
    """The answer to the POST that made them: they are in this body and nowhere else, neither in a session nor in an
    address. The page's script puts the object's own address into the history, so a reload repeats nothing."""
    opts = model_admin.opts
    context: dict[str, Any] = {
        **model_admin.admin_site.each_context(request),
        "opts": opts,
        "title": _("Copy the credentials now"),
        "subtitle": str(made),
        "made": made,
        "credentials": credentials,
        "continue_url": reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[made.pk]),
        "changelist_url": reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"),
    }
    response = TemplateResponse(request, "admin/shown_once.html", context)
    add_never_cache_headers(response)
    return response
