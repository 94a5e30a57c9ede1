"""Avro records to MessagePack: a writer's schema as a table, and the kernel that follows it.

Row by row, a schema is a tree of nodes, each a kind and where its links are: the fields of a
record, the branches of a union, the symbols of an enum, what an array or a map holds. A link is
the node at its end and the place of its name.
"""

from typing import Any, Final, NamedTuple

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

__all__ = ["HEAD_BYTES", "OTHER", "AvroLayout", "pack_avro"]

HEAD_BYTES: Final = 5
"""Before a record in the Confluent wire format: 0x00, and the id of its schema."""
OTHER: Final = -3
"""The record has another schema id, or none: in place of a position."""

_NIL: Final = 0xC0
_FALSE: Final = 0xC2
_TRUE: Final = 0xC3
_NULL, _BOOLEAN, _LONG, _FLOAT, _DOUBLE, _TEXT, _BLOB, _ENUM, _UNION, _ARRAY, _MAP, _RECORD = range(
    12
)
_KINDS: Final = {
    "null": _NULL,
    "boolean": _BOOLEAN,
    "int": _LONG,
    "long": _LONG,
    "float": _FLOAT,
    "double": _DOUBLE,
    "string": _TEXT,
    "bytes": _BLOB,
}


class AvroLayout(NamedTuple):
    """A schema as tables: `nodes` (kind, first link, links), `links` (node, name begins, name
    ends, is a companion) and the `text` of the names."""

    nodes: Array
    links: Array
    text: Array

    @classmethod
    def of(cls, schema: Any) -> "AvroLayout":
        """Lay out a schema that has been checked: plain types, without names that refer."""
        table = _Table()
        table.add(schema)
        return cls(
            np.array(table.nodes, np.int64),
            np.array(table.links or [(0, 0, 0, 0)], np.int64),
            table.names.text,
        )


class _Table:
    """The rows of a layout in the making."""

    def __init__(self) -> None:
        self.nodes: list[tuple[int, int, int]] = []
        self.links: list[tuple[int, int, int, int]] = []
        self.names = Names()

    def add(self, schema: Any) -> int:
        """Add the node of a type and those below it; return its number."""
        number = len(self.nodes)
        self.nodes.append((0, 0, 0))
        if isinstance(schema, str):
            kind, links = _KINDS[schema], []
        elif isinstance(schema, list):
            kind, links = _UNION, [(self.add(each), 0, 0, 0) for each in schema]
        elif schema["type"] == "record":
            kind, links = _RECORD, [self._field(each) for each in schema["fields"]]
        elif schema["type"] == "enum":
            kind, links = _ENUM, [(0, *self.names.add(each), 0) for each in schema["symbols"]]
        elif schema["type"] == "array":
            kind, links = _ARRAY, [(self.add(schema["items"]), 0, 0, 0)]
        else:
            kind, links = _MAP, [(self.add(schema["values"]), 0, 0, 0)]
        self.nodes[number] = kind, len(self.links), len(links)
        self.links += links
        return number

    def _field(self, field: dict[str, Any]) -> tuple[int, int, int, int]:
        name, kind = field["name"], field["type"]
        is_companion = name == "stock_null" and kind in ("boolean", ["null", "boolean"])
        own = self.names.add("stock" if is_companion else name)
        return self.add(kind), *own, int(is_companion)


@entry_kernel
def pack_avro(
    body: Array,
    schema_id: int,
    most: int,
    nodes: Array,
    links: Array,
    text: Array,
    out: Array,
    places: Array,
    stack: Array,
    progress: Array,
) -> int:
    """Pack the next records of a source, `most` of them at most, behind those that are in the
    buffer already. `schema_id` is what is written before each, or -1.

    Returns how it ended: 0, `CUT`, `FULL` or `OTHER`. What is packed by then counts.
    """
    end = body.size
    for _ in range(most):
        begin, written, count = progress[0], progress[1], progress[2]
        if count == STEP or (begin == end and schema_id >= 0):
            return 0
        at = begin
        if schema_id >= 0:
            at += HEAD_BYTES
            if at > end or body[begin] != 0:
                return OTHER
            found = 0
            for place in range(begin + 1, at):
                found = found << 8 | np.int64(body[place])
            if found != schema_id:
                return OTHER
        at, to = _pack(body, at, nodes, links, text, out, written, stack, progress)
        if to < 0:
            return FULL
        if at < 0:
            return CUT
        places[count, 0], places[count, 1], places[count, 2] = begin, at, to
        progress[0], progress[1], progress[2] = at, to, count + 1
    return 0


