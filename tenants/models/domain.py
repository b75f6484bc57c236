"""The hosts under which a tenant is reached."""

from django.utils.translation import gettext_lazy as _
from django_tenants.models import DomainMixin


class Domain(DomainMixin):
    """A host name of a tenant. Its subdomain under the platform's domain is the first and primary one."""

    class Meta:
        ordering = ("domain",)
        verbose_name = _("domain")
        verbose_name_plural = _("domains")

    def __str__(self) -> str:
        return str(self.domain)
