"""`manage.py prepare`: brings the public schema, the tenant template and every tenant's schema up to date."""

from io import StringIO
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

from tenants.connection import connection
from tenants.models import Tenant

LOCK = 0x4D43_0001  # one preparation at a time in a database


class Command(BaseCommand):
    help = (
        "Migrate the public schema, the tenant template and every tenant. Safe to run again and from several machines."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--template-only", action="store_true", help="leave the tenants' schemas alone")

    def handle(self, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        try:
            self._migrate("public")
            template = settings.TENANT_TEMPLATE_SCHEMA
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(template)).as_string())
            self._migrate(template)
            if not options["template_only"]:
                for schema_name in self._behind(template):
                    self._migrate(schema_name)
        finally:
            connection.set_schema_to_public()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock_all()")

    def _migrate(self, schema_name: str) -> None:
        connection.set_schema(schema_name)
        if not self._is_behind(schema_name):
            return
        self.stdout.write(f"migrating {schema_name}")
        # Without `public` behind it, or the public schema's history would be taken for this one's.
        connection.set_schema(schema_name, include_public=False)
        MigrationRecorder(connection).ensure_schema()
        connection.set_schema(schema_name)
        output = StringIO()
        try:
            call_command(MigrateCommand(), interactive=False, stdout=output)
        except BaseException:
            self.stderr.write(output.getvalue())
            raise

    def _is_behind(self, schema_name: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NULL", [f'"{schema_name}".django_migrations'])
            if cursor.fetchone()[0]:
                return True
        executor = MigrationExecutor(connection)
        return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))

    def _behind(self, template: str) -> list[str]:
        """The tenants whose history lacks something that the template's has: one query for all of them would need
        every schema's table, so a row count decides and the migration itself is exact."""
        connection.set_schema(template)
        wanted = MigrationRecorder(connection).migration_qs.count()
        behind = []
        for schema_name in Tenant.objects.order_by("created_at").values_list("schema_name", flat=True):
            with connection.cursor() as cursor:
                statement = sql.SQL("SELECT count(*) FROM {}.django_migrations").format(sql.Identifier(schema_name))
                cursor.execute(statement.as_string())
                if cursor.fetchone()[0] < wanted:
                    behind.append(schema_name)
        return behind