@inner_kernel
def _pack(
    body: Array,
    at: int,
    nodes: Array,
    links: Array,
    text: Array,
    out: Array,
    to: int,
    stack: Array,
    progress: Array,
) -> tuple[int, int]:
    """Pack one record; returns the positions behind it in the source and in the buffer, one of
    which is `CUT` or `FULL` where that cannot be.

    `stack` has a row for each record, array or map that is begun: its node, the link that comes
    next, where its head is, its members so far, and of a record where its last field began, with
    its name and without; of others, how many members are left of the block.
    """
    depth, node = 0, 0
    while True:
        if nodes[node, 0] == _UNION:
            number, at = _read_number(body, at)
            if at < 0 or number < 0 or number >= nodes[node, 2]:
                return CUT, to
            node = links[nodes[node, 1] + number, 0]
            continue
        if to + ROOM > out.size:
            return at, FULL
        if nodes[node, 0] >= _ARRAY:
            stack[depth, 0], stack[depth, 1], stack[depth, 2] = node, nodes[node, 1], to
            stack[depth, 3], stack[depth, 4], stack[depth, 5] = 0, 0, 0
            depth += 1
            to += MAP_BYTES
        else:
            at, to = _pack_scalar(body, at, nodes, links, text, node, out, to, progress)
        while at >= 0 and to >= 0:
            if depth == 0:
                return at, to
            row = stack[depth - 1]
            if nodes[row[0], 0] == _RECORD:
                node, to = _next_field(nodes, links, text, row, out, to)
            else:
                node, at, to = _next_member(body, at, nodes, links, row, out, to, progress)
            if node >= 0:
                break
            depth -= 1
        if at < 0 or to < 0:
            return at, to


@inner_kernel
def _next_field(
    nodes: Array, links: Array, text: Array, row: Array, out: Array, to: int
) -> tuple[int, int]:
    """Take back the field before where it is null, and begin the next: its node, or -1 at the end
    of the record, and the position in the buffer."""
    begin, value = row[4], row[5]
    if value:
        is_companion = links[row[1] - 1, 3]
        if is_companion and out[value] == _TRUE:
            out[value] = _NIL
            row[3] += 1
        elif is_companion or out[value] == _NIL:
            to = begin
        else:
            row[3] += 1
    link = row[1]
    if link == nodes[row[0], 1] + nodes[row[0], 2]:
        write_count(out, row[2], True, row[3])
        return -1, to
    begin, to = to, write_name(text, links[link, 1], links[link, 2], out, to)
    row[1], row[4], row[5] = link + 1, begin, to
    return links[link, 0], to


@inner_kernel
def _next_member(
    body: Array,
    at: int,
    nodes: Array,
    links: Array,
    row: Array,
    out: Array,
    to: int,
    progress: Array,
) -> tuple[int, int, int]:
    """Begin the next member of an array or a map: its node, or -1 at the end, and the positions."""
    is_map = nodes[row[0], 0] == _MAP
    if row[4] == 0:
        count, at = _read_number(body, at)
        if count < 0 and at >= 0:
            count = -count
            _, at = _read_number(body, at)
        if at < 0 or count < 0 or count > body.size - at:
            return -1, CUT, to
        if count == 0:
            write_count(out, row[2], is_map, row[3])
            return -1, at, to
        row[4] = count
    row[3] += 1
    row[4] -= 1
    if is_map:
        at, to = _pack_text(body, at, False, out, to, progress)
    return links[row[1], 0], at, to


@inner_kernel
def _read_number(body: Array, at: int) -> tuple[int, int]:
    """Read an integer in zigzag, and the position behind it, or `CUT`."""
    number, at = read_long(body, at, body.size)
    return (number >> 1) & 0x7FFFFFFFFFFFFFFF ^ -(number & 1), at


@inner_kernel
def _pack_text(
    body: Array, at: int, is_blob: bool, out: Array, to: int, progress: Array
) -> tuple[int, int]:
    size, at = _read_number(body, at)
    if at < 0 or size < 0 or size > body.size - at:
        return CUT, to
    return at + size, write_text(body, at, at + size, is_blob, out, to, progress)


@inner_kernel
def _pack_scalar(
    body: Array,
    at: int,
    nodes: Array,
    links: Array,
    text: Array,
    node: int,
    out: Array,
    to: int,
    progress: Array,
) -> tuple[int, int]:
    kind = nodes[node, 0]
    if kind == _NULL:
        out[to] = _NIL
        return at, to + 1
    if kind == _BOOLEAN:
        if at >= body.size:
            return CUT, to
        out[to] = _TRUE if body[at] else _FALSE
        return at + 1, to + 1
    if kind in (_FLOAT, _DOUBLE):
        size = 4 if kind == _FLOAT else 8
        if at + size > body.size:
            return CUT, to
        return at + size, write_double(body, at, size, out, to)
    if kind in (_TEXT, _BLOB):
        return _pack_text(body, at, kind == _BLOB, out, to, progress)
    number, at = _read_number(body, at)
    if at < 0:
        return CUT, to
    if kind == _LONG:
        return at, write_int(out, to, number)
    if number < 0 or number >= nodes[node, 2]:
        return CUT, to
    link = nodes[node, 1] + number
    return at, write_name(text, links[link, 1], links[link, 2], out, to)
