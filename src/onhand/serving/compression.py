"""Compressed bodies, unpacked to no more than a body may hold.

A thousand bytes of gzip can unpack to a megabyte, of zstd to much more; both are unpacked piece
by piece, and given up at the first byte over the limit.
"""

import io
import zlib
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from onhand.contracts.batch import TooLarge
from onhand.contracts.errors import Invalid
from onhand.serving.problems import HttpError

__all__ = ["CODINGS", "unpack"]

_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""The window of zstd is memory that the sender chooses; this is the most the format advises."""


def unpack(coding: str, content: bytes, limit_bytes: int) -> bytes:
    """Return a body as it was before `coding`, a name in `CODINGS`.

    Raises `Invalid` for what is not so coded, `TooLarge` for more than `limit_bytes`.
    """
    return CODINGS[coding](content, limit_bytes)


def _gzip(content: bytes, limit_bytes: int) -> bytes:
    return _inflate(content, limit_bytes, 31, "gzip")


def _deflate(content: bytes, limit_bytes: int) -> bytes:
    return _inflate(content, limit_bytes, 15, "deflate")


def _inflate(content: bytes, limit_bytes: int, window_bits: int, name: str) -> bytes:
    unpacker = zlib.decompressobj(window_bits)
    try:
        plain = unpacker.decompress(content, limit_bytes + 1)
    except zlib.error as error:
        _refuse(name, str(error))
    if len(plain) > limit_bytes:
        _refuse_size(limit_bytes)
    if not unpacker.eof:
        _refuse(name, "it is cut off")
    return plain


def _zstd(content: bytes, limit_bytes: int) -> bytes:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise HttpError(
            415,
            "format_unavailable",
            "zstd needs zstandard on the server: pip install 'onhand[formats]'",
            ((b"accept-encoding", b"gzip, deflate, identity"),),
        ) from None
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    try:
        with unpacker.stream_reader(io.BytesIO(content), read_across_frames=False) as reader:
            if len(reader.read(limit_bytes + 1)) > limit_bytes:
                _refuse_size(limit_bytes)
        whole = unpacker.decompressobj()  # which, unlike the reader, knows where the frame ends
        plain = whole.decompress(content)
    except zstandard.ZstdError as error:
        _refuse("zstd", str(error))
    if not whole.eof:
        _refuse("zstd", "it is cut off")
    return plain


CODINGS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}


def _refuse(name: str, reason: str) -> NoReturn:
    raise Invalid("content_encoding", f"The body is not {name}: {reason[:100]}.") from None


def _refuse_size(limit_bytes: int) -> NoReturn:
    raise TooLarge(
        "body_too_large",
        f"The body unpacks to more than {limit_bytes} bytes, the most that is taken.",
    ) from None
