"""FILE_STORAGE_URL: what each form becomes, and that the storage classes take it."""

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage.handler import StorageHandler

from messagecore.settings.storage import storage_from_url

HOME = Path("/home-of-it")
LOCAL = "messaging.storage.LocalStorage"
S3 = "storages.backends.s3.S3Storage"
AZURE = "storages.backends.azure_storage.AzureStorage"
PRIVATE = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}


@pytest.mark.parametrize(
    ("url", "backend", "options"),
    [
        ("", LOCAL, {"location": "/home-of-it/files", **PRIVATE}),
        ("file:///srv/our%20files", LOCAL, {"location": "/srv/our files", **PRIVATE}),
        ("s3://Bucket.name", S3, {"bucket_name": "Bucket.name", "location": "", "default_acl": None}),
        (
            "s3://AK%2FID:se%2Fcret%40@bucket/deep/prefix/?endpoint=https://s3.example.com:9000&region=eu&addressing=path",
            S3,
            {
                "bucket_name": "bucket",
                "location": "deep/prefix",
                "access_key": "AK/ID",
                "secret_key": "se/cret@",
                "endpoint_url": "https://s3.example.com:9000",
                "region_name": "eu",
                "addressing_style": "path",
            },
        ),
        (
            "azure://account:a2V5@container/prefix",
            AZURE,
            {
                "azure_container": "container",
                "location": "prefix",
                "account_name": "account",
                "account_key": "a2V5",
            },
        ),
        (
            "azure://container?connection=UseDevelopmentStorage%3Dtrue",
            AZURE,
            {"azure_container": "container", "connection_string": "UseDevelopmentStorage=true"},
        ),
    ],
)
def test_a_url_names_a_storage(url: str, backend: str, options: dict[str, Any]) -> None:
    entry = storage_from_url(url, HOME)
    assert entry["BACKEND"] == backend
    given = entry["OPTIONS"]
    assert given.items() >= {name: value for name, value in options.items() if value is not None}.items()
    made: Any = StorageHandler({"default": entry})["default"]
    for name, value in given.items():
        attribute = f"_{name}" if name.endswith("permissions_mode") else name
        assert getattr(made, attribute) == value, "the class knows the option by this name"
    if backend != LOCAL:
        assert made.max_memory_size == 1024 * 1024, "a large object is read through the disk"


@pytest.mark.parametrize(
    "url",
    [
        "/srv/files",
        "file://srv/files",
        "file:relative",
        "file:///srv?x=1",
        "s3://",
        "s3:///key",
        "azure://",
        "ftp://host/x",
        "s3://b?colour=red",
        "azure://c?region=eu",
    ],
)
def test_any_other_url_ends_the_start(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="FILE_STORAGE_URL"):
        storage_from_url(url, HOME)


def test_what_is_wrong_is_said_without_the_secret() -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        storage_from_url("s3://key:very-secret@bucket?endpont=x", HOME)
    assert "endpont" in str(raised.value)
    assert "very-secret" not in str(raised.value)
