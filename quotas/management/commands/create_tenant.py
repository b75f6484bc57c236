"""`manage.py create_tenant`: a tenant on a plan, with its credentials, shown once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messagecore.kernel import wire
from messagecore.kernel.errors import Refusal
from quotas.services.accounts import open_account


class Command(BaseCommand):
    help = "Create a tenant and print its id and credentials as JSON, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("subdomain")
        parser.add_argument("--plan", default="basic", help="plan type (default basic)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = open_account(name=options["name"], subdomain=options["subdomain"], plan_type=options["plan"])
        except Refusal as refusal:
            raise CommandError(f"{refusal.message} ({refusal.code})") from None
        shown = {
            "id": str(made.tenant.id),
            "subdomain": made.tenant.subdomain,
            "apiKey": made.secret_key.value,
            "publishableKey": made.publishable_key.value,
            "tokenSecret": made.token_secret.value,
        }
        self.stdout.write(wire.dumps(shown).decode())
