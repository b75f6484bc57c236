"""The pages of docs/reference, rendered from what runs: routes from their operations, roles from their table."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

from messagecore.kernel.api.operations import ALWAYS_POSSIBLE, Operation, Param
from messaging.models import Role
from messaging.roles import ALLOWED_IN_DIRECT, Action, may

FOLDER = Path(settings.PROTOCOL_DIR).parent / "reference"
METHODS = ("get", "post", "put", "patch", "delete")
PREFIX = "api/v1/"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    operation: Operation
    view: Any


def routes() -> list[Route]:
    """Every operation below /api/v1, in the order of the URLs."""
    return [
        Route(method.upper(), _path(pattern), handler.operation, pattern.callback.view_class)
        for pattern in _patterns(get_resolver(), "")
        for method in METHODS
        if (handler := getattr(getattr(pattern.callback, "view_class", None), method, None)) is not None
        and hasattr(handler, "operation")
    ]


@dataclass(frozen=True, slots=True)
class _Pattern:
    route: str
    callback: Any


def _patterns(resolver: Any, prefix: str) -> Iterator[_Pattern]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern, route)
        elif isinstance(pattern, URLPattern) and route.startswith(PREFIX):
            yield _Pattern(route, pattern.callback)


def _path(pattern: _Pattern) -> str:
    parts = pattern.route.removeprefix(PREFIX).split("/")
    return "/" + "/".join("{" + part[1:-1].partition(":")[2] + "}" if part[:1] == "<" else part for part in parts)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head)]
    cells += [["---"] * len(cells[0]), *(list(row) for row in rows)]
    # A bar inside a cell would start another cell.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _ways(security: Iterable[Iterable[str]]) -> str:
    return " or ".join(" and ".join(f"`{name}`" for name in names) for names in security)


def _query(params: Iterable[Param]) -> str:
    return ", ".join(f"`{param.name}`{' (required)' if param.required else ''}" for param in params)


def _body(operation: Operation) -> str:
    if operation.upload:
        return "the file"
    if operation.raw_body is not None:
        return f"`{operation.raw_body}`"
    if operation.request is None:
        return ""
    return f"`{operation.request}`{' (optional)' if operation.optional_body else ''}"


def _answer(operation: Operation) -> str:
    statuses = "/".join(map(str, operation.statuses))
    if operation.download:
        return f"{statuses}: the file"
    if operation.stream:
        return f"{statuses}: a stream of events"
    data = f"`{operation.response}`" if operation.response else "`null`"
    if operation.many:
        data = f"a page of {data}"
    elif operation.listed:
        data = f"a list of {data}"
    return f"{statuses}: {data}"


def render_routes() -> str:
    """docs/reference/routes.md."""
    found = routes()
    sections = []
    described: Any = settings.SPECTACULAR_SETTINGS["TAGS"]
    tags = [tag["name"] for tag in described]
    for tag in sorted({route.operation.tag for route in found}, key=tags.index):
        rows = [
            (
                f"`{route.method} {route.path}`",
                route.operation.summary,
                f"`{route.operation.scope}`" if route.operation.scope else "",
                _query(route.operation.query),
                _body(route.operation),
                _answer(route.operation),
                _codes(route.operation.errors),
            )
            for route in found
            if route.operation.tag == tag
        ]
        sections.append(f"## {tag}\n\n{_table(('route', 'does', 'scope', 'query', 'body', 'data', 'errors'), rows)}")
    common = "\n".join(
        f"- Called with {_ways(security)}: {_codes(errors)}."
        for security, errors in dict.fromkeys((route.view.security, route.view.common_errors) for route in found)
    )
    parts = "\n\n".join(sections)
    return f"""# Routes

Written by `manage.py render_reference` from the operations that answer; do not edit. Paths are below `/api/v1`; `data`
is what stands in the [envelope](../guides/rest.md). Bodies, objects and error codes are described in
[the catalogue](../protocol/README.md); `/api/schema/` serves the same as OpenAPI 3.1.

Besides its own errors every route may answer with these, and one that takes a body with `unsupported_media_type` and
`payload_too_large`:

- {_codes(ALWAYS_POSSIBLE)}.
{common}

{parts}
"""


def render_roles() -> str:
    """docs/reference/roles.md."""
    roles = [str(role) for role in Role]
    rows = [(_words(action), *("yes" if may(role, action) else "" for role in roles)) for action in Action]
    besides = ", ".join(sorted(map(_words, ALLOWED_IN_DIRECT)))
    return f"""# Roles

Written by `manage.py render_reference` from the table that the code asks (`messaging/roles.py`); do not edit.

What each role may do in a conversation. A secret key that acts as nobody may everything that needs no user.

{_table(("action", *roles), rows)}

- Both people of a direct conversation are members, who there may besides: {besides}. It keeps its two people: nobody is
  added, leaves or is removed.
- Whatever their role, people edit and delete their own messages, take their own reactions back, and set for themselves
  what concerns nobody else: read position, mute, pin, archive, hide.
- Only an owner makes somebody owner, and is an admin afterwards. Others do not remove an owner.
"""


def _words(action: Action) -> str:
    return action.value.replace("_", " ")


PAGES: dict[str, Callable[[], str]] = {"routes.md": render_routes, "roles.md": render_roles}
