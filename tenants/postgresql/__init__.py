"""The database engine: django-tenants' own, with the schema set for one transaction instead of for the session."""
