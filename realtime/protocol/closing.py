"""Why the server ends a connection: the catalogue's close codes, by their names there."""

from enum import IntEnum

from messagecore.kernel import catalogue


class CloseCode(IntEnum):
    SERVICE_RESTART = 1012
    AUTHENTICATION_TIMEOUT = 4001
    REFUSED = 4003
    TOO_SLOW = 4008
    TOKEN_EXPIRED = 4010
    TENANT_INACTIVE = 4011
    BAD_FRAMES = 4013
    TOO_FAST = 4029

    @property
    def reconnect(self) -> bool:
        """Whether the client is to come back by itself."""
        return bool(catalogue.close_codes()[self]["reconnect"])
