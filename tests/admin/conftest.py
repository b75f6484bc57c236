"""Staff with given permissions, signed in to the admin."""

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import translation

from quotas.services.accounts import open_account
from tenants.models import PlatformToken, Tenant


@pytest.fixture(autouse=True)
def _no_standing_tenants(db: None) -> None:
    """These tests name and count every tenant and platform token; those that other tests share, or make where commits
    are real, are away until the rollback."""
    Tenant.objects.all().delete()
    PlatformToken.objects.all().delete()


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    """A request leaves its language on the thread."""
    with translation.override("en"):
        yield


@pytest.fixture
def make_tenant(db) -> Callable[..., Tenant]:
    def make(subdomain: str = "acme", name: str = "Acme", plan: str = "basic") -> Tenant:
        return open_account(name=name, subdomain=subdomain, plan_type=plan).tenant

    return make


@pytest.fixture
def staff(db) -> Callable[..., Client]:
    """A client signed in as staff who has exactly these permissions, written as `tenants.view_tenant`."""

    def sign_in(*permissions: str, superuser: bool = False) -> Client:
        user = get_user_model().objects.create_user(f"staff-{len(permissions)}-{superuser}", is_staff=True)
        user.is_superuser = superuser
        user.save()
        for permission in permissions:
            app_label, codename = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=codename))
        client = Client()
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def boss(staff) -> Client:
    return staff(superuser=True)
