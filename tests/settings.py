"""The settings under test: the product's own in test mode, with this worker's part of the servers."""

import os
import tempfile
from urllib.parse import urlsplit, urlunsplit

os.environ["MESSAGECORE_MODE"] = "test"


def _own_redis_database(url: str, worker: str) -> str:
    """Each parallel worker flushes and counts in a Redis database of its own; 0 is a run without workers."""
    if not worker:
        return url
    number = int(worker.removeprefix("gw")) % 14 + 1
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if "REDIS_URL" in os.environ:
    os.environ["REDIS_URL"] = _own_redis_database(os.environ["REDIS_URL"], WORKER)

from messagecore.settings import *  # noqa: E402, F403 - the mode must be set before they are read

TEST_DATABASE = f"test_messagecore_{WORKER}" if WORKER else "test_messagecore"

# Nobody listens and nobody is connected, unless a test says otherwise (see the fixtures `announced` and `presence`).
MESSAGECORE_ANNOUNCER = "messaging.ports.NullAnnouncer"
MESSAGECORE_PRESENCE = "tests.ports.FixedPresence"

# Files of this run, gone with it.
_files = tempfile.TemporaryDirectory(prefix="messagecore-files-")
STORAGES["default"]["OPTIONS"]["location"] = _files.name  # noqa: F405

# Staff passwords of tests protect nothing; the real hasher takes a quarter of a second each.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
