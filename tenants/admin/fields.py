"""Form fields for lists that staff write one a line."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from messagecore.kernel import validation
from messagecore.kernel.errors import ValidationFailed

MAX_LINES = 100
_SCOPE = re.compile(r"[a-z_]{1,31}:([a-z_]{1,31}|\*)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class LinesField(forms.Field):
    """A list of texts, one a line. `read_line` normalises one or raises ValueError with the words for staff."""

    def __init__(self, read_line: Callable[[str], str], *, rows: int = 4, **options: Any) -> None:
        self.read_line = read_line
        widget = forms.Textarea(attrs={"rows": rows, "cols": 60, "spellcheck": "false", "class": "vLargeTextField"})
        super().__init__(required=False, widget=widget, **options)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:
        if isinstance(value, list):
            return value
        lines = [line.strip() for line in (value or "").splitlines()]
        read: dict[str, None] = {}  # in order, each once
        problems = []
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                read[self.read_line(line)] = None
            except ValueError as problem:
                problems.append(_("Line %(number)d: %(problem)s") % {"number": number, "problem": problem})
        if len(read) > MAX_LINES:
            problems.append(_("At most %(count)d lines.") % {"count": MAX_LINES})
        if problems:
            raise ValidationError(problems)
        return list(read)


def read_origin(line: str) -> str:
    """An origin as browsers send it: lower case, without a path, without the scheme's own port."""
    origin = line.lower().removesuffix("/")
    scheme = origin.partition("://")[0]
    origin = origin.removesuffix(f":{_DEFAULT_PORTS.get(scheme, '-')}")
    try:
        validation.validate("Origin", origin)
    except ValidationFailed:
        raise ValueError(_("not an origin such as https://app.example.com.")) from None
    return origin


def read_network(line: str) -> str:
    """An address or a network in canonical spelling."""
    try:
        return str(ipaddress.ip_network(line))
    except ValueError:
        raise ValueError(_("not an address or network such as 203.0.113.7 or 203.0.113.0/24.")) from None


def read_scope(line: str) -> str:
    if line != "*" and not _SCOPE.fullmatch(line):
        raise ValueError(_("not a scope such as messages:write or messages:*."))
    return line


def origins_field() -> LinesField:
    return LinesField(
        read_origin,
        label=gettext_lazy("Allowed origins"),
        help_text=gettext_lazy(
            "Browser origins that may call, one a line, such as https://app.example.com. Empty: any."
        ),
    )


def networks_field() -> LinesField:
    return LinesField(
        read_network,
        rows=3,
        label=gettext_lazy("Allowed networks"),
        help_text=gettext_lazy(
            "Addresses or networks that may use the key, one a line, such as 203.0.113.0/24. Empty: any."
        ),
    )


def scopes_field(example: str) -> LinesField:
    return LinesField(
        read_scope,
        rows=3,
        label=gettext_lazy("Scopes"),
        help_text=format_lazy(
            "{} {}", gettext_lazy("What it may do, one a line. Empty: everything. Such as:"), example
        ),
    )
