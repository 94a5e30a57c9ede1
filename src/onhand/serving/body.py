"""Reading a request's body: which format, how large, how long it may take."""

import asyncio
from typing import Final, NamedTuple, NoReturn

from starlette.types import Receive, Scope

from onhand.contracts.batch import TooLarge
from onhand.contracts.errors import Invalid
from onhand.serving.problems import HttpError

__all__ = ["Body", "ClientGone", "read_body"]

_NDJSON: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")
_CLOSE: Final = ((b"connection", b"close"),)


class ClientGone(Exception):
    """The client hung up before its request was whole."""


class Body(NamedTuple):
    """The bytes of a request, and whether they are one JSON object a line."""

    content: bytes
    ndjson: bool


async def read_body(scope: Scope, receive: Receive, limit_bytes: int, limit_s: float) -> Body:
    """Read a JSON or NDJSON body.

    Raises `HttpError` 415 for another format or a compressed body and 408 when it comes too
    slowly, `TooLarge` before reading what is declared too large, `ClientGone`.
    """
    ndjson = _check_headers(scope, limit_bytes)
    try:
        async with asyncio.timeout(limit_s):
            content = await _receive_all(receive, limit_bytes)
    except TimeoutError:
        raise HttpError(
            408,
            "slow_body",
            f"The body did not arrive within {limit_s:g} s. Send smaller batches.",
            _CLOSE,
        ) from None
    return Body(content, ndjson)


def _check_headers(scope: Scope, limit_bytes: int) -> bool:
    ndjson = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            ndjson = _is_ndjson(value)
        elif name == b"content-length":
            if not value.isdigit():
                raise Invalid("content_length", "The content-length is not a number.")
            if int(value[:18]) > limit_bytes:
                _refuse_size(limit_bytes)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise HttpError(
                415,
                "content_encoding",
                f"Content-encoding {_shown(value)} is not taken; send the body uncompressed.",
                ((b"accept-encoding", b"identity"),),
            )
    return ndjson


def _is_ndjson(content_type: bytes) -> bool:
    media = content_type.partition(b";")[0].strip().lower()
    if media == b"application/json" or media == b"":
        return False
    if media in _NDJSON:
        return True
    raise HttpError(
        415,
        "content_type",
        f"Content-type {_shown(media)} is not taken; send application/json (an object or an "
        "array) or application/x-ndjson (one object a line).",
    )


async def _receive_all(receive: Receive, limit_bytes: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    content: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return content
    chunks = [content]
    size = len(content)
    while message.get("more_body", False):
        if size > limit_bytes:
            _refuse_size(limit_bytes)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        chunks.append(chunk)
    return b"".join(chunks)


def _refuse_size(limit_bytes: int) -> NoReturn:
    raise TooLarge(
        "body_too_large",
        f"The body is over {limit_bytes} bytes, the most that is taken. Send it in parts.",
    )


def _shown(value: bytes) -> str:
    return repr(value[:60].decode("latin-1"))
