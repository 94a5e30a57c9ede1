"""Avro: the schema of a contract, and bodies to records.

A body is an object container file, which brings its writer's schema, or records one after the
other in the Confluent wire format, each with the id of its schema:

    0x00, schema id (4 bytes, big-endian), the record

Containers are taken apart here rather than by the library, so that a block cannot unpack to more
than a body may hold, and so that each refused record keeps its own bytes: a container of one.
Writers' schemas come from outside. What could make a decoder recurse or loop without consuming
bytes (named references, deep nesting, arrays of nothing) is refused before it is compiled.
"""

import zlib
from collections.abc import Generator, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec
import numpy as np

from onhand.contracts.avro_records import HEAD_BYTES, OTHER, AvroLayout, pack_avro
from onhand.contracts.batch import LIMITS, Limits, Parsed, TooLarge, collect, refuse_batch
from onhand.contracts.contract import Contract, Field
from onhand.contracts.errors import Invalid
from onhand.contracts.explain import Patience
from onhand.contracts.packing import CUT, FULL, STEP, Buffer, Pack, read_packs
from onhand.contracts.records import Event, Item, Signal
from onhand.contracts.registry import Registry
from onhand.contracts.shapes import RECORDS, Kind, Member, members_of
from onhand.steps import Steps

__all__ = ["avro_schema", "pack_container", "parse_avro", "read_varint"]

R = TypeVar("R", Event, Item, Signal)

_MAGIC: Final = b"Obj\x01"
_SYNC_BYTES: Final = 16
_SCHEMA_BYTES: Final = 64 * 1024
_SCHEMA_DEPTH: Final = 12
_SCHEMA_NODES: Final = 500
_NAME_LETTERS: Final = 128
_SCALARS: Final = {
    "string": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "strings": {"type": "array", "items": "string"},
    "attributes": {"type": "map", "values": ["string", "double", "boolean"]},
}
_PRIMITIVES: Final = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


def avro_schema(contract: Contract) -> dict[str, Any]:
    """Return the Avro schema of a contract: absent is null, and what takes null as a value has a
    companion `<field>_null`."""
    known = {each.name: each for each in members_of(RECORDS[contract.kind])}
    fields: list[dict[str, Any]] = []
    for name, field in contract.fields.items():
        fields += _avro_fields(name, field, known.get(name))
    return {
        "type": "record",
        "name": contract.record_name,
        "namespace": "onhand",
        "fields": fields,
    }


def _avro_fields(name: str, field: Field, member: Member | None) -> list[dict[str, Any]]:
    options: list[Any] = (
        ["long", "string"] if field.type == "time" else [_type(name, field, member)]
    )
    if field.from_text:
        options.append("string")
    found: dict[str, Any] = {"name": name} | ({"doc": f"In {field.unit}."} if field.unit else {})
    if field.required:
        found["type"] = options if len(options) > 1 else options[0]
    else:
        found |= {"type": ["null", *options], "default": None}
    if field.aliases:
        found["aliases"] = list(field.aliases)
    if member is None or not member.takes_null:
        return [found]
    return [found, {"name": f"{name}_null", "type": ["null", "boolean"], "default": None}]


def _type(name: str, field: Field, member: Member | None) -> Any:
    if field.type != "object" or member is None:
        return _SCALARS[field.type]
    inner = [
        {"name": each.name, "type": ["null", _SCALARS[each.type]], "default": None}
        for each in member.members
    ]
    return {"type": "record", "name": name.capitalize(), "fields": inner}


def parse_avro(
    registry: Registry, kind: Kind, body: bytes, now_ms: int, limits: Limits = LIMITS
) -> Steps[Parsed[Any]]:
    """Decode and check an Avro body. Raises `Invalid` or `TooLarge`."""
    gate = registry.gate(kind)
    places: list[_Place] = []
    if body[:1] == b"\0":
        packs = _pack_frames(registry, kind, body, places, limits)
    elif body[:4] == _MAGIC:
        packs = pack_container(body, places, limits)
    else:
        raise Invalid(
            "malformed",
            "The body is neither an Avro object container file nor in the Confluent wire format.",
        )

    def part(index: int) -> bytes:
        source, begin, end = places[index]
        return source.part(begin, end)

    outcomes = read_packs(gate, packs, now_ms, Patience(limits.errors))
    return (yield from collect(outcomes, part, limits))


class _Source(NamedTuple):
    """Where records come from: a container's block with its schema, or, without one, frames."""

    content: bytes
    schema: bytes | None

    def part(self, begin: int, end: int) -> bytes:
        """Return the bytes of one record in a form that can be sent again."""
        raw = self.content[begin:end]
        return raw if self.schema is None else _container_of_one(self.schema, raw)


