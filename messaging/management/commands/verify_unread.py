"""`manage.py verify_unread`: every member's unread count beside the one counted from the log, and mended on demand."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.services.verification import Checked, verify_unread
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Compare every member's unread count with the log's; exits with 1 when one differs and is not repaired."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SUBDOMAIN", help="only this tenant (default: every one)")
        parser.add_argument("--repair", action="store_true", help="mend what differs")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = Tenant.objects.order_by("created_at", "id")
        if options["tenant"] is not None:
            wanted = wanted.filter(subdomain=options["tenant"])
        tenants = list(wanted)
        if not tenants and options["tenant"] is not None:
            raise CommandError(f"There is no tenant with the subdomain {options['tenant']!r}.")
        conversations = members = wrong = repaired = 0
        for tenant in tenants:
            for checked in verify_unread(tenant, repair=options["repair"]):
                conversations += 1
                members += checked.members
                wrong += len(checked.drifts)
                repaired += len(checked.drifts) if checked.repaired else 0
                self._report(tenant.subdomain, checked)
        self.stdout.write(
            f"{len(tenants)} tenants, {conversations} conversations, {members} members: "
            f"{wrong} wrong numbers, {repaired} of them repaired."
        )
        if wrong > repaired:
            hint = "" if options["repair"] else "; --repair mends them"
            raise CommandError(f"{wrong - repaired} numbers differ from the log{hint}.")

    def _report(self, subdomain: str, checked: Checked) -> None:
        for drift in checked.drifts:
            who = "" if drift.user_id is None else f" user {drift.user_id}"
            if drift.kind == "unread_index":
                what = f"{drift.stored} messages have a wrong unread_index"
            else:
                what = f"{drift.kind} is {drift.stored}, the log says {drift.counted}"
            done = " (repaired)" if checked.repaired else ""
            self.stdout.write(f"{subdomain}: conversation {drift.conversation_id}{who}: {what}{done}")
