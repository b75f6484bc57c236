"""The one family of refusals. Rendered once for HTTP (kernel.api.envelope) and once for sockets (realtime).

    Refusal
    ├── InvalidJson, InvalidText, PayloadTooLarge, UnsupportedMediaType
    ├── BadRequest                  what is no sound HTTP: a host that cannot be, a thousand parameters
    ├── ValidationFailed            names the offending fields by JSON pointer
    ├── NotFound                    what the caller may not see is this, too
    ├── PermissionDenied
    ├── Conflict
    ├── RateLimited, ServiceUnavailable
    └── …each app's own, beside the function that raises it

Status, retryability and the default words of every code come from docs/protocol/errors.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from messagecore.kernel import catalogue


@dataclass(frozen=True, slots=True)
class FieldError:
    """One offending field: `pointer` is its JSON pointer in the body, or `/` and the name of a query parameter."""

    pointer: str
    message: str


class Refusal(Exception):
    """A request that MessageCore understands and does not do. `code` is a stable word of the catalogue."""

    code: ClassVar[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        entry = catalogue.error(self.code)
        self.message = message or entry.title
        self.status = entry.status
        self.retryable = entry.retryable
        self.details: dict[str, Any] = dict(details or {})
        self.headers: dict[str, str] = dict(headers or {})
        super().__init__(f"{self.code}: {self.message}")


class InvalidJson(Refusal):
    code = "invalid_json"


class BadRequest(Refusal):
    code = "bad_request"


class PayloadTooLarge(Refusal):
    code = "payload_too_large"


class UnsupportedMediaType(Refusal):
    code = "unsupported_media_type"


class MethodNotAllowed(Refusal):
    code = "method_not_allowed"


class ValidationFailed(Refusal):
    code = "validation_failed"

    def __init__(self, fields: Sequence[FieldError], message: str | None = None) -> None:
        self.fields = tuple(fields)
        super().__init__(
            message or _summary(self.fields),
            details={"fields": [{"pointer": field.pointer, "message": field.message} for field in self.fields]},
        )


def _summary(fields: Sequence[FieldError]) -> str:
    first = fields[0]
    where = first.pointer or "The body"
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return f"{where}: {first.message}{more}"


class InvalidText(ValidationFailed):
    """A NUL character, which no text column can hold."""

    def __init__(self, pointer: str = "") -> None:
        super().__init__([FieldError(pointer, "NUL characters (\\u0000) cannot be stored.")])


class NotFound(Refusal):
    code = "not_found"


class PermissionDenied(Refusal):
    code = "permission_denied"


class Conflict(Refusal):
    code = "conflict"


class RateLimited(Refusal):
    code = "rate_limited"


class ServiceUnavailable(Refusal):
    code = "service_unavailable"
