"""The REST client of the tests. Every answer it gets is held to the protocol catalogue before a test sees it."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
from django.http import HttpResponse
from django.test.client import Client, ClientHandler
from django.urls import Resolver404, resolve

from messagecore.kernel import catalogue
from messagecore.kernel.api.operations import ALWAYS_POSSIBLE, Operation
from messagecore.kernel.api.streams import FileStream

PREFIX = "/api/v1"
WITH_BODY = ("unsupported_media_type", "payload_too_large")
# What may be said before a route's own operation is known or reached.
BEFORE_THE_ROUTE = frozenset({"not_found", "method_not_allowed", "bad_request"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: its status, parsed body and headers."""

    status: int
    body: Any
    headers: dict[str, str]
    content: bytes = b""
    """The bytes of a file; what is JSON is in `body`."""

    @property
    def data(self) -> Any:
        """What a success carries."""
        assert self.status < 400, f"refused: {self.status} {self.body}"
        return self.body["data"]

    @property
    def pagination(self) -> dict[str, Any]:
        assert self.status < 400, f"refused: {self.status} {self.body}"
        pagination: dict[str, Any] = self.body["pagination"]
        return pagination

    @property
    def error(self) -> dict[str, Any]:
        """What a failure carries."""
        assert self.status >= 400, f"not refused: {self.status} {self.body}"
        error: dict[str, Any] = self.body["error"]
        return error

    @property
    def code(self) -> str:
        code: str = self.error["code"]
        return code

    @property
    def pointers(self) -> list[str]:
        """The offending fields of a `validation_failed`."""
        return [field["pointer"] for field in self.error["details"].get("fields", [])]

    def refuses(self, status: int, code: str, *pointers: str) -> None:
        """Asserts that this is exactly that refusal, naming these fields if any are given."""
        assert (self.status, self.body["error"]["code"] if self.status >= 400 else self.body) == (status, code)
        if pointers:
            assert self.pointers == list(pointers)


class Api:
    """Calls `/api/v1` as one caller. Paths are given below the prefix: `api.get("/users")`."""

    def __init__(self, headers: dict[str, str] | None = None, address: str = "127.0.0.1") -> None:
        self.headers = dict(headers or {})
        self.address = address
        self._client = Client(raise_request_exception=False, REMOTE_ADDR=address)
        self._client.handler = _handler()

    def with_headers(self, **headers: str) -> "Api":
        """The same caller with more headers: `with_headers(X_Acting_User="ada")`."""
        return Api(self.headers | {name.replace("_", "-"): value for name, value in headers.items()}, self.address)

    def from_address(self, address: str) -> "Api":
        """The same caller, connected from there."""
        return Api(self.headers, address)

    def acting_as(self, any_id: str) -> "Api":
        return self.with_headers(X_Acting_User=any_id)

    def get(self, path: str, query: dict[str, Any] | None = None) -> Answer:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Answer:
        return self.request("POST", path, body=body, query=query)

    def patch(self, path: str, body: Any = None) -> Answer:
        return self.request("PATCH", path, body=body)

    def put(self, path: str, body: Any = None) -> Answer:
        return self.request("PUT", path, body=body)

    def delete(self, path: str, query: dict[str, Any] | None = None) -> Answer:
        return self.request("DELETE", path, query=query)

    def request(self, method: str, path: str, *, body: Any = None, query: dict[str, Any] | None = None) -> Answer:
        """`body` None sends none; anything else is sent as JSON."""
        raw = b"" if body is None else json.dumps(body).encode()
        content_type = None if body is None else "application/json"
        return self.raw(method, path, raw, content_type=content_type, query=query)

    def raw(
        self,
        method: str,
        path: str,
        data: bytes = b"",
        *,
        content_type: str | None = "application/json",
        query: dict[str, Any] | str | None = None,
        prefix: str = PREFIX,
    ) -> Answer:
        """Exactly these bytes, with that content type (None: no such header); checked like every other answer."""
        kwargs: dict[str, Any] = {"CONTENT_TYPE": content_type or ""}
        if isinstance(query, str):
            kwargs["QUERY_STRING"] = query
        elif query is not None:
            kwargs["query_params"] = query
        response = self._client.generic(method, prefix + path, data, headers=self.headers, **kwargs)
        return check(method, prefix + path, response)


