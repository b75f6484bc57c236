"""The OpenAPI document: valid 3.1, complete, and true to the operations that answer."""

import json
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, get_resolver
from openapi_spec_validator import OpenAPIV31SpecValidator

from messagecore.kernel import catalogue
from messagecore.kernel.api.operations import ALWAYS_POSSIBLE

METHODS = ("get", "post", "put", "patch", "delete")


@cache
def document() -> dict[str, Any]:
    response = Client().get("/api/schema/")
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(response.content)
    return found


def _operations() -> list[Any]:
    found = []
    included = [pattern for pattern in get_resolver().url_patterns if str(pattern.pattern).startswith("api/v1/")]
    assert [str(resolver.pattern) for resolver in included] == ["api/v1/", "api/v1/realtime/"]
    for resolver, pattern in [(one, pattern) for one in included for pattern in one.url_patterns]:
        assert isinstance(pattern, URLPattern)
        parts = (str(resolver.pattern).removeprefix("api/v1/") + str(pattern.pattern)).split("/")
        named = ["{" + part.strip("<>").partition(":")[2] + "}" if part.startswith("<") else part for part in parts]
        path = "/api/v1/" + "/".join(named)
        view = pattern.callback.view_class
        for method in METHODS:
            handler = getattr(view, method, None)
            if handler is not None:
                found.append(pytest.param(path, method, view, id=f"{method.upper()} {path}"))
    return found


OPERATIONS = _operations()


def test_the_document_is_openapi_3_1() -> None:
    assert document()["openapi"].startswith("3.1")
    problems = [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()]
    assert problems == []


def test_it_has_our_routes_and_nothing_else() -> None:
    described = {(path, method) for path, item in document()["paths"].items() for method in item if method in METHODS}
    assert described == {(param.values[0], param.values[1]) for param in OPERATIONS}


def test_operation_ids_differ() -> None:
    names = [operation["operationId"] for item in document()["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


def test_every_definition_of_the_catalogue_is_a_component() -> None:
    assert set(document()["components"]["schemas"]) == set(catalogue.definitions())


@pytest.mark.parametrize(("path", "method", "view"), OPERATIONS)
def test_an_operation_is_described_whole(path: str, method: str, view: Any) -> None:
    declared = getattr(view, method).operation
    described = document()["paths"][path][method]
    assert described["summary"]
    assert described["tags"]
    assert described["security"], "it says how to authenticate"
    assert ("requestBody" in described) is bool(declared.request or declared.upload or declared.raw_body)
    parameters = {(parameter["in"], parameter["name"]) for parameter in described["parameters"]}
    in_path = {("path", part[1:-1]) for part in path.split("/") if part.startswith("{")}
    in_headers = {("header", param.name) for param in declared.headers}
    assert parameters == in_path | in_headers | {("query", param.name) for param in declared.query}
    assert {str(status) for status in declared.statuses} <= set(described["responses"])
    possible = {*ALWAYS_POSSIBLE, *view.common_errors, *declared.errors}
    if declared.request:
        possible |= {"unsupported_media_type", "payload_too_large"}
    shown = {
        code: status
        for status, response in described["responses"].items()
        for code in response["content"].get("application/json", {}).get("examples", {})
    }
    assert shown == {code: str(catalogue.error(code).status) for code in possible}


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """For a schema of the document, its references resolved inside it."""
    inside = json.loads(schema.replace("#/components/schemas/", "#/$defs/"))
    components = json.loads(
        json.dumps(document()["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/")
    )
    return jsonschema_rs.Draft202012Validator({"allOf": [inside], "$defs": components}, validate_formats=True)


def _examples(content: dict[str, Any]) -> list[Any]:
    return [example["value"] for example in content.get("examples", {}).values()] + (
        [content["example"]] if "example" in content else []
    )


@pytest.mark.parametrize(("path", "method", "view"), OPERATIONS)
def test_every_example_fits_its_schema(path: str, method: str, view: Any) -> None:
    described = document()["paths"][path][method]
    declared = getattr(view, method).operation
    contents = [
        response["content"]["application/json"]
        for status, response in described["responses"].items()
        if not ((declared.download or declared.stream) and int(status) in declared.statuses)
    ]
    if declared.request is not None:
        contents.append(described["requestBody"]["content"]["application/json"])
        assert _examples(contents[-1]), "a body has an example"
    checked = 0
    for content in contents:
        for example in _examples(content):
            problems = [error.message for error in _validator(json.dumps(content["schema"])).iter_errors(example)]
            assert problems == []
            checked += 1
    assert checked >= len(ALWAYS_POSSIBLE)


@pytest.mark.parametrize(("path", "method", "view"), OPERATIONS)
def test_every_success_has_an_example(path: str, method: str, view: Any) -> None:
    declared = getattr(view, method).operation
    for status in declared.statuses:
        if declared.download:
            contents = document()["paths"][path][method]["responses"][str(status)]["content"]
            assert contents == {"*/*": {"schema": {"type": "string", "format": "binary"}}}
            continue
        kind = "text/event-stream" if declared.stream else "application/json"
        content = document()["paths"][path][method]["responses"][str(status)]["content"][kind]
        assert _examples(content)


def test_query_parameters_show_their_bounds_and_defaults() -> None:
    history = document()["paths"]["/api/v1/messages/conversations/{conversationId}"]["get"]
    limit = next(parameter["schema"] for parameter in history["parameters"] if parameter["name"] == "limit")
    assert limit == {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}


def test_the_ways_to_authenticate_are_described() -> None:
    assert set(document()["components"]["securitySchemes"]) == {"apiKey", "userToken", "platformToken"}
    platform = document()["paths"]["/api/v1/admin/tenants"]["post"]["security"]
    assert platform == [{"platformToken": []}]
    send = document()["paths"]["/api/v1/messages/send"]["post"]["security"]
    assert send == [{"apiKey": []}, {"apiKey": [], "userToken": []}]


def test_the_docs_page_comes_from_this_server() -> None:
    page = Client().get("/api/docs/")
    assert page.status_code == 200
    text = page.content.decode()
    assert "/api/schema/" in text
    assert "https://" not in text.replace("https://github.com", ""), "no script from elsewhere"


def test_only_uploads_may_have_large_bodies() -> None:
    uploads = {path for path, method, view in (p.values for p in OPERATIONS) if getattr(view, method).operation.upload}
    assert uploads == set(settings.UPLOAD_PATHS)
