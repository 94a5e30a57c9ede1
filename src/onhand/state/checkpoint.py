"""The checkpoint file: all state as of one offset, so that a start folds only the log's tail.

    <hash of the schema>/<offset, 20 digits>.checkpoint:
        magic      8 bytes
        content    the bytes of every array, then of every value, one after the other
        footer     MessagePack: offset, schema, crc32 of the content, and each part's name,
                   dtype and shape (arrays) or length (values), in the order of the content
        tail       length of the footer (8 bytes), BLAKE2b-256 of magic + footer, magic again

The footer comes last so that each array is hashed and written in one pass, straight from its
memory. crc32 runs at 3.6 GB/s here, BLAKE2b at 0.8: the disk, not the checksum, sets the pace.

A file appears under its name only when it is whole (written aside, fsynced, renamed). Nothing in
it is code. A checkpoint is never needed, only faster: one that cannot be trusted is passed over,
and the log has everything. Those of two schemas stand side by side, so that a new version of the
app can be prepared while the old one serves, and the old one can be started again.
"""

import hashlib
import logging
import math
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Checkpoint", "load_latest", "save"]

_MAGIC = b"ONHDCKP1"
_DIGEST_BYTES = 32
_TAIL_BYTES = 8 + _DIGEST_BYTES + len(_MAGIC)
_CHUNK_BYTES = 1 << 20  # hashed while still in the processor's cache, then written
_KEEP = 2

_logger = logging.getLogger(__name__)

Array = NDArray[np.generic]


class Checkpoint(NamedTuple):
    """State as of `offset`. The arrays are the reader's own, and writable: the file is mapped, and
    what is written to them stays in memory."""

    offset: int
    arrays: dict[str, Array]
    values: dict[str, bytes]


