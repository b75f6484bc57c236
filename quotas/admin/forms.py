"""The form of a tenant: its name, origins, plan and the limits of its own."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from quotas.admin.plans import LIMIT_HELP, MAXIMA
from quotas.models import Plan, Subscription
from quotas.services.accounts import OVERRIDABLE
from tenants.admin.fields import origins_field
from tenants.models import Tenant
from tenants.services.provisioning import RESERVED_SUBDOMAINS

LIMIT_FIELDS = OVERRIDABLE


def _override(name: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=capfirst(Plan._meta.get_field(name).verbose_name),  # type: ignore[union-attr]  # a column
        required=False,
        min_value=1 if name == "retention_days" else 0,
        max_value=MAXIMA[name],
        help_text=LIMIT_HELP[name],
        widget=forms.NumberInput(attrs={"class": "vBigIntegerField"}),
    )


class TenantForm(forms.ModelForm):
    plan_type = forms.ModelChoiceField(
        Plan.objects.all(),
        label=gettext_lazy("Plan"),
        empty_label=None,
        help_text=gettext_lazy("Going to a smaller plan keeps what is over its limits; only new things are refused."),
    )
    allowed_origins = origins_field()
    max_users = _override("max_users")
    max_messages = _override("max_messages")
    retention_days = _override("retention_days")
    max_storage_bytes = _override("max_storage_bytes")
    max_connections = _override("max_connections")

    class Meta:
        model = Tenant
        fields = ["name", "subdomain", "allowed_origins"]
        help_texts = {"name": gettext_lazy("The customer, as staff and invoices call it.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        subscription: Subscription | None = getattr(self.instance, "subscription", None)
        if subscription is None:
            return
        self.initial["plan_type"] = subscription.plan_id
        for name in LIMIT_FIELDS:
            if name in self.fields:
                self.initial[name] = getattr(subscription, name)
                of_plan = number_format(getattr(subscription.plan, name), force_grouping=True)
                self.fields[name].widget.attrs["placeholder"] = _("%(limit)s (plan)") % {"limit": of_plan}

    def clean_subdomain(self) -> str:
        subdomain: str = self.cleaned_data["subdomain"]
        if subdomain in RESERVED_SUBDOMAINS or subdomain.startswith("xn--"):
            raise ValidationError(_("This subdomain is reserved."))
        return subdomain
