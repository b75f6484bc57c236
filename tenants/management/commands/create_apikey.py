"""`manage.py create_apikey`: a new key for a tenant, shown once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from tenants.models import KeyKind, Tenant
from tenants.services.keys import create_api_key


class Command(BaseCommand):
    help = "Create an API key for a tenant and print it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("subdomain")
        parser.add_argument("--kind", choices=KeyKind.values, default=KeyKind.SECRET)
        parser.add_argument("--name", default="default")
        parser.add_argument("--scope", action="append", default=[], help="may be given several times; none: all")
        parser.add_argument("--expires-at", help="such as 2027-01-31T00:00:00Z")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(subdomain=options["subdomain"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant with the subdomain {options['subdomain']!r}.")
        expires_at = None
        if options["expires_at"]:
            expires_at = parse_datetime(options["expires_at"])
            if expires_at is None or expires_at.tzinfo is None:
                raise CommandError("--expires-at needs a date, a time and an offset, such as 2027-01-31T00:00:00Z.")
        key = create_api_key(
            tenant=tenant, kind=options["kind"], name=options["name"], scopes=options["scope"], expires_at=expires_at
        )
        self.stdout.write(key.value)