class _ArrayPart(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: tuple[int, ...]


class _ValuePart(msgspec.Struct, array_like=True):
    name: str
    length: int


class _Footer(msgspec.Struct):
    offset: int
    schema: str
    crc: int
    arrays: list[_ArrayPart]
    values: list[_ValuePart]


class _Unusable(Exception):
    pass


def save(
    folder: Path,
    offset: int,
    schema: str,
    arrays: Mapping[str, Array],
    values: Mapping[str, bytes],
) -> Path:
    """Write the state as of `offset` and return the file's path once it is on disk.

    `schema` names the meaning of the content: only the same string loads it again. Arrays hold
    numbers, booleans or fixed-length text, of any shape, and must not change meanwhile. The
    checkpoint before this one stays, and those of the one other schema that was written last; all
    others go. Raises `ValueError` for an array of objects or of records, and `OSError` when the
    disk refuses; older checkpoints are then untouched.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject or array.dtype.names is not None:
            raise ValueError(f"array {name!r} has dtype {array.dtype}; save plain columns instead")
    own = folder / _tag(schema)
    own.mkdir(parents=True, exist_ok=True)
    path = own / f"{offset:020d}.checkpoint"
    aside = path.with_suffix(".partial")
    try:
        with aside.open("wb") as file:
            _write(file, offset, schema, arrays, values)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(own)
    _sync_folder(folder)
    _remove_others(own, path)
    _remove_schemas(folder, own)
    return path


def load_latest(folder: Path, schema: str, offset: int | None = None) -> Checkpoint | None:
    """Read the newest checkpoint of this `schema` that is whole, and at or before `offset` where
    one is given; None when there is none.

    Why a file was passed over goes to the log of this module as a warning.
    """
    own = folder / _tag(schema)
    if folder.is_dir() and not own.is_dir() and any(folder.iterdir()):
        _logger.warning(
            "no checkpoint in %s is of this app: the whole log is folded. `onhand prepare` makes "
            "one ahead, while a server runs",
            folder,
        )
    for path in sorted(own.glob("*.checkpoint"), reverse=True):
        if offset is not None and path.stem > f"{offset:020d}":
            continue
        try:
            with path.open("rb") as file:
                return _read(file, schema)
        except (OSError, _Unusable, msgspec.DecodeError) as reason:
            _logger.warning("checkpoint %s is passed over: %s", path, reason)
    return None


def _write(
    file: BufferedWriter,
    offset: int,
    schema: str,
    arrays: Mapping[str, Array],
    values: Mapping[str, bytes],
) -> None:
    file.write(_MAGIC)
    crc = 0
    for array in arrays.values():
        for chunk in _chunks(_bytes_of(np.asarray(array, order="C"))):
            crc = zlib.crc32(chunk, crc)
            file.write(chunk)
    for value in values.values():
        crc = zlib.crc32(value, crc)
        file.write(value)
    footer = msgspec.msgpack.encode(
        _Footer(
            offset,
            schema,
            crc,
            [_ArrayPart(name, array.dtype.str, array.shape) for name, array in arrays.items()],
            [_ValuePart(name, len(value)) for name, value in values.items()],
        )
    )
    file.write(footer)
    file.write(len(footer).to_bytes(8, "little") + _digest(footer) + _MAGIC)


def _read(file: BufferedReader, schema: str) -> Checkpoint:
    footer, content_bytes = _read_footer(file)
    if footer.schema != schema:
        raise _Unusable(f"its schema is {footer.schema!r}, this version's is {schema!r}")
    sizes = [np.dtype(part.dtype).itemsize * math.prod(part.shape) for part in footer.arrays]
    if sum(sizes) + sum(part.length for part in footer.values) != content_bytes:
        raise _Unusable("its size is not what its footer says")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    content = memoryview(mapped)[len(_MAGIC) : len(_MAGIC) + content_bytes]
    crc = 0
    for chunk in _chunks(content):
        crc = zlib.crc32(chunk, crc)
    if crc != footer.crc:
        raise _Unusable("its checksum does not match")
    at = 0
    arrays: dict[str, Array] = {}
    for part, size in zip(footer.arrays, sizes, strict=True):
        arrays[part.name] = np.ndarray(part.shape, np.dtype(part.dtype), content, at)
        at += size
    values: dict[str, bytes] = {}
    for part in footer.values:
        values[part.name] = bytes(content[at : at + part.length])
        at += part.length
    return Checkpoint(footer.offset, arrays, values)


def _read_footer(file: BufferedReader) -> tuple[_Footer, int]:
    """Return the footer, whole and checked, and the length of the content."""
    size = file.seek(0, os.SEEK_END)
    if size < len(_MAGIC) + _TAIL_BYTES:
        raise _Unusable("it is cut off")
    file.seek(0)
    head = file.read(len(_MAGIC))
    file.seek(size - _TAIL_BYTES)
    tail = file.read(_TAIL_BYTES)
    if head != _MAGIC or tail[-len(_MAGIC) :] != _MAGIC:
        raise _Unusable("it is cut off, or no checkpoint")
    length = int.from_bytes(tail[:8], "little")
    start = size - _TAIL_BYTES - length
    if start < len(_MAGIC):
        raise _Unusable("it is cut off")
    file.seek(start)
    footer = file.read(length)
    if _digest(footer) != tail[8 : 8 + _DIGEST_BYTES]:
        raise _Unusable("its footer is damaged")
    return msgspec.msgpack.decode(footer, type=_Footer), start - len(_MAGIC)


def _bytes_of(array: Array) -> memoryview:
    """View a C-contiguous array's memory as bytes."""
    return array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")


def _chunks(part: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(part), _CHUNK_BYTES):
        yield part[start : start + _CHUNK_BYTES]


def _digest(footer: bytes) -> bytes:
    return hashlib.blake2b(_MAGIC + footer, digest_size=_DIGEST_BYTES).digest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_others(folder: Path, newest: Path) -> None:
    """Keep `newest` and the one before it.

    One of a higher offset goes too: it is damaged or of another log, or the engine would have
    begun from it.
    """
    older = sorted(path for path in folder.glob("*.checkpoint") if path.name < newest.name)
    kept = {newest, *older[1 - _KEEP :]}
    for path in [*folder.glob("*.checkpoint"), *folder.glob("*.partial")]:
        if path not in kept:
            path.unlink(missing_ok=True)


def _remove_schemas(folder: Path, own: Path) -> None:
    """Keep, beside one's own, the checkpoints of the other schema that was written last."""
    others = [path for path in folder.iterdir() if path.is_dir() and path != own]
    others.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in others[:-1]:
        shutil.rmtree(path, ignore_errors=True)


def _tag(schema: str) -> str:
    return hashlib.blake2b(schema.encode(), digest_size=8).hexdigest()
