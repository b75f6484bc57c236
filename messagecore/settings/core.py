"""Applications, middleware, templates, languages: what makes this a Django project."""

from pathlib import Path

from django.utils.translation import gettext_lazy as _

from messagecore.settings.env import env

BASE_DIR = Path(__file__).resolve().parents[2]
MESSAGECORE_MODE = env.mode
DEBUG = False
DEMO = env.mode == "demo"
HOME = env.home

# django-tenants: what lives in `public`, and what every tenant's schema holds.
SHARED_APPS = [
    # Before django_tenants: the first app with a command of a name wins, and it has a `create_tenant` of its own.
    "tenants",
    "quotas",
    "django_tenants",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "realtime",
    "messagecore",
]
TENANT_APPS = ["messaging"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]

MIDDLEWARE = [
    "messagecore.kernel.api.middleware.RequestContextMiddleware",
    "messagecore.kernel.api.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "messagecore.urls"
ASGI_APPLICATION = "messagecore.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Where the protocol's one catalogue lies; the image copies it beside the code.
PROTOCOL_DIR = BASE_DIR / "docs" / "protocol"
