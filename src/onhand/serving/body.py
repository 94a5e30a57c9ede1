"""Reading a request's body: which format, how large, how long it may take."""

import asyncio
from typing import Final, NoReturn

from starlette.types import Receive, Scope

from onhand.contracts.batch import TooLarge
from onhand.contracts.errors import Invalid
from onhand.contracts.formats import AVRO, JSON, MEDIA_TYPES, PROTOBUF
from onhand.serving.compression import CODINGS, unpack
from onhand.serving.problems import HttpError

__all__ = ["Body", "ClientGone"]

_CLOSE: Final = ((b"connection", b"close"),)
_UNPACK_ASIDE_BYTES: Final = 32 * 1024
"""A larger compressed body is unpacked on another thread, so that pages go on."""


class ClientGone(Exception):
    """The client hung up before its request was whole."""


class Body:
    """What has come of a request's body, in `content`, and its format.

    `media` is one of `formats.MEDIA_TYPES` when all is well; else what the sender called it, with
    how it is compressed. `whole` says that nothing is missing.
    """

    __slots__ = ("content", "media", "whole")

    def __init__(self) -> None:
        self.content = b""
        self.media = ""
        self.whole = False

    async def read(
        self, scope: Scope, receive: Receive, limit_bytes: int, limit_s: float, binary: bool
    ) -> None:
        """Read a body; `binary` says that Avro and Protobuf may come too.

        Raises `HttpError` 415 for another format and 408 when it comes too slowly, `TooLarge`
        before reading what is declared too large or when it unpacks to too much, `ClientGone`.
        What has come by then is here.
        """
        _check_length(scope, limit_bytes)
        try:
            async with asyncio.timeout(limit_s):
                await self._receive_all(receive, limit_bytes)
        except TimeoutError:
            raise HttpError(
                408,
                "slow_body",
                f"The body did not arrive within {limit_s:g} s. Send smaller batches.",
                _CLOSE,
            ) from None
        finally:
            media, coding = _sent_as(scope)
            self.media = f"{media}; content-encoding={coding}" if coding else media
        known = _media(media, binary)
        if coding:
            self.content = await _unpacked(coding, self.content, limit_bytes)
        self.media = known

    async def _receive_all(self, receive: Receive, limit_bytes: int) -> None:
        chunks: list[bytes] = []
        size = 0
        try:
            while not self.whole:
                if size > limit_bytes:
                    _refuse_size(limit_bytes)
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                self.whole = not message.get("more_body", False)
        finally:
            self.content = chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_length(scope: Scope, limit_bytes: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise Invalid("content_length", "The content-length is not a number.")
            if int(value[:18]) > limit_bytes:
                _refuse_size(limit_bytes)


def _sent_as(scope: Scope) -> tuple[str, str]:
    """Return the content type of a body, without parameters, and how it is compressed."""
    media, coding = JSON, ""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media = value.partition(b";")[0].strip().lower().decode("latin-1")
        elif name == b"content-encoding" and value.lower() != b"identity":
            coding = value.lower().decode("latin-1")
    return media[:100], coding[:100]


async def _unpacked(coding: str, content: bytes, limit_bytes: int) -> bytes:
    if coding not in CODINGS:
        raise HttpError(
            415,
            "content_encoding",
            f"Content-encoding {coding[:60]!r} is not taken; send gzip, deflate, zstd or the plain "
            "body.",
            ((b"accept-encoding", b"gzip, deflate, zstd, identity"),),
        )
    if len(content) > _UNPACK_ASIDE_BYTES:
        return await asyncio.to_thread(unpack, coding, content, limit_bytes)
    return unpack(coding, content, limit_bytes)


def _media(sent_as: str, binary: bool) -> str:
    media = MEDIA_TYPES.get(sent_as)
    if media is None or (media in (AVRO, PROTOBUF) and not binary):
        raise HttpError(
            415,
            "content_type",
            f"Content-type {sent_as[:60]!r} is not taken; send application/json (an object or an "
            "array) or application/x-ndjson (one object a line)"
            + (f", {AVRO} or {PROTOBUF}." if binary else "."),
        )
    return media


def _refuse_size(limit_bytes: int) -> NoReturn:
    raise TooLarge(
        "body_too_large",
        f"The body is over {limit_bytes} bytes, the most that is taken. Send it in parts.",
    )
