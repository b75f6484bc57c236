"""Static files of the pages that we serve, and Django's table of storages."""

from messagecore.settings.core import BASE_DIR
from messagecore.settings.env import env
from messagecore.settings.storage import FILE_STORAGE

STATIC_URL = "/static/"
# The image collects them; elsewhere they are served from where they lie.
STATIC_ROOT = BASE_DIR / "staticfiles" if env.mode == "production" else None
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
WHITENOISE_USE_FINDERS = env.mode != "production"
WHITENOISE_AUTOREFRESH = env.mode == "development"

STORAGES = {
    "default": FILE_STORAGE,
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if env.mode == "production"
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
