"""Holding what clients send to the catalogue's schemas."""

from functools import cache
from typing import Any

import jsonschema_rs

from messagecore.kernel import catalogue, wire
from messagecore.kernel.errors import FieldError, ValidationFailed

MAX_REPORTED = 20


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    definitions = dict(catalogue.definitions())
    if name not in definitions:
        raise KeyError(f"docs/protocol defines no {name}")
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/$defs/{name}", "$defs": definitions},
        validate_formats=True,
        formats={"date-time": _is_time},
        mask="the value",
    )


def _is_time(text: str) -> bool:
    """What services can parse: the validator's own check also takes leap seconds and years outside 1 to 9999 in UTC."""
    try:
        wire.parse_timestamp(text)
    except ValueError:
        return False
    return True


def validate(name: str, value: Any) -> None:
    """Returns if `value` is a `name` of the catalogue; raises ValidationFailed naming every offending field (at
    most MAX_REPORTED) otherwise. The messages never quote the value. Cost: a few µs for a message."""
    validator = _validator(name)
    if validator.is_valid(value):
        return
    fields: dict[str, FieldError] = {}
    for error in validator.iter_errors(value):
        for field in _fields(error):
            fields.setdefault(field.pointer + field.message, field)
        if len(fields) >= MAX_REPORTED:
            break
    raise ValidationFailed(list(fields.values())[:MAX_REPORTED])


def _fields(error: jsonschema_rs.ValidationError) -> list[FieldError]:
    """An error about an object's keys is an error of those keys: they are what the caller has to mend."""
    pointer = pointer_to(*error.instance_path)
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        return [FieldError(pointer + pointer_to(name), "is not a known field") for name in kind.unexpected]
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return [FieldError(pointer + pointer_to(kind.property), "is required")]
    return [FieldError(pointer, error.message)]


def pointer_to(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) of what lies at the end of these names and positions."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def without_nulls(body: dict[str, Any]) -> dict[str, Any]:
    """The body without its top-level nulls: an optional field that is null means that it is absent."""
    return {key: value for key, value in body.items() if value is not None}
