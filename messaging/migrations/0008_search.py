from django.contrib.postgres.indexes import GinIndex
from django.db import migrations, models


class Migration(migrations.Migration):
    """What decides who may find a message, beside its words. Nothing has written the table before this."""

    dependencies = [
        ('messaging', '0007_participants_listed'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='searchentry',
            name='search_by_terms',
        ),
        migrations.AddField(
            model_name='searchentry',
            name='conversation_id',
            field=models.UUIDField(default=None),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='searchentry',
            name='sender_id',
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name='searchentry',
            name='seq',
            field=models.BigIntegerField(default=None),
            preserve_default=False,
        ),
        migrations.AddIndex(
            model_name='searchentry',
            index=models.Index(fields=['conversation_id', 'created_at', 'message'], name='search_by_conversation'),
        ),
        migrations.AddIndex(
            model_name='searchentry',
            index=GinIndex(
                fastupdate=True, fields=['terms'], gin_pending_list_limit=512, name='search_by_terms'
            ),
        ),
    ]
