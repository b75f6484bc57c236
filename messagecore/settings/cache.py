"""Redis or Valkey: presence, hints, limits, mirrors. Nothing that may not be lost."""

from messagecore.settings.env import env

REDIS_URL = env.redis_url
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": env.redis_url}}
