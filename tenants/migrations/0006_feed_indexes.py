from django.db import migrations, models
from django.db.migrations.operations.base import Operation

TABLE = 'public.tenants_outboxevent'


def concurrently(name: str, made: str, state: Operation) -> migrations.SeparateDatabaseAndState:
    """An index made while others write: sends go on. What an interrupted attempt left is taken away first."""
    dropped = f'DROP INDEX CONCURRENTLY IF EXISTS public.{name}'
    return migrations.SeparateDatabaseAndState(
        [migrations.RunSQL([dropped, made], reverse_sql=dropped)],
        [state],
    )


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tenants', '0005_feed'),
    ]

    operations = [
        concurrently(
            'outbox_unnumbered',
            f'CREATE INDEX CONCURRENTLY outbox_unnumbered ON {TABLE} (tenant_id, id) '
            'WHERE feed_seq IS NULL AND seq IS NOT NULL',
            migrations.AddIndex(
                model_name='outboxevent',
                index=models.Index(condition=models.Q(('feed_seq', None), ('seq__isnull', False)), fields=['tenant', 'id'], name='outbox_unnumbered'),
            ),
        ),
        concurrently(
            'outbox_unlogged',
            f'CREATE INDEX CONCURRENTLY outbox_unlogged ON {TABLE} (tenant_id, id) WHERE seq IS NULL',
            migrations.AddIndex(
                model_name='outboxevent',
                index=models.Index(condition=models.Q(('seq', None)), fields=['tenant', 'id'], name='outbox_unlogged'),
            ),
        ),
        concurrently(
            'outbox_feed_seq',
            f'CREATE UNIQUE INDEX CONCURRENTLY outbox_feed_seq ON {TABLE} (tenant_id, feed_seq) '
            'WHERE feed_seq IS NOT NULL',
            migrations.AddConstraint(
                model_name='outboxevent',
                constraint=models.UniqueConstraint(condition=models.Q(('feed_seq__isnull', False)), fields=('tenant', 'feed_seq'), name='outbox_feed_seq'),
            ),
        ),
    ]
