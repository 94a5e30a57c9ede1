"""Protobuf messages to MessagePack: the messages of a contract as a table, and the kernel that
follows it.

A row of the table is a field: its kind, where its name is, and the row of a nested message's
first field. `rows` finds it by message and number.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from onhand.contracts.packing import (
    CUT,
    FULL,
    MAP_BYTES,
    ROOM,
    STEP,
    Names,
    read_long,
    write_count,
    write_double,
    write_int,
    write_name,
    write_text,
)
from onhand.kernel import Array, entry_kernel, inner_kernel

__all__ = ["Line", "Messages", "ProtobufLayout", "pack_protobuf"]

_NIL: Final = 0xC0
_FALSE: Final = 0xC2
_TRUE: Final = 0xC3
_TEXT, _LONG, _DOUBLE, _FLAG, _COMPANION, _OBJECT, _WORDS, _LIST, _MAP = range(9)
_SCALARS: Final = {"string": _TEXT, "int64": _LONG, "double": _DOUBLE, "bool": _FLAG}
_NUMBERS: Final = 1 << 29
"""No field has this number, nor a greater one."""
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class Line(NamedTuple):
    """One field of a message: `type` is a scalar's, or the name of another message; `label` is
    optional, repeated or nothing (a map)."""

    name: str
    number: int
    type: str
    label: str = "optional"


Messages: TypeAlias = Mapping[str, Sequence[Line]]
"""The fields of a file's messages, the record's first."""


class ProtobufLayout(NamedTuple):
    """Files as tables: `fields` (kind, name begins, name ends, message), `rows` (the field by
    message and number, or -1) and the `text` of the names.

    `types` (type begins, type ends, message) are those that have messages of their own.
    """

    fields: Array
    rows: Array
    types: Array
    text: Array

    @classmethod
    def of(cls, files: Mapping[str, Messages]) -> "ProtobufLayout":
        """Lay out the messages of a kind of records, and behind it those of event types, each by
        its name."""
        names, fields = Names(), list[tuple[int, int, int, int]]()
        numbers: list[dict[int, int]] = []
        types: list[tuple[int, int, int]] = []

        for name, messages in files.items():
            first = len(numbers)
            if first:
                _, end = names.add(name)
                types.append((end - len(name), end, first))
            places = {each: first + place for place, each in enumerate(messages)}
            for message in messages.values():
                numbers.append({each.number: len(fields) + n for n, each in enumerate(message)})
                fields.extend(_row(each, names, places) for each in message)
        rows = np.full((len(numbers), 1 + max(max(each) for each in numbers)), -1, np.int64)
        for message, each in enumerate(numbers):
            for number, row in each.items():
                rows[message, number] = row
        found = np.array(types or np.empty((0, 3)), np.int64)
        return cls(np.array(fields, np.int64), rows, found, names.text)


def _row(line: Line, names: Names, places: Mapping[str, int]) -> tuple[int, int, int, int]:
    kind = _SCALARS.get(line.type, _OBJECT)
    if line.label == "repeated":
        kind = _LIST
    elif not line.label:
        kind = _MAP
    elif line.type == "Words":
        kind = _WORDS
    elif line.name == "stock_null":
        kind = _COMPANION
    name = "stock" if kind == _COMPANION else line.name
    return kind, *names.add(name), places.get(line.type, 0)


@entry_kernel
def pack_protobuf(
    body: Array,
    spans: Array,
    fields: Array,
    rows: Array,
    types: Array,
    text: Array,
    out: Array,
    places: Array,
    progress: Array,
) -> int:
    """Pack messages, (messages, 2) where each begins and ends, behind those that are in the buffer
    already; `progress` begins with how many of them are packed.

    Returns how it ended: 0 or `FULL`. A message that cannot be read is nil, and `places` says why:
    `CUT`, or which field has another type, by its row from 1.
    """
    for span in range(progress[0], spans.shape[0]):
        written, count = progress[1], progress[2]
        if count == STEP:
            return 0
        at, end = spans[span, 0], spans[span, 1]
        message = _find_message(body, at, end, types, text)
        wrong, to = _pack(body, at, end, fields, rows, text, message, out, written, progress)
        if wrong:
            out[written] = _NIL
            to = written + 1
        elif to < 0:
            return FULL
        places[count, 2], places[count, 3] = to, wrong
        progress[0], progress[1], progress[2] = span + 1, to, count + 1
    return 0


@inner_kernel
def _find_message(body: Array, at: int, end: int, types: Array, text: Array) -> int:
    """Return which message the type of an event says that it is: the first if it says nothing."""
    message = 0
    if types.shape[0] == 0:
        return message
    while at < end:
        number, wire, at, behind = _next_tag(body, at, end)
        if behind < 0:
            return message
        if number == 1 and wire == _BYTES:
            message = 0
            size, at = read_long(body, at, end)
            for row in range(types.shape[0]):
                begin, same = types[row, 0], types[row, 1] - types[row, 0] == size
                for place in range(size if same else 0):
                    same = same and body[at + place] == text[begin + place]
                if same:
                    message = types[row, 2]
        at = behind
    return message


@inner_kernel
def _next_tag(body: Array, at: int, end: int) -> tuple[int, int, int, int]:
    """Read a tag: the number of a field, its wire type, where its value begins, and the position
    behind that, or `CUT`."""
    tag, at = read_long(body, at, end)
    number, wire = tag >> 3, tag & 7
    behind = CUT
    if at < 0 or not 0 < number < _NUMBERS:
        return number, wire, at, behind
    if wire == _VARINT:
        _, behind = read_long(body, at, end)
    elif wire == _FIXED_64:
        behind = at + 8
    elif wire == _FIXED_32:
        behind = at + 4
    elif wire == _BYTES:
        size, begin = read_long(body, at, end)
        if begin >= 0 and 0 <= size <= end - begin:
            behind = begin + size
    if behind > end:
        behind = CUT
    return number, wire, at, behind


@inner_kernel
def _pack(
    body: Array,
    at: int,
    end: int,
    fields: Array,
    rows: Array,
    text: Array,
    message: int,
    out: Array,
    to: int,
    progress: Array,
) -> tuple[int, int]:
    """Pack one message; returns what is wrong with it and the position in the buffer, or `FULL`.

    Of a field that is there twice the last counts, in MessagePack as here. The members of a list
    or a map are gathered where its first one is.
    """
    head, some, gathered = to, 0, 0
    if to + ROOM > out.size:
        return 0, FULL
    to += MAP_BYTES
    while at < end:
        number, wire, at, behind = _next_tag(body, at, end)
        if behind < 0:
            return CUT, to
        row = rows[message, number] if number < rows.shape[1] else -1
        if row >= 0:
            kind = fields[row, 0]
            if wire != _wire_of(kind):
                return row + 1, to
            begin = to
            to = write_name(text, fields[row, 1], fields[row, 2], out, to)
            if to < 0:
                return 0, FULL
            value = to
            if kind in (_LIST, _MAP):
                if gathered >> number & 1 == 0:
                    gathered |= 1 << number
                    to = _pack_members(body, at, end, number, kind == _MAP, out, to, progress)
            elif kind == _WORDS:
                _, inner = read_long(body, at, end)
                to = _pack_members(body, inner, behind, 0, False, out, to, progress)
            elif kind == _OBJECT:
                _, inner = read_long(body, at, end)
                to = _pack_object(
                    body, inner, behind, fields, rows, text, fields[row, 3], out, to, progress
                )
            else:
                to = _pack_scalar(body, at, behind, kind, out, to, progress)
            if to == CUT:
                return CUT, to
            if to < 0:
                return 0, FULL
            if to == value:
                to = begin
            else:
                some += 1
        at = behind
    write_count(out, head, True, some)
    return 0, to


@inner_kernel
def _wire_of(kind: int) -> int:
    if kind in (_LONG, _FLAG, _COMPANION):
        return _VARINT
    return _FIXED_64 if kind == _DOUBLE else _BYTES


@inner_kernel
def _pack_scalar(
    body: Array, at: int, end: int, kind: int, out: Array, to: int, progress: Array
) -> int:
    """Pack the value of a field; nothing for empty text, and for a companion that says nothing."""
    if to + ROOM > out.size:
        return FULL
    if kind == _DOUBLE:
        return write_double(body, at, 8, out, to)
    number, at = read_long(body, at, end)
    if kind == _TEXT:
        return write_text(body, at, end, False, out, to, progress) if at < end else to
    if kind == _LONG:
        return write_int(out, to, number)
    if kind == _COMPANION:
        out[to] = _NIL
        return to + 1 if number else to
    out[to] = _TRUE if number else _FALSE
    return to + 1


@inner_kernel
def _pack_object(
    body: Array,
    at: int,
    end: int,
    fields: Array,
    rows: Array,
    text: Array,
    message: int,
    out: Array,
    to: int,
    progress: Array,
) -> int:
    """Pack a nested message, which holds scalars; returns the position in the buffer, `CUT` or
    `FULL`."""
    head, some = to, 0
    to += MAP_BYTES
    while at < end:
        number, wire, at, behind = _next_tag(body, at, end)
        if behind < 0:
            return CUT
        row = rows[message, number] if number < rows.shape[1] else -1
        if row >= 0 and wire == _wire_of(fields[row, 0]):
            begin = to
            to = write_name(text, fields[row, 1], fields[row, 2], out, to)
            value = to
            if to >= 0:
                to = _pack_scalar(body, at, behind, fields[row, 0], out, to, progress)
            if to < 0:
                return FULL
            if to == value:
                to = begin
            else:
                some += 1
        at = behind
    if to + ROOM > out.size:
        return FULL
    write_count(out, head, True, some)
    return to


@inner_kernel
def _pack_members(
    body: Array,
    at: int,
    end: int,
    gathered: int,
    is_map: bool,
    out: Array,
    to: int,
    progress: Array,
) -> int:
    """Pack the text or the attributes that are in a field from its first value on, at `at`; or
    all that are in a nested message, where the field is 0. Returns as `_pack_object` does."""
    head, some = to, 0
    to += MAP_BYTES
    number, wire, is_first = gathered, _BYTES, gathered > 0
    wanted = gathered if gathered else 1
    behind = at
    while at < end:
        if not is_first:
            number, wire, at, behind = _next_tag(body, at, end)
            if behind < 0:
                return CUT
        if number == wanted and wire == _BYTES:
            size, begin = read_long(body, at, end)
            behind = begin + size
            if is_map:
                to = _pack_attribute(body, begin, behind, out, to, progress)
            else:
                to = write_text(body, begin, behind, False, out, to, progress)
            if to < 0:
                return to
            some += 1
        is_first = False
        at = behind
    if to + ROOM > out.size:
        return FULL
    write_count(out, head, is_map, some)
    return to


@inner_kernel
def _pack_attribute(body: Array, at: int, end: int, out: Array, to: int, progress: Array) -> int:
    """Pack an entry of a map: its name, and the last of the values that it may have, or empty
    text. Returns as `_pack_object` does."""
    name, name_end, value, value_end = at, at, at, at
    while at < end:
        number, wire, at, behind = _next_tag(body, at, end)
        if behind < 0:
            return CUT
        if wire == _BYTES and number <= 2:
            _, begin = read_long(body, at, end)
            if number == 1:
                name, name_end = begin, behind
            else:
                value, value_end = begin, behind
        at = behind
    to = write_text(body, name, name_end, False, out, to, progress)
    if to < 0:
        return to
    place = to
    to = write_text(body, at, at, False, out, to, progress)
    if to < 0:
        return to
    at = value
    while at < value_end:
        number, wire, at, behind = _next_tag(body, at, value_end)
        if behind < 0:
            return CUT
        kind = _TEXT if number == 1 else _DOUBLE if number == 2 else _FLAG
        if number <= 3 and wire == _wire_of(kind):
            to = _pack_scalar(body, at, behind, kind, out, place, progress)
            if to < 0:
                return to
            if to == place:
                to = write_text(body, at, at, False, out, to, progress)
        at = behind
    return to
