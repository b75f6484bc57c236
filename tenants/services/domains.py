"""Adding and removing the host names under which a tenant is reached."""

import ipaddress
import re

from django.conf import settings
from django.db import IntegrityError, transaction

from messagecore.kernel.errors import Conflict, FieldError, ValidationFailed
from tenants.models import Domain, Tenant

MAX_HOST_LENGTH = 253
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class DomainTaken(Conflict):
    """Another tenant, or this one, has the host already."""


class PrimaryDomain(Conflict):
    """The primary domain belongs to the tenant for as long as the tenant exists."""


def normalised_host(text: str) -> str:
    """`text` as a Host header spells it: lower case, no trailing dot. Raises ValidationFailed.

    Addresses and everything at or under the platform's own domain are refused: a request to the platform itself, or
    to a tenant's subdomain, must never be taken for another tenant's.
    """
    host = text.strip().lower().rstrip(".")
    labels = host.split(".")
    if _is_address(host):
        problem = "is an address, not a host name"
    elif len(host) > MAX_HOST_LENGTH or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        problem = "is not a host name such as chat.example.com"
    elif f".{host}".endswith(f".{settings.TENANT_BASE_DOMAIN}"):
        problem = "lies under the platform's own domain"
    else:
        return host
    raise ValidationFailed([FieldError("/domain", problem)])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def add_domain(*, tenant: Tenant, host: str) -> Domain:
    """A further host for `tenant`, known to every process within the cache time of `authentication`.

    Raises ValidationFailed, DomainTaken.
    """
    domain = Domain(tenant=tenant, domain=normalised_host(host), is_primary=False)
    try:
        with transaction.atomic():
            domain.save(force_insert=True)
    except IntegrityError:
        raise DomainTaken("A tenant has this host already.") from None
    return domain


def remove_domain(*, domain: Domain) -> None:
    """Raises PrimaryDomain; the primary one stays."""
    with transaction.atomic():
        locked = Domain.objects.select_for_update().filter(pk=domain.pk).first()
        if locked is None:
            return
        if locked.is_primary:
            raise PrimaryDomain("The primary domain of a tenant cannot be removed.")
        locked.delete()
