"""The OpenAPI 3.1 document, generated from the route table, the msgspec types and the contracts."""

from http import HTTPStatus
from typing import Any, Final

import msgspec

from onhand.contracts.json_schema import json_schema, untagged
from onhand.contracts.records import Event
from onhand.contracts.registry import Registry
from onhand.serving.problems import Problem
from onhand.serving.route import JSON, NDJSON, PROBLEM, Answer, Body, Parameter, Route
from onhand.serving.routes import ROUTES

__all__ = ["build_openapi"]

_STANDARD: Final = Registry()
_REF: Final = "#/components/schemas/{name}"


def build_openapi(version: str, registry: Registry = _STANDARD) -> dict[str, Any]:
    """Return the whole document; records are described by the latest contracts."""
    schemas = _Schemas(registry)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Onhand",
            "version": version,
            "summary": "What should this visitor see, right now? Never something that is gone.",
            "description": "Times are RFC 3339 or epoch milliseconds; ids are strings. Errors are "
            "RFC 9457 problem documents that say what is wrong and what to do.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": group} for group in dict.fromkeys(route.group for route in ROUTES)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """All types of the table as JSON schemas, named once; records as their contracts say."""

    def __init__(self, registry: Registry) -> None:
        types = [Problem, *_types_of(ROUTES)]
        found, components = msgspec.json.schema_components(types, ref_template=_REF)
        self._by_type = list(zip(types, found, strict=True))
        self.components = {name: untagged(schema) for name, schema in components.items()}
        latest = [registry.version(name) for name in registry.names]
        for contract in latest:
            described = json_schema(contract, _REF)
            del described["$schema"]
            described.pop("$defs", None)
            self.components[contract.record_name] = described
        self._own = [
            {"$ref": _REF.format(name=contract.record_name)}
            for contract in latest
            if contract.name != contract.kind
        ]

    def of(self, type_: Any) -> dict[str, Any]:
        """The schema of a type of the table."""
        return next(schema for known, schema in self._by_type if known is type_)

    def of_body(self, body: Body) -> dict[str, Any]:
        """The schema of one object of a body, less the fields that the path holds."""
        reference = self.of(body.type)
        if body.type is Event and self._own:
            return {"anyOf": [reference, *self._own]}
        if not body.without:
            return reference
        name = reference["$ref"].rpartition("/")[2]
        whole = self.components[name]
        part = dict(whole, title=f"{name}Body")
        part["properties"] = {
            field: schema
            for field, schema in whole["properties"].items()
            if field not in body.without
        }
        part["required"] = [field for field in whole["required"] if field not in body.without]
        return part


def _types_of(routes: tuple[Route, ...]) -> list[Any]:
    types: list[Any] = []
    for route in routes:
        types.extend(parameter.type for parameter in route.parameters)
        types.extend(answer.type for answer in route.answers.values())
        if route.body is not None:
            types.append(route.body.type)
    return types


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.group],
        "summary": route.summary,
        "description": route.detail,
        "x-curl": _curl(route),
    }
    if route.access:
        operation["security"] = [{"key": []}]
    if route.parameters:
        operation["parameters"] = [_parameter(each, schemas) for each in route.parameters]
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body, schemas)
    responses = {
        str(status): _response(answer, schemas) for status, answer in route.answers.items()
    }
    for status in route.refusals:
        answer = Answer(HTTPStatus(status).phrase, Problem, PROBLEM)
        responses[str(status)] = _response(answer, schemas)
    operation["responses"] = responses
    return operation


def _parameter(parameter: Parameter, schemas: _Schemas) -> dict[str, Any]:
    schema = dict(schemas.of(parameter.type))
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.many:
        schema = {"type": "array", "items": schema}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": schema,
    }


def _request_body(body: Body, schemas: _Schemas) -> dict[str, Any]:
    one = schemas.of_body(body)
    if not body.batch:
        return {"required": True, "content": {JSON: {"schema": one, "example": body.example}}}
    many = {"oneOf": [one, {"type": "array", "items": one}]}
    return {
        "required": True,
        "content": {
            JSON: {"schema": many, "example": [body.example]},
            NDJSON: {"schema": one, "example": body.example},
            **{
                media: {"schema": {"type": "string", "contentEncoding": "binary"}}
                for media in body.media
            },
        },
    }


def _response(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    return {
        "description": answer.description,
        "content": {answer.media: {"schema": schemas.of(answer.type)}},
    }


def _curl(route: Route) -> str:
    """The line to try a route with; `$ONHAND` stands for the server's address."""
    path = route.curl or route.path.format(slot="home", item="85123A", id="85123A")
    line = "curl" if route.method in ("GET", "POST") else f"curl -X {route.method}"
    line += f' "$ONHAND{path}"'
    if route.body is not None:
        example = [route.body.example] if route.body.batch else route.body.example
        data = msgspec.json.encode(example).decode()
        line += f" -H 'content-type: {JSON}' -d '{data}'"
    return line
