"""The plans that an installation begins with. Staff edit the rows afterwards; this never changes them again."""

from django.db import migrations

GIB = 1024**3
PLANS = [
    ("basic", "Basic", 100, 10_000, 30, 5 * GIB, 200),
    ("pro", "Pro", 1_000, 100_000, 90, 100 * GIB, 2_000),
    ("enterprise", "Enterprise", 10_000, 1_000_000, 365, 1024 * GIB, 20_000),
]


def add_plans(apps, schema_editor):
    Plan = apps.get_model("quotas", "Plan")
    for position, (plan_type, name, users, messages, days, storage, connections) in enumerate(PLANS):
        Plan.objects.get_or_create(
            plan_type=plan_type,
            defaults={
                "name": name,
                "max_users": users,
                "max_messages": messages,
                "retention_days": days,
                "max_storage_bytes": storage,
                "max_connections": connections,
                "position": position,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("quotas", "0001_initial")]
    operations = [
        migrations.RunPython(add_plans, migrations.RunPython.noop),
        # Rows that every send updates: room on the page keeps those updates out of the indexes.
        migrations.RunSQL("ALTER TABLE quotas_monthlyusage SET (fillfactor = 50)", migrations.RunSQL.noop),
    ]
