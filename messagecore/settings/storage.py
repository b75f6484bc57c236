"""Where tenants' files lie, and how large one may be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from messagecore.settings.env import env

# What the query of a FILE_STORAGE_URL may say, and what the storage classes call it.
_S3_OPTIONS = {"endpoint": "endpoint_url", "region": "region_name", "addressing": "addressing_style"}
_AZURE_OPTIONS = {"connection": "connection_string"}
# Of an object that is read from a store, so much is kept in memory; the rest waits in a temporary file.
_IN_MEMORY_BYTES = 1024 * 1024


def storage_from_url(url: str, home: Path) -> dict[str, Any]:
    """The entry of STORAGES for a FILE_STORAGE_URL; an empty one means the folder `files` under `home`.

    `file:///folder`, `s3://[key:secret@]bucket[/prefix][?endpoint=…&region=…&addressing=path]`,
    `azure://[account[:key]@]container[/prefix][?connection=…]`. Raises ImproperlyConfigured; its words hold no secret.
    """
    parts = urlsplit(url)
    folder = unquote(parts.path)
    if not url or parts.scheme == "file":
        if url and (parts.netloc or not folder.startswith("/") or parts.query):
            raise ImproperlyConfigured("FILE_STORAGE_URL: a folder is file:/// and its absolute path")
        # Nobody but the service itself reads them there.
        options = {
            "location": folder if url else str(home / "files"),
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        }
        return {"BACKEND": "messaging.storage.LocalStorage", "OPTIONS": options}
    if parts.scheme not in {"s3", "azure"} or not parts.hostname:
        raise ImproperlyConfigured("FILE_STORAGE_URL must begin with file:///, s3://bucket or azure://container")
    name, secret = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    common = {"location": folder.strip("/"), "max_memory_size": _IN_MEMORY_BYTES}
    # The host as it was written: urlsplit's own is in lower case, which the names of buckets need not be.
    container = parts.netloc.rpartition("@")[2]
    if parts.scheme == "azure":
        azure = common | {"azure_container": container, "account_name": name, "account_key": secret}
        return {
            "BACKEND": "storages.backends.azure_storage.AzureStorage",
            "OPTIONS": _set(azure | _asked(parts, _AZURE_OPTIONS)),
        }
    s3 = common | {"bucket_name": container, "access_key": name, "secret_key": secret, "default_acl": None}
    return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": _set(s3 | _asked(parts, _S3_OPTIONS))}


def _asked(parts: SplitResult, known: Mapping[str, str]) -> dict[str, str]:
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = asked.keys() - known.keys()
    if unknown:
        raise ImproperlyConfigured(f"FILE_STORAGE_URL: {parts.scheme} has no option {', '.join(sorted(unknown))}")
    return {known[name]: value for name, value in asked.items()}


def _set(options: dict[str, Any]) -> dict[str, Any]:
    """Without what was not given: the libraries look where they always do, at roles and variables of their own."""
    return {name: value for name, value in options.items() if value is not None}


FILE_STORAGE = storage_from_url(env.file_storage_url, env.home)

# Bodies of these routes are files: taken as they come, up to MAX_UPLOAD_BYTES (messagecore/bodies.py).
UPLOAD_PATHS = ("/api/v1/files",)
MAX_UPLOAD_BYTES = env.max_upload_bytes
# Uploads that a process takes in at the same time; each may need MAX_UPLOAD_BYTES of the temporary folder.
MAX_UPLOADS_AT_ONCE = 32
# An upload from which nothing comes for so long is given up.
UPLOAD_IDLE_SECONDS = 30
