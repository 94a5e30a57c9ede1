"""Records of binary formats, written anew as MessagePack by compiled code.

A library that makes a Python value of each field takes 10 to 20 us for an event. These kernels
copy a record's bytes into a MessagePack map instead, which msgspec decodes straight into a struct,
as it does with JSON. What is in no field stays away: null in a record, and the field whose
companion `<field>_null` says so comes as null.

Nothing here trusts the bytes: each read is checked against the end of its source, each write
against the end of the buffer.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from onhand.contracts.batch import TooLarge, check_all
from onhand.contracts.errors import Fault
from onhand.contracts.explain import DECODE_ERRORS, Patience, explain
from onhand.contracts.gate import Gate
from onhand.contracts.records import Event, Item, Signal
from onhand.contracts.shapes import RECORDS
from onhand.kernel import Array, inner_kernel

__all__ = [
    "CUT",
    "FULL",
    "MAP_BYTES",
    "ROOM",
    "STEP",
    "Buffer",
    "Pack",
    "Names",
    "read_packs",
    "read_long",
    "write_count",
    "write_double",
    "write_int",
    "write_name",
    "write_text",
]

R = TypeVar("R", Event, Item, Signal)

CUT: Final = -1
"""Where a source ends too early, or holds what it cannot: in place of a position."""
FULL: Final = -2
"""The buffer has no room for a whole record: in place of a position."""
ROOM: Final = 16
"""Bytes that every value may take without asking, text aside."""
MAP_BYTES: Final = 5
"""The head of a map or a list: its type, and the number of its members, written at its end."""
STEP: Final = 256
"""Records that are decoded together: 0.1 ms, or 1 ms if all are bad."""

_DEPTH: Final = 16
"""Of what is nested: a schema may have 12 levels."""
_FIRST_BYTES: Final = 256 * 1024
_BLOB: Final = 0xC6
_INT: Final = 0xD3
_DOUBLE: Final = 0xCB
_TEXT: Final = 0xDB
_SHORT_TEXT: Final = 0xA0


class Pack(NamedTuple):
    """Some records as MessagePack, one after the other, and where each ends. `printable` says that
    all their text is; `faults` are those of records that could not be read, which are nil here."""

    content: bytes
    ends: list[int]
    printable: bool
    faults: dict[int, Fault]


class Buffer:
    """What a kernel writes records to: `STEP` at most.

    `places` has a row for each: where it begins and ends in its source, where it ends in `out`,
    and what is wrong with it (0: nothing). `progress` is where the kernel is: in the source, in
    `out`, how many records are there, and whether some text is not printable. `stack` is its own.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.out: Array = np.empty(_FIRST_BYTES, np.uint8)
        self.places: Array = np.zeros((STEP, 4), np.int64)
        self.progress: Array = np.zeros(4, np.int64)
        self.stack: Array = np.zeros((_DEPTH, 6), np.int64)
        self.faults: dict[int, Fault] = {}
        self._limit_bytes = limit_bytes

    @property
    def count(self) -> int:
        """How many records are in it."""
        return int(self.progress[2])

    def flush(self) -> Pack:
        """Return what is in it, and empty it. Raises `TooLarge` where that is nothing, because
        one record is too long for it, and as long as a body may be."""
        _, written, count, special = self.progress.tolist()
        if not count:
            if len(self.out) > self._limit_bytes:
                raise TooLarge("body_too_large", "A record unpacks to more than a body may hold.")
            self.out = np.empty(4 * len(self.out), np.uint8)
        ends: list[int] = self.places[:count, 2].tolist()
        pack = Pack(self.out[:written].tobytes(), ends, not special, self.faults)
        self.progress[1:], self.faults = 0, {}
        return pack


class Names:
    """Names as MessagePack text, one after the other in `text`."""

    def __init__(self) -> None:
        self._text = bytearray()

    def add(self, name: str) -> tuple[int, int]:
        """Add a name; return where it begins and ends."""
        begin = len(self._text)
        self._text += msgspec.msgpack.encode(name)
        return begin, len(self._text)

    @property
    def text(self) -> Array:
        """All names, (bytes,) uint8."""
        return np.array(self._text, np.uint8)