@cache
def _handler() -> ClientHandler:
    """One for all clients, as a server has one: making it looks at every static file, 50 ms."""
    return ClientHandler(enforce_csrf_checks=False)


def find_operation(method: str, path: str) -> Operation | None:
    """The declared operation behind a path, None where there is none."""
    try:
        match = resolve(unquote(path))
    except Resolver404:
        return None
    view = getattr(match.func, "view_class", None)
    operation: Operation | None = getattr(getattr(view, method.lower(), None), "operation", None)
    return operation


def view_errors(path: str) -> tuple[str, ...]:
    view = getattr(resolve(unquote(path)).func, "view_class", None)
    errors: tuple[str, ...] = getattr(view, "common_errors", ())
    return errors


def check(method: str, path: str, response: HttpResponse) -> Answer:
    """Holds a response to the operation's declaration: its status is declared, its body fits, its error is listed."""
    headers = dict(response.items())
    where = f"{method} {path} -> {response.status_code}"
    assert headers.get("X-Request-Id"), f"{where}: no X-Request-Id"
    operation = find_operation(method, path)
    if isinstance(response, FileStream):
        assert operation is not None, where
        assert operation.download, f"{where}: no operation declares a file"
        assert response.status_code in operation.statuses, where
        answer = Answer(response.status_code, None, headers, response.getvalue())
        response.source.close()
        return answer
    if not response.content:
        return Answer(response.status_code, None, headers)
    assert headers["Content-Type"] == "application/json", f"{where}: {headers['Content-Type']}"
    body = json.loads(response.content)
    answer = Answer(response.status_code, body, headers)
    if answer.status >= 400:
        _check_failure(where, answer, operation, path)
    else:
        assert operation is not None, f"{where}: no operation declares this"
        assert answer.status in operation.statuses, f"{where}: declared {operation.statuses}"
        _check_fits(where, body, _answer_validator(operation))
    return answer


def _check_failure(where: str, answer: Answer, operation: Operation | None, path: str) -> None:
    _check_fits(where, answer.body, _validator("Failure"))
    error = answer.error
    entry = catalogue.error(error["code"])
    assert answer.status == entry.status, f"{where}: {error['code']} is {entry.status}"
    assert error["retryable"] is entry.retryable, f"{where}: {error['code']}"
    assert error["requestId"] == answer.headers["X-Request-Id"], where
    assert error["code"] != "internal_error", f"{where}: a fault of the server; see the log"
    if operation is None or error["code"] in BEFORE_THE_ROUTE:
        assert error["code"] in BEFORE_THE_ROUTE, f"{where}: {error['code']} without an operation"
        return
    declared = {*ALWAYS_POSSIBLE, *view_errors(path), *operation.errors, *(WITH_BODY if operation.request else ())}
    assert error["code"] in declared, f"{where}: {operation.operation_id} does not declare {error['code']}"


def _check_fits(where: str, body: Any, validator: jsonschema_rs.Draft202012Validator) -> None:
    problems = [f"/{'/'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(body)]
    assert not problems, f"{where} breaks its schema: {problems}"


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/$defs/{name}", "$defs": dict(catalogue.definitions())}, validate_formats=True
    )


def fits(name: str, value: Any) -> None:
    """Asserts that `value` is a `name` of the catalogue."""
    _check_fits(name, value, _validator(name))


@cache
def _answer_validator(operation: Operation) -> jsonschema_rs.Draft202012Validator:
    data: dict[str, Any] = {"$ref": f"#/$defs/{operation.response}"} if operation.response else {"type": "null"}
    properties: dict[str, Any] = {"success": {"const": True}, "data": data}
    if operation.many or operation.listed:
        properties["data"] = {"type": "array", "items": data}
    if operation.many:
        properties["pagination"] = {"$ref": f"#/$defs/{operation.pagination}"}
    return jsonschema_rs.Draft202012Validator(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
            "$defs": dict(catalogue.definitions()),
        },
        validate_formats=True,
    )
