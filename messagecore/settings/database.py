"""PostgreSQL and the tenants' schemas."""

from psycopg.conninfo import conninfo_to_dict

from messagecore.settings.env import env

_parts = conninfo_to_dict(env.database_url)

DATABASES = {
    "default": {
        "ENGINE": "tenants.postgresql",
        "NAME": _parts.pop("dbname", "messagecore"),
        "USER": _parts.pop("user", ""),
        "PASSWORD": _parts.pop("password", ""),
        "HOST": _parts.pop("host", ""),
        "PORT": str(_parts.pop("port", "")),
        # Threads live as long as the process (see messagecore.asgi), and so do their connections.
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        # A cursor held open between transactions belongs to a session that a transaction pooler hands on.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {
            **_parts,
            # The extended protocol: one statement a message, so that an injected ';' is an error.
            "server_side_binding": True,
            "application_name": "messagecore",
        },
        "TEST": {"NAME": "test_messagecore"},
    }
}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]

TENANT_MODEL = "tenants.Tenant"
TENANT_DOMAIN_MODEL = "tenants.Domain"
# The schema that every new tenant is a copy of; `manage.py prepare` keeps it migrated.
TENANT_TEMPLATE_SCHEMA = "tenant_template"
TENANT_BASE_DOMAIN = env.base_domain