_Place = tuple[_Source, int, int]
"""Where a record comes from, and where it begins and ends there."""


def _pack_frames(
    registry: Registry, kind: Kind, body: bytes, places: list[_Place], limits: Limits
) -> Iterator[Pack]:
    @cache
    def layout_of(number: int) -> AvroLayout:
        schema = avro_schema(registry.framed(number, kind, "avro"))
        return AvroLayout.of(_SchemaWalk().plain(schema, 0))

    buffer, source = Buffer(limits.body_bytes), _Source(body, None)
    position = 0
    while position < len(body):
        if len(body) - position < HEAD_BYTES or body[position] != 0:
            raise Invalid("malformed", f"There is no record of the wire format at byte {position}.")
        number = int.from_bytes(body[position + 1 : position + HEAD_BYTES], "big")
        most = limits.records + 1 - len(places)
        position = yield from _pack(
            buffer, source, position, number, most, layout_of(number), places
        )
        if len(places) > limits.records:
            refuse_batch(limits)
    if buffer.count:
        yield buffer.flush()


def _pack(
    buffer: Buffer,
    source: _Source,
    position: int,
    number: int,
    most: int,
    layout: AvroLayout,
    places: list[_Place],
) -> Generator[Pack, None, int]:
    """Pack `most` records from a position on, fewer where the schema id is another than `number`
    or there are no more; return the position behind them. Raises `Invalid`."""
    content = np.frombuffer(source.content, np.uint8)
    buffer.progress[0] = position
    while True:
        count = buffer.count
        state = pack_avro(
            content, number, most, *layout, buffer.out, buffer.places, buffer.stack, buffer.progress
        )
        found = buffer.places[count : buffer.count, :2].tolist()
        places += [(source, begin, end) for begin, end in found]
        most -= len(found)
        position = int(buffer.progress[0])
        if state == CUT:
            raise Invalid(
                "malformed", f"The Avro record at byte {position} does not fit its schema."
            )
        if state == FULL or buffer.count == STEP:
            yield buffer.flush()
        elif state == OTHER or most == 0 or position == len(content):
            return position


def pack_container(body: bytes, places: list[_Place], limits: Limits) -> Iterator[Pack]:
    """Pack the records of a container file; `places` gets where each is. Raises `Invalid`."""
    buffer = Buffer(limits.body_bytes)
    metadata, position = _read_header(body)
    text = metadata.get("avro.schema", b"")
    codec = metadata.get("avro.codec", b"null")
    layout = _compile(text)
    sync = body[position : position + _SYNC_BYTES]
    position += _SYNC_BYTES
    total = unpacked_bytes = 0
    while position < len(body):
        count, position = read_varint(body, position)
        size, position = read_varint(body, position)
        total += count
        if count < 0 or size < 0 or position + size + _SYNC_BYTES > len(body):
            raise Invalid("malformed", f"The Avro block at byte {position} does not fit the body.")
        if total > limits.records:
            refuse_batch(limits)
        block = _unpack(codec, body[position : position + size], limits.body_bytes - unpacked_bytes)
        unpacked_bytes += len(block)
        position += size
        if body[position : position + _SYNC_BYTES] != sync:
            raise Invalid("malformed", f"The Avro block before byte {position} has no end.")
        position += _SYNC_BYTES
        if count:
            yield from _pack(buffer, _Source(block, text), 0, -1, count, layout, places)
    if buffer.count:
        yield buffer.flush()


def _read_header(body: bytes) -> tuple[dict[str, bytes], int]:
    metadata: dict[str, bytes] = {}
    position = len(_MAGIC)
    while True:
        count, position = read_varint(body, position)
        if count == 0:
            return metadata, position
        if count < 0:
            _, position = read_varint(body, position)
        for _ in range(min(abs(count), 64)):
            name, position = _read_bytes(body, position)
            metadata[name.decode("utf-8", "replace")], position = _read_bytes(body, position)


def _read_bytes(body: bytes, position: int) -> tuple[bytes, int]:
    size, position = read_varint(body, position)
    if size < 0 or position + size > len(body):
        raise Invalid("malformed", "The head of the Avro file is cut off.")
    return body[position : position + size], position + size


def read_varint(body: bytes, position: int, zigzag: bool = True) -> tuple[int, int]:
    """Read a variable-length integer, of at most ten bytes; return it and the place behind it."""
    value = shift = 0
    while shift < 70:
        if position >= len(body):
            break
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return ((value >> 1) ^ -(value & 1), position) if zigzag else (value, position)
        shift += 7
    raise Invalid("malformed", f"There is no whole length at byte {position}.")


