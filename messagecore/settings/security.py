"""Secrets, hosts, cookies, HTTPS."""

from messagecore.settings.env import env

SECRET_KEY = env.secret_key
SECRET_KEY_FALLBACKS = list(env.secret_key_fallbacks)
_local = env.mode != "production"
# A process's own machine may always ask it: that is where the container's health check comes from.
ALLOWED_HOSTS = [*(env.allowed_hosts or ("*" if _local else f".{env.base_domain}",)), "127.0.0.1", "localhost"]
CSRF_TRUSTED_ORIGINS = list(env.trusted_origins)
# How many proxies in front of us append to X-Forwarded-For; 0 means that the header is not believed.
TRUSTED_PROXIES = env.trusted_proxies
METRICS_TOKEN = env.metrics_token

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

SECURE_SSL_REDIRECT = env.https_only
# Probes of the orchestrator and the balancer speak plain HTTP to the process itself.
SECURE_REDIRECT_EXEMPT = [r"^health$", r"^ready$", r"^metrics$"]
SESSION_COOKIE_SECURE = env.https_only
CSRF_COOKIE_SECURE = env.https_only
SESSION_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 31_536_000 if env.https_only else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.https_only
SECURE_HSTS_PRELOAD = env.https_only
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.trusted_proxies else None
X_FRAME_OPTIONS = "DENY"