_MANY: Final[dict[type, msgspec.msgpack.Decoder[Any]]] = {
    record: msgspec.msgpack.Decoder(list[record]) for record in RECORDS.values()
}
_VALUE = msgspec.msgpack.Decoder()


def read_packs(
    gate: Gate[R], packs: Iterator[Pack], now_ms: int, patience: Patience
) -> Iterator[R | Fault | list[R | Fault]]:
    """Decode and check packed records, those of a pack together where all are good."""
    decode_many = _MANY[gate.record].decode
    for pack in packs:
        head = b"\xdd" + len(pack.ends).to_bytes(4, "big")
        records = None
        if not gate.reshapes and not pack.faults:
            with suppress(*DECODE_ERRORS):
                records = decode_many(head + pack.content)
        if records is None:
            yield from gate.read_each(_values(pack, head), now_ms, patience)
            continue

        def read_again(index: int, pack: Pack = pack) -> Any:
            return gate.read(_VALUE.decode(_part(pack, index)), now_ms, patience)

        yield from check_all(gate, records, pack.printable, now_ms, read_again)


def _values(pack: Pack, head: bytes) -> list[Any]:
    try:
        values: list[Any] = _VALUE.decode(head + pack.content)
    except DECODE_ERRORS:
        values = [_value(_part(pack, index)) for index in range(len(pack.ends))]
    for index, fault in pack.faults.items():
        values[index] = fault
    return values


def _value(part: bytes) -> Any:
    try:
        return _VALUE.decode(part)
    except DECODE_ERRORS as error:
        return explain(error, part)


def _part(pack: Pack, index: int) -> bytes:
    return pack.content[pack.ends[index - 1] if index else 0 : pack.ends[index]]


@inner_kernel
def read_long(body: Array, at: int, end: int) -> tuple[int, int]:
    """Read a variable-length integer of at most ten bytes, as it is; return it and the position
    behind it, or `CUT`."""
    value, shift = 0, 0
    while at < end and shift < 70:
        byte: Any = np.int64(body[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return value, CUT


@inner_kernel
def _write_bytes(out: Array, to: int, number: int, count: int) -> int:
    """Write an integer in so many bytes, the highest first."""
    for place in range(count):
        out[to + place] = (number >> (8 * (count - 1 - place))) & 0xFF
    return to + count


@inner_kernel
def write_int(out: Array, to: int, number: int) -> int:
    """Write an integer of 64 bits."""
    if -32 <= number < 128:
        out[to] = number & 0xFF
        return to + 1
    out[to] = _INT
    return _write_bytes(out, to + 1, number, 8)


@inner_kernel
def write_double(body: Array, at: int, size: int, out: Array, to: int) -> int:
    """Write a number of 4 or 8 bytes that stands in the source with its lowest byte first."""
    out[to] = _DOUBLE if size == 8 else _DOUBLE - 1
    for place in range(size):
        out[to + 1 + place] = body[at + size - 1 - place]
    return to + 1 + size


@inner_kernel
def write_count(out: Array, to: int, is_map: bool, count: int) -> int:
    """Write the head of a map or a list, `MAP_BYTES` long."""
    out[to] = 0xDF if is_map else 0xDD
    return _write_bytes(out, to + 1, count, 4)


@inner_kernel
def write_name(text: Array, begin: int, end: int, out: Array, to: int) -> int:
    """Copy a packed name; returns the position behind it, or `FULL`."""
    if to + end - begin + ROOM > out.size:
        return FULL
    for place in range(begin, end):
        out[to] = text[place]
        to += 1
    return to


@inner_kernel
def write_text(
    body: Array, begin: int, end: int, is_blob: bool, out: Array, to: int, progress: Array
) -> int:
    """Copy text, or bytes that are none, out of the source; returns the position behind it, or
    `FULL`."""
    size = end - begin
    if to + size + ROOM > out.size:
        return FULL
    if size < 32 and not is_blob:
        out[to] = _SHORT_TEXT | size
        to += 1
    else:
        out[to] = _BLOB if is_blob else _TEXT
        to = _write_bytes(out, to + 1, size, 4)
    special = np.int64(0)
    for place in range(begin, end):
        byte = body[place]
        special |= np.int64(byte < 0x20) | np.int64(byte > 0x7E)
        out[to] = byte
        to += 1
    progress[3] |= special
    return to