def _unpack(codec: bytes, block: bytes, limit_bytes: int) -> bytes:
    if codec == b"null":
        return block
    if codec != b"deflate":
        raise Invalid(
            "codec",
            f"Avro codec {codec[:20].decode('latin-1')!r} is not taken; use null or deflate.",
        )
    unpacker = zlib.decompressobj(-15)
    try:
        plain = unpacker.decompress(block, limit_bytes + 1)
    except zlib.error as error:
        raise Invalid("malformed", f"An Avro block is not deflate ({error}).") from None
    if len(plain) > limit_bytes:
        raise TooLarge("body_too_large", "The Avro blocks unpack to more than a body may hold.")
    return plain


def _container_of_one(schema: bytes, datum: bytes) -> bytes:
    sync = bytes(_SYNC_BYTES)
    metadata = b"".join(
        _varint(len(each)) + each for each in (b"avro.schema", schema, b"avro.codec", b"null")
    )
    block = _varint(1) + _varint(len(datum)) + datum + sync
    return _MAGIC + _varint(2) + metadata + _varint(0) + sync + block


def _varint(value: int) -> bytes:
    value <<= 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


@lru_cache(maxsize=64)
def _compile(text: bytes) -> AvroLayout:
    """Check a writer's schema and lay it out. Raises `Invalid`."""
    if len(text) > _SCHEMA_BYTES:
        raise Invalid("schema", f"The Avro schema is over {_SCHEMA_BYTES} bytes.")
    try:
        schema = msgspec.json.decode(text)
        return AvroLayout.of(_SchemaWalk().plain(schema, 0))
    except Invalid:
        raise
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid("schema", f"The Avro schema is not JSON: {error}.") from None
    except Exception as error:  # whatever a schema from outside holds
        raise Invalid("schema", f"The Avro schema cannot be used: {str(error)[:200]}.") from None


class _SchemaWalk:
    """Copies a schema without logical types (numbers stay numbers, and the contract says what
    they mean), and refuses what is not flat."""

    def __init__(self) -> None:
        self._nodes = 0

    def plain(self, schema: Any, depth: int) -> Any:
        """Return the copy. Raises `Invalid`."""
        self._nodes += 1
        if depth > _SCHEMA_DEPTH or self._nodes > _SCHEMA_NODES:
            raise Invalid("schema", "The Avro schema is too deep or too large; records are flat.")
        if isinstance(schema, list):
            return [self.plain(each, depth + 1) for each in cast("list[Any]", schema)]
        if isinstance(schema, str):
            if schema not in _PRIMITIVES:
                raise Invalid("schema", f"Avro type {schema[:60]!r} is not taken; spell it out.")
            return schema
        if not isinstance(schema, Mapping):
            raise Invalid("schema", "The Avro schema holds something that is no type.")
        return self._complex(cast("Mapping[str, Any]", schema), depth)

    def _complex(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if kind == "record":
            fields = [self._field(each, depth) for each in schema.get("fields", [])]
            some = [field for field in fields if not _is_nothing(field["type"])]
            return {"type": "record", "name": f"R{self._nodes}", "fields": some}
        if kind == "array":
            items = self.plain(schema.get("items"), depth + 1)
            if items in ("null", []) or _is_record(items):
                raise Invalid("schema", "An Avro array holds scalars here, and not null.")
            return {"type": "array", "items": items}
        if kind == "map":
            values = self.plain(schema.get("values"), depth + 1)
            if _is_record(values):
                raise Invalid("schema", "An Avro map holds scalars here.")
            return {"type": "map", "values": values}
        if kind == "enum":
            symbols = [_short(each) for each in schema.get("symbols", [])]
            return {"type": "enum", "name": f"E{self._nodes}", "symbols": symbols}
        return self.plain(kind, depth + 1)

    def _field(self, field: Any, depth: int) -> Any:
        if not isinstance(field, Mapping):
            raise Invalid("schema", "A field of the Avro schema is no object.")
        known = cast("Mapping[str, Any]", field)
        return {"name": _short(known.get("name")), "type": self.plain(known.get("type"), depth + 1)}


def _short(name: Any) -> str:
    """A name of the schema; a longer one could make much of few bytes."""
    text = str(name)
    if len(text) > _NAME_LETTERS:
        raise Invalid("schema", f"{text[:60]!r} is over {_NAME_LETTERS} characters.")
    return text


def _is_record(schema: Any) -> bool:
    """Whether a type is a record, or may be."""
    options = cast("list[Any]", schema) if isinstance(schema, list) else [schema]
    return any(isinstance(each, dict) and each["type"] == "record" for each in options)


def _is_nothing(schema: Any) -> bool:
    """Whether values of a type take no bytes: a body could hold any number of them."""
    return schema == "null" or (isinstance(schema, dict) and schema.get("fields") == [])
