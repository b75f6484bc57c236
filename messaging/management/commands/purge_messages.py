"""`manage.py purge_messages`: what is older than the plans keep goes now, or is counted."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from messaging.services import retention
from quotas.models import Subscription
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Remove what is older than each tenant's plan keeps, as the hourly task does, and print counts per tenant."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SUBDOMAIN", help="only this tenant (default: every one)")
        parser.add_argument("--dry-run", action="store_true", help="count what would go, and write nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        tenants = Tenant.objects.filter(pk__in=Subscription.objects.values("tenant_id")).order_by("subdomain")
        if options["tenant"] is not None:
            tenants = tenants.filter(subdomain=options["tenant"])
            if not tenants.exists():
                raise CommandError(f"There is no tenant with the subdomain {options['tenant']!r}.")
        skipped = 0
        for tenant in tenants:
            now = timezone.now()
            cutoff = retention.cutoff_of(tenant.id, now)
            if options["dry_run"]:
                counts = retention.count(tenant, cutoff=cutoff)
            else:
                counts = retention.purge(tenant, cutoff=cutoff, now=now)
            skipped += counts.skipped
            self.stdout.write(
                f"{tenant.subdomain}: {counts.messages} messages, {counts.events} events, {counts.contents} contents "
                f"in {counts.conversations} conversations"
            )
        if skipped:
            raise CommandError(f"{skipped} conversations were in use; run it again.")
