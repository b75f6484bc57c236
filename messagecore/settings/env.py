"""The only reader of the environment. Every variable that MessageCore understands is named in this file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from django.core.exceptions import ImproperlyConfigured

Mode = Literal["production", "development", "demo", "test"]
MODES: tuple[Mode, ...] = ("production", "development", "demo", "test")


def _text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def _integer(name: str, default: int, *, minimum: int = 0) -> int:
    raw = _text(name)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {raw!r}") from error
    if value < minimum:
        raise ImproperlyConfigured(f"{name} must be at least {minimum}, not {value}")
    return value


def _flag(name: str, *, default: bool) -> bool:
    raw = _text(name).lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be on or off, not {raw!r}")


def _listed(name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _text(name).split(",") if part.strip())


def _mode() -> Mode:
    raw = _text("MESSAGECORE_MODE", "production")
    if raw not in MODES:
        raise ImproperlyConfigured(f"MESSAGECORE_MODE must be one of {', '.join(MODES)}, not {raw!r}")
    return raw


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says, read once at start."""

    mode: Mode
    secret_key: str
    secret_key_fallbacks: tuple[str, ...]
    database_url: str
    redis_url: str
    broker_url: str
    home: Path
    host: str
    port: int
    web_processes: int
    web_threads: int
    commit_threads: int
    presence_settle_seconds: int
    presence_lease_seconds: int
    presence_grace_seconds: int
    socket_authenticate_seconds: int
    socket_commands_of_tenant: int
    socket_waiting_per_address: int
    socket_deflate: bool
    fallback_max_at_once: int
    socket_queues_mib: int
    base_domain: str
    allowed_hosts: tuple[str, ...]
    trusted_origins: tuple[str, ...]
    trusted_proxies: int
    metrics_token: str
    https_only: bool
    log_level: str
    log_format: str
    file_storage_url: str
    max_upload_bytes: int


def read_environment() -> Environment:
    """Raises ImproperlyConfigured with the variable's name when something is missing or malformed."""
    mode = _mode()
    production = mode == "production"
    secret_key = _text("MESSAGECORE_SECRET_KEY")
    if not secret_key:
        if production:
            raise ImproperlyConfigured(
                "MESSAGECORE_SECRET_KEY is not set. It signs sessions and protects stored keys: "
                "give every process of an installation the same long random value."
            )
        secret_key = "development-only-" + "0" * 48
    redis_url = _text("REDIS_URL", "redis://127.0.0.1:6379/0")
    return Environment(
        mode=mode,
        secret_key=secret_key,
        secret_key_fallbacks=_listed("MESSAGECORE_SECRET_KEY_FALLBACKS"),
        database_url=_text("DATABASE_URL", "postgresql:///messagecore"),
        redis_url=redis_url,
        broker_url=_text("CELERY_BROKER_URL", redis_url),
        home=Path(_text("MESSAGECORE_HOME", str(Path(__file__).resolve().parents[2] / ".messagecore"))),
        host=_text("HOST", "127.0.0.1"),
        port=_integer("PORT", 8000),
        web_processes=_integer("WEB_PROCESSES", 1, minimum=1),
        web_threads=_integer("WEB_THREADS", 8, minimum=1),
        commit_threads=_integer("COMMIT_THREADS", 2, minimum=1),
        presence_settle_seconds=_integer("PRESENCE_SETTLE_SECONDS", 45),
        presence_lease_seconds=_integer("PRESENCE_LEASE_SECONDS", 45, minimum=3),
        presence_grace_seconds=_integer("PRESENCE_GRACE_SECONDS", 15),
        socket_authenticate_seconds=_integer("SOCKET_AUTHENTICATE_SECONDS", 10, minimum=1),
        socket_commands_of_tenant=_integer("SOCKET_COMMANDS_OF_TENANT", 20_000, minimum=1),
        socket_waiting_per_address=_integer("SOCKET_WAITING_PER_ADDRESS", 2000, minimum=1),
        socket_deflate=_flag("SOCKET_DEFLATE", default=False),
        fallback_max_at_once=_integer("FALLBACK_MAX_AT_ONCE", 5000, minimum=1),
        socket_queues_mib=_integer("SOCKET_QUEUES_MIB", 256, minimum=16),
        base_domain=_text("MESSAGECORE_BASE_DOMAIN", "localhost").lower(),
        allowed_hosts=_listed("ALLOWED_HOSTS"),
        trusted_origins=_listed("CSRF_TRUSTED_ORIGINS"),
        trusted_proxies=_integer("TRUSTED_PROXIES", 0),
        metrics_token=_text("METRICS_TOKEN"),
        https_only=_flag("HTTPS_ONLY", default=production),
        log_level=_text("LOG_LEVEL", "INFO").upper(),
        log_format=_text("LOG_FORMAT", "json"),
        file_storage_url=_text("FILE_STORAGE_URL"),
        max_upload_bytes=_integer("MAX_UPLOAD_BYTES", 26214400, minimum=1),
    )


env = read_environment()
