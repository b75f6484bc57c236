"""One REST operation: what it takes, what it answers, and the thin view around one call into a service."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from messagecore.kernel import validation, wire
from messagecore.kernel.api import envelope
from messagecore.kernel.api.later import Later, LaterResponse
from messagecore.kernel.api.paging import Page
from messagecore.kernel.api.streams import FileStream
from messagecore.kernel.api.waiting import NotYet, WaitingResponse
from messagecore.kernel.errors import FieldError, InvalidText, Refusal, UnsupportedMediaType, ValidationFailed
from messagecore.kernel.validation import pointer_to

ALWAYS_POSSIBLE = (
    "bad_request",
    "invalid_json",
    "not_found",
    "validation_failed",
    "internal_error",
    "service_unavailable",
)

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter. `minimum` and `maximum` bound integers; strings are 1-`maximum` characters."""

    name: str
    kind: Literal["integer", "string", "boolean", "timestamp"] = "string"
    default: Any = None
    minimum: int = 0
    maximum: int = 255
    choices: tuple[str, ...] = ()
    description: str = ""
    required: bool = False

    def parse(self, text: str) -> Any:
        """Raises ValueError with words for the caller."""
        if "\0" in text:
            raise ValueError("must not hold NUL characters")
        if self.kind == "integer":
            if not _WHOLE_NUMBER.fullmatch(text):
                raise ValueError("must be a whole number")
            number = int(text)
            if not self.minimum <= number <= self.maximum:
                raise ValueError(f"must be between {self.minimum} and {self.maximum}")
            return number
        if self.kind == "boolean":
            if text not in {"true", "false"}:
                raise ValueError("must be true or false")
            return text == "true"
        if self.kind == "timestamp":
            try:
                return wire.parse_timestamp(text)
            except ValueError:
                raise ValueError("must be an RFC 3339 time, such as 2026-01-31T08:00:00.000Z") from None
        if self.choices and text not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        if not 1 <= len(text) <= self.maximum:
            raise ValueError(f"must be 1 to {self.maximum} characters")
        return text


CURSOR = Param("cursor", maximum=1024, description="`pagination.nextCursor` of the page before.")


def limit_param(default: int = 50, maximum: int = 100) -> Param:
    return Param("limit", "integer", default=default, minimum=1, maximum=maximum, description="Rows on a page.")


