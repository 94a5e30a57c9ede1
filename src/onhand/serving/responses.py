"""Answers of the routes whose rate does not matter, and what their query strings may say."""

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onhand.contracts.errors import Invalid
from onhand.contracts.explain import DECODE_ERRORS, explain
from onhand.serving.service import Service

__all__ = ["json_response", "read_object", "read_query"]

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


def json_response(value: Any, status: int = 200, media: str = "application/json") -> Response:
    """Answer a value as JSON."""
    return Response(_encode(value), status, media_type=media)


async def read_object(request: Request, service: Service, type_: type[T]) -> T:
    """Read a JSON body of a type. Raises `Invalid`."""
    content = await service.read_body(request.scope, request.receive)
    try:
        return msgspec.json.decode(content or b"{}", type=type_)
    except DECODE_ERRORS as error:
        fault = explain(error, content)
        raise Invalid(fault.code, fault.message) from None


def read_query(request: Request, type_: type[T]) -> T:
    """Read the query string as a struct that knows its parameters. Raises `Invalid`."""
    try:
        pairs = parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        raise Invalid("not_utf8", "The query string is not UTF-8.") from None
    try:
        return msgspec.convert(dict(pairs), type_, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid("parameter", f"{error}.") from None
