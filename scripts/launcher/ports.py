"""The address of the web server: reading it and finding out, before anything slow, that somebody else has it."""

import errno
import os
import socket
from dataclasses import dataclass

from scripts.launcher.failures import LauncherError


@dataclass(frozen=True, slots=True)
class Address:
    """Where the web server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def address_from_environment() -> Address:
    """HOST (127.0.0.1) and PORT (8000). Raises LauncherError when PORT is no port."""
    raw = os.environ.get("PORT", "").strip() or "8000"
    if not (raw.isascii() and raw.isdecimal()) or not 1 <= int(raw) <= 65_535:
        raise LauncherError(f"PORT must be a number from 1 to 65535, not {raw!r}.")
    return Address(host=os.environ.get("HOST", "").strip() or "127.0.0.1", port=int(raw))


def require_free(address: Address) -> None:
    """Raises LauncherError when the address cannot be listened on, saying why."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the web server does: connections of a run that ended a moment ago do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except socket.gaierror as error:
        raise LauncherError(f"HOST={address.host} is not an address of this machine.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LauncherError(
                f"Port {address.port} is in use by another program.",
                hint=f"Choose another: PORT={_another(address)} scripts/up",
            ) from error
        if error.errno == errno.EACCES:
            raise LauncherError(
                f"Port {address.port} may be used by root only.", hint="Choose one above 1023."
            ) from error
        raise LauncherError(f"{address.host}:{address.port} cannot be listened on: {error.strerror}.") from error


def _another(address: Address) -> int:
    for port in range(address.port + 1, min(address.port + 100, 65_536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    return 8080
