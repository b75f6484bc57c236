"""The secrets of a home, made at its first start and kept in a file that only its owner may read."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from scripts.launcher.failures import LauncherError


@dataclass(frozen=True, slots=True)
class Secrets:
    """`secret_key` signs sessions and protects stored keys: with another one, what was stored cannot be used."""

    secret_key: str
    valkey_password: str


def secrets_of(home: Path) -> Secrets:
    """Read `home/secrets.json`, made first when it is missing. Raises LauncherError when it cannot be understood."""
    path = home / "secrets.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Secrets(secret_key=str(found["secretKey"]), valkey_password=str(found["valkeyPassword"]))
    except FileNotFoundError:
        made = Secrets(secret_key=secrets.token_urlsafe(48), valkey_password=secrets.token_hex(24))
        _write(path, made)
        return made
    except (ValueError, KeyError, TypeError) as error:
        raise LauncherError(
            f"{path} cannot be understood ({error}).",
            hint="Put it back from a copy. Without it the stored keys are lost: then remove the whole home.",
        ) from error


def _write(path: Path, made: Secrets) -> None:
    # Whole or not at all: a half-written key would lock the data away.
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        json.dump({"secretKey": made.secret_key, "valkeyPassword": made.valkey_password}, handle, indent=2)
        handle.flush()
        os.fsync(handle.fileno())
    partial.rename(path)
