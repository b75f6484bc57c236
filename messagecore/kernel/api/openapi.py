"""OpenAPI 3.1 from the declared operations and the catalogue (drf-spectacular drives, the catalogue speaks)."""

from typing import Any

from drf_spectacular.openapi import AutoSchema

from messagecore.kernel import catalogue, wire
from messagecore.kernel.api import components
from messagecore.kernel.api.components import reference
from messagecore.kernel.api.operations import ALWAYS_POSSIBLE, Operation, Param

_KINDS: dict[str, dict[str, Any]] = {
    "integer": {"type": "integer"},
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time"},
}


_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


class CatalogueSchema(AutoSchema):
    """Reads what `operation` declared; leaves out views that declare nothing."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Any:
        declared: Operation | None = getattr(getattr(self.view, method.lower(), None), "operation", None)
        if declared is None:
            return None
        rendered: dict[str, Any] = {
            "operationId": declared.operation_id,
            "summary": declared.summary,
            "tags": [declared.tag],
            "parameters": [
                *_path_parameters(path),
                *(_parameter(param, "query") for param in declared.query),
                *(_parameter(param, "header") for param in declared.headers),
            ],
            "responses": _responses(declared, self.view),
            "security": [{name: [] for name in names} for names in getattr(self.view, "security", ())],
        }
        if declared.description:
            rendered["description"] = declared.description
        if declared.scope:
            rendered["x-scope"] = declared.scope
        if declared.request:
            rendered["requestBody"] = {
                "required": not declared.optional_body,
                "content": {"application/json": _body(declared.request)},
            }
        if declared.upload:
            rendered["requestBody"] = {
                "required": True,
                "description": "The bytes of the file. Any media type, but no form.",
                "content": {"application/octet-stream": _BYTES},
            }
        if declared.raw_body:
            rendered["requestBody"] = {"required": True, "content": {declared.raw_body: {"schema": {"type": "string"}}}}
        return rendered


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "The server's id or the integrator's external id, percent-encoded.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
        for name in names
    ]


def _parameter(param: Param, place: str) -> dict[str, Any]:
    schema = dict(_KINDS[param.kind])
    if param.kind == "integer":
        schema |= {"minimum": param.minimum, "maximum": param.maximum}
    if param.kind == "string":
        schema |= {"enum": list(param.choices)} if param.choices else {"minLength": 1, "maxLength": param.maximum}
    if param.default is not None:
        schema["default"] = param.default
    return {
        "name": param.name,
        "in": place,
        "required": param.required,
        "description": param.description,
        "schema": schema,
    }


def _body(name: str) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": reference(name)}
    examples = catalogue.definitions()[name].get("examples", [])
    if examples:
        content["example"] = examples[0]
    return content


def _example(declared: Operation) -> dict[str, Any]:
    """A success as it looks: the catalogue's example in the envelope, the first two of them in a list."""
    if declared.response is None:
        return {"success": True, "data": None}
    examples = catalogue.definitions()[declared.response].get("examples", [])
    if declared.listed:
        return {"success": True, "data": examples[:2]}
    if declared.many:
        pagination = catalogue.definitions()[declared.pagination]["examples"][-1]
        return {"success": True, "data": examples[:2], "pagination": pagination}
    return {"success": True, "data": examples[0]}


def _stream_example() -> str:
    opened = {"type": "authenticated", "data": catalogue.definitions()["AuthenticatedEvent"]["examples"][0]}
    return f"retry: 2500\n\ndata: {wire.dumps(opened).decode()}\n\n:\n\n"


def _responses(declared: Operation, view: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"type": "null"} if declared.response is None else reference(declared.response)
    if declared.listed:
        data = {"type": "array", "items": data}
    properties: dict[str, Any] = {"success": {"const": True}, "data": data}
    required = ["success", "data"]
    if declared.many:
        properties |= {"data": {"type": "array", "items": data}, "pagination": reference(declared.pagination)}
        required.append("pagination")
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    content = {"schema": schema, "example": _example(declared)}
    contents = {"*/*": _BYTES} if declared.download else {"application/json": content}
    if declared.stream:
        contents = {"text/event-stream": {"schema": {"type": "string"}, "example": _stream_example()}}
    answers: dict[str, Any] = {
        str(status): {"description": declared.summary, "content": contents} for status in declared.statuses
    }
    possible = [*ALWAYS_POSSIBLE, *getattr(view, "common_errors", ()), *declared.errors]
    if declared.request:
        possible += ["unsupported_media_type", "payload_too_large"]
    for code in dict.fromkeys(possible):
        entry = catalogue.error(code)
        answer = answers.setdefault(
            str(entry.status),
            {"description": "", "content": {"application/json": {"schema": reference("Failure"), "examples": {}}}},
        )
        answer["description"] += f"{'; ' if answer['description'] else ''}`{code}`: {entry.title}"
        answer["content"]["application/json"]["examples"][code] = {
            "value": {
                "success": False,
                "error": {
                    "code": code,
                    "message": entry.title,
                    "details": {},
                    "requestId": "0192f0c1-7a3b-7c1e-9a55-3c1f0e2d4b6a",
                    "retryable": entry.retryable,
                },
            }
        }
    return answers


def only_api_routes(endpoints: list[Any]) -> list[Any]:
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/v1")]


def add_catalogue(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Adds the catalogue's definitions and the ways to authenticate."""
    described = result.setdefault("components", {})
    described["schemas"] = components.schemas()
    described["securitySchemes"] = {
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": components.KEY_DESCRIPTION,
        },
        "userToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": f"{components.TOKEN_DESCRIPTION}, beside a publishable key.",
        },
        "platformToken": {"type": "http", "scheme": "bearer", "description": "`mc_pt_…`, for platform staff."},
    }
    return result
