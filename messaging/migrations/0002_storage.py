"""Room on the pages of rows that every send updates, so that the updates stay out of the indexes (HOT)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial")]
    operations = [
        migrations.RunSQL("ALTER TABLE messaging_conversation SET (fillfactor = 70)", migrations.RunSQL.noop),
        migrations.RunSQL("ALTER TABLE messaging_participant SET (fillfactor = 85)", migrations.RunSQL.noop),
    ]
