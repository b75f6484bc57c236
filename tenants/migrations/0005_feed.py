import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """What is there already is numbered by the sequencer, a batch at a time, in the order in which it was written."""

    dependencies = [
        ('tenants', '0004_storage_removals'),
    ]

    operations = [
        migrations.CreateModel(
            name='Feed',
            fields=[
                ('tenant', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='tenants.tenant')),
                ('last_seq', models.BigIntegerField(default=0)),
                ('purged_seq', models.BigIntegerField(default=0)),
            ],
            options={
                'verbose_name': 'feed',
                'verbose_name_plural': 'feeds',
            },
        ),
        migrations.AddField(
            model_name='outboxevent',
            name='feed_seq',
            field=models.BigIntegerField(help_text="Its place in the tenant's feed.", null=True),
        ),
    ]
