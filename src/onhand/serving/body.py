"""Reading a request's body: which format, how large, how long it may take."""

import asyncio
from typing import Final, NamedTuple, NoReturn

from starlette.types import Receive, Scope

from onhand.contracts.batch import TooLarge
from onhand.contracts.errors import Invalid
from onhand.contracts.formats import AVRO, JSON, MEDIA_TYPES, PROTOBUF
from onhand.serving.compression import CODINGS, unpack
from onhand.serving.problems import HttpError

__all__ = ["Body", "ClientGone", "read_body"]

_CLOSE: Final = ((b"connection", b"close"),)
_UNPACK_ASIDE_BYTES: Final = 32 * 1024
"""A larger compressed body is unpacked on another thread, so that pages go on."""


class Body(NamedTuple):
    """The bytes of a request, unpacked, and their format: one of `formats.MEDIA_TYPES`."""

    content: bytes
    media: str


class ClientGone(Exception):
    """The client hung up before its request was whole."""


async def read_body(
    scope: Scope, receive: Receive, limit_bytes: int, limit_s: float, binary: bool = False
) -> Body:
    """Read a body; `binary` says that Avro and Protobuf may come too.

    Raises `HttpError` 415 for another format and 408 when it comes too slowly, `TooLarge` before
    reading what is declared too large or when it unpacks to too much, `ClientGone`.
    """
    media, coding = _check_headers(scope, limit_bytes, binary)
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
    if coding and len(content) > _UNPACK_ASIDE_BYTES:
        content = await asyncio.to_thread(unpack, coding, content, limit_bytes)
    elif coding:
        content = unpack(coding, content, limit_bytes)
    return Body(content, media)


def _check_headers(scope: Scope, limit_bytes: int, binary: bool) -> tuple[str, str]:
    """Return the format of a body and how it is compressed."""
    media, coding = JSON, ""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media = _media(value, binary)
        elif name == b"content-length":
            if not value.isdigit():
                raise Invalid("content_length", "The content-length is not a number.")
            if int(value[:18]) > limit_bytes:
                _refuse_size(limit_bytes)
        elif name == b"content-encoding" and value.lower() != b"identity":
            coding = value.lower().decode("latin-1")
            if coding not in CODINGS:
                raise HttpError(
                    415,
                    "content_encoding",
                    f"Content-encoding {_shown(value)} is not taken; send gzip, deflate, zstd or "
                    "the plain body.",
                    ((b"accept-encoding", b"gzip, deflate, zstd, identity"),),
                )
    return media, coding


def _media(content_type: bytes, binary: bool) -> str:
    name = content_type.partition(b";")[0].strip().lower().decode("latin-1")
    media = MEDIA_TYPES.get(name)
    if media is None or (media in (AVRO, PROTOBUF) and not binary):
        raise HttpError(
            415,
            "content_type",
            f"Content-type {_shown(name.encode('latin-1'))} is not taken; send application/json "
            "(an object or an array) or application/x-ndjson (one object a line)"
            + (f", {AVRO} or {PROTOBUF}." if binary else "."),
        )
    return media


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
