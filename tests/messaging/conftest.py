"""Fixtures of the tests of messaging."""

from pathlib import Path

import pytest
from django.core.files.storage import storages


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file storage of this test's own: the folder that it is."""
    local = storages["default"]
    monkeypatch.setitem(storages._storages, "default", type(local)(location=str(tmp_path)))
    return tmp_path
