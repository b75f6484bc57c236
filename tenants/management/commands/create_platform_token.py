"""`manage.py create_platform_token`: a token for platform staff or a script, shown once."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from tenants.services.keys import create_platform_token


class Command(BaseCommand):
    help = "Create a platform token (mc_pt_…) and print it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="who or what will hold it")
        parser.add_argument("--scope", action="append", default=[], help="may be given several times; none: all")
        parser.add_argument("--days", type=int, default=90, help="days until it expires (default 90)")

    def handle(self, *args: Any, **options: Any) -> None:
        expires_at = timezone.now() + timedelta(days=options["days"])
        token = create_platform_token(name=options["name"], scopes=options["scope"], expires_at=expires_at)
        self.stdout.write(token.value)