@dataclass(frozen=True, slots=True)
class Operation:
    """The declaration that validation and OpenAPI share."""

    operation_id: str
    summary: str
    tag: str
    request: str | None = None
    response: str | None = None
    many: bool = False
    statuses: tuple[int, ...] = (200,)
    errors: tuple[str, ...] = ()
    query: tuple[Param, ...] = ()
    scope: str | None = None
    description: str = ""
    optional_body: bool = False
    listed: bool = False
    upload: bool = False
    download: bool = False
    raw_body: str | None = None
    pagination: str = "Pagination"
    stream: bool = False
    headers: tuple[Param, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler gets: the parsed, validated request. `caller` is whatever authentication found; `body` is an
    object, save where the operation's definition takes a list."""

    request: Request
    caller: Any
    body: Any
    query: Mapping[str, Any]
    now: datetime
    operation: Operation


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler returns when 200 with data is not the whole story."""

    data: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class ApiView(APIView):
    """Base of every view under /api. Subclasses write handlers decorated with `operation`."""

    metadata_class = None  # DRF would answer OPTIONS with a description of its own, outside the envelope

    @contextmanager
    def entered(self, call: Call) -> Iterator[None]:
        """Surrounds the handler: permission before it, a tenant's scope around it. The answer is rendered after."""
        yield

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return super().perform_content_negotiation(request, force=True)


def operation(
    operation_id: str,
    *,
    summary: str,
    tag: str,
    request: str | None = None,
    response: str | None = None,
    many: bool = False,
    statuses: Sequence[int] = (200,),
    errors: Sequence[str] = (),
    query: Sequence[Param] = (),
    scope: str | None = None,
    description: str = "",
    optional_body: bool = False,
    listed: bool = False,
    upload: bool = False,
    download: bool = False,
    raw_body: str | None = None,
    pagination: str = "Pagination",
    stream: bool = False,
    headers: Sequence[Param] = (),
) -> Callable[[Callable[..., Any]], Callable[..., HttpResponseBase]]:
    """Makes `handler(self, call, **path) -> data | Reply | Page | NotYet | Later | Refusal | FileStream` a DRF method
    with a documented contract.

    A Refusal that is raised undoes what the handler wrote; one that is returned is answered after the commit.

    `request` and `response` name definitions of the catalogue; `many` says that the answer is a page of them, with a
    `pagination` of that definition; `listed` that it is a plain list; `scope` is the key scope that it needs, which the
    app's view class checks;
    `optional_body`: a request without a body counts as `{}`. `upload`: the body is a file's bytes, which the handler
    reads (its path belongs in UPLOAD_PATHS); `download`: the answer is such bytes. `raw_body`: the media type of
    a body that the handler reads itself, in memory (where it may be large, its path belongs in LARGER_BODIES).
    `stream`: the answer is an event stream. `headers` are those that the handler reads besides the credentials.
    """
    declared = Operation(
        operation_id=operation_id,
        summary=summary,
        tag=tag,
        request=request,
        response=response,
        many=many,
        statuses=tuple(statuses),
        errors=tuple(errors),
        query=tuple(query),
        scope=scope,
        description=description,
        optional_body=optional_body,
        listed=listed,
        upload=upload,
        download=download,
        raw_body=raw_body,
        pagination=pagination,
        stream=stream,
        headers=tuple(headers),
    )

    def decorate(handler: Callable[..., Any]) -> Callable[..., HttpResponseBase]:
        @functools.wraps(handler)
        def method(self: ApiView, request: Request, **path: str) -> HttpResponseBase:
            call = Call(
                request=request,
                caller=request.user,
                body=_parse_body(request, declared),
                query=_parse_query(request, declared),
                now=timezone.now(),
                operation=declared,
            )
            with self.entered(call):
                result = handler(self, call, **path)
            if isinstance(result, Refusal):
                raise result
            return _respond(result)

        method.operation = declared  # type: ignore[attr-defined]  # read by tests and by the isolation list
        return extend_schema(operation_id=operation_id, summary=summary, tags=[tag])(method)

    return decorate


def _parse_body(request: Request, declared: Operation) -> dict[str, Any] | list[Any]:
    if declared.request is None:
        return {}
    if declared.optional_body and not request.body:
        return {}
    if (request.content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType
    validation.validate(declared.request, request.data)
    return request.data if isinstance(request.data, list) else validation.without_nulls(request.data)


def _parse_query(request: Request, declared: Operation) -> dict[str, Any]:
    given = request.query_params
    known = {param.name: param for param in declared.query}
    wrong: list[FieldError] = []
    parsed: dict[str, Any] = {name: param.default for name, param in known.items()}
    for name in given:
        values = given.getlist(name)
        if name not in known:
            if "\0" in name:
                raise InvalidText
            wrong.append(FieldError(pointer_to(name), "is not a known query parameter"))
        elif len(values) > 1:
            wrong.append(FieldError(pointer_to(name), "is given more than once"))
        else:
            try:
                parsed[name] = known[name].parse(values[0])
            except ValueError as error:
                wrong.append(FieldError(pointer_to(name), str(error)))
    wrong += [
        FieldError(pointer_to(name), "is required") for name, p in known.items() if p.required and name not in given
    ]
    if wrong:
        raise ValidationFailed(wrong[: validation.MAX_REPORTED])
    return parsed


def _respond(result: Any) -> HttpResponseBase:
    if isinstance(result, FileStream):
        return result
    if isinstance(result, Later):
        return LaterResponse(result)
    if isinstance(result, NotYet):
        return WaitingResponse(envelope.success(result.page.data, result.page.pagination), result.awaited)
    if isinstance(result, Page):
        return Response(envelope.success(result.data, result.pagination))
    if isinstance(result, Reply):
        return Response(envelope.success(result.data), status=result.status, headers=dict(result.headers))
    return Response(envelope.success(result))
