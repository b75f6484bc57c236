"""Static files, and where tenants' files go (django-storages)."""

import json

from messagecore.settings.core import BASE_DIR
from messagecore.settings.env import env

STATIC_URL = "/static/"
# The image collects them; elsewhere they are served from where they lie.
STATIC_ROOT = BASE_DIR / "staticfiles" if env.mode == "production" else None
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
WHITENOISE_USE_FINDERS = env.mode != "production"
WHITENOISE_AUTOREFRESH = env.mode == "development"

_local = env.storage_backend == "django.core.files.storage.FileSystemStorage"
STORAGES = {
    "default": {
        "BACKEND": env.storage_backend,
        "OPTIONS": json.loads(env.storage_options or "{}") or ({"location": str(env.home / "files")} if _local else {}),
    },
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if env.mode == "production"
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
