"""Protobuf: the messages of a contract, and bodies to records.

A body is messages one after the other, each behind its length (`writeDelimitedTo` in Java), or
one message in the Confluent wire format; a length-delimited message may be in that format too:

    0x00, schema id (4 bytes, big-endian), message index (0x00: the first of the file), the message

Field numbers follow the order in which fields first appear in the versions of a contract, so a
field keeps its number for good. Messages of an app's own event types number the fields of events
alike, so `type` tells them apart. No message can begin with 0x00, so the forms cannot be confused.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np

from onhand.contracts.avro import read_varint
from onhand.contracts.batch import LIMITS, Limits, Parsed, collect, refuse_batch
from onhand.contracts.contract import Contract, Field, standard
from onhand.contracts.errors import Fault, Invalid
from onhand.contracts.explain import Patience
from onhand.contracts.packing import CUT, FULL, STEP, Buffer, Pack, read_packs
from onhand.contracts.protobuf_records import Line, ProtobufLayout, pack_protobuf
from onhand.contracts.registry import Registry
from onhand.contracts.shapes import RECORDS, Kind, Member, members_of
from onhand.steps import Steps

__all__ = ["message_class", "parse_protobuf", "proto_base64", "proto_text", "same_proto"]

_SCALARS: Final = {
    "string": "string",
    "integer": "int64",
    "number": "double",
    "boolean": "bool",
    "time": "int64",
}
_HEAD_BYTES: Final = 6


class MissingLibrary(Invalid):
    """A schema needs a package that is not installed."""

    status = 415

    def __init__(self, format_name: str, package: str) -> None:
        super().__init__(
            "format_unavailable",
            f"{format_name} needs {package} on the server: pip install 'onhand[formats]'",
        )


def lines_of(versions: list[Contract]) -> list[Line]:
    """Return the fields of the message of the last of `versions`, numbered for good."""
    kind = versions[-1].kind
    known = {each.name: each for each in members_of(RECORDS[kind])}
    numbers: dict[str, int] = {}
    for contract in (standard(kind), *versions):
        for name in contract.fields:
            numbers.setdefault(name, len(numbers) + 1)
            if name in known and known[name].takes_null:
                numbers.setdefault(f"{name}_null", len(numbers) + 1)
    lines: list[Line] = []
    for name, field in versions[-1].fields.items():
        member = known.get(name)
        lines.append(_line(name, numbers[name], field, member))
        if member is not None and member.takes_null:
            lines.append(Line(f"{name}_null", numbers[f"{name}_null"], "bool"))
    return lines


def _line(name: str, number: int, field: Field, member: Member | None) -> Line:
    if field.type == "strings":
        if member is not None and member.tells_absence:
            return Line(name, number, "Words")
        return Line(name, number, "string", "repeated")
    if field.type == "attributes":
        return Line(name, number, "map<string, Attribute>", "")
    if field.type == "object":
        return Line(name, number, name.capitalize())
    return Line(name, number, _SCALARS[field.type])


def _messages(versions: list[Contract]) -> dict[str, list[Line]]:
    """Return the messages of a file, the record's first, those it uses behind it."""
    lines = lines_of(versions)
    found = {versions[-1].record_name: lines}
    used = {line.type for line in lines}
    for member in members_of(RECORDS[versions[-1].kind]):
        if member.type == "object":
            found[member.name.capitalize()] = [
                Line(each.name, place, _SCALARS[each.type])
                for place, each in enumerate(member.members, 1)
            ]
    if "Words" in used:
        found["Words"] = [Line("values", 1, "string", "repeated")]
    return found


_ATTRIBUTE: Final = (("text", "string"), ("number", "double"), ("flag", "bool"))


def proto_text(versions: list[Contract]) -> str:
    """Return the `.proto` file of the last of `versions`, which are all up to it."""
    lines = ['syntax = "proto3";', "", "package onhand;"]
    messages = _messages(versions)
    for name, fields in messages.items():
        lines += ["", f"message {name} {{"]
        lines += [f"  {line.label} {line.type} {line.name} = {line.number};" for line in fields]
        lines.append("}")
    if any("Attribute" in line.type for line in messages[next(iter(messages))]):
        lines += ["", "message Attribute {", "  oneof value {"]
        lines += [f"    {type_} {name} = {n};" for n, (name, type_) in enumerate(_ATTRIBUTE, 1)]
        lines += ["  }", "}"]
    return "\n".join(line.replace("   map", "  map") for line in lines) + "\n"


def message_class(versions: list[Contract]) -> Any:
    """Return the message class of the last of `versions`. Raises `MissingLibrary`."""
    return _message_class(tuple(_File.of(versions)))


def proto_base64(versions: list[Contract]) -> str:
    """Return the compiled file of the last of `versions` in base64. Raises `MissingLibrary`."""
    content: bytes = message_class(versions).DESCRIPTOR.file.serialized_pb
    return base64.b64encode(content).decode()


class _File(NamedTuple):
    """A message in a form that can be a key."""

    name: str
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, versions: list[Contract]) -> Iterator["_File"]:
        for name, lines in _messages(versions).items():
            yield cls(name, tuple(lines))


@cache
def _message_class(messages: tuple[_File, ...]) -> Any:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ModuleNotFoundError:
        raise MissingLibrary("Protobuf", "protobuf") from None
    file: Any = descriptor_pb2.FileDescriptorProto(
        name="onhand.proto", package="onhand", syntax="proto3"
    )
    for message in messages:
        described = file.message_type.add(name=message.name)
        for line in message.lines:
            _describe(described, line)
    attribute = file.message_type.add(name="Attribute")
    attribute.oneof_decl.add(name="value")
    for number, (name, type_) in enumerate(_ATTRIBUTE, 1):
        attribute.field.add(
            name=name, number=number, type=_TYPES[type_], label=1, oneof_index=0, json_name=name
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindMessageTypeByName(f"onhand.{messages[0].name}")
    return message_factory.GetMessageClass(found)


_TYPES: Final = {"double": 1, "int64": 3, "bool": 8, "string": 9}
_MESSAGE: Final = 11


def _describe(message: Any, line: Line) -> None:
    """Add a field to a message's descriptor."""
    if line.type.startswith("map"):
        entry = message.nested_type.add(name=f"{line.name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_TYPES["string"], label=1)
        entry.field.add(
            name="value", number=2, type=_MESSAGE, label=1, type_name=".onhand.Attribute"
        )
        message.field.add(
            name=line.name, number=line.number, label=3, type=_MESSAGE,
            type_name=f".onhand.{message.name}.{entry.name}",
        )  # fmt: skip
        return
    field = message.field.add(name=line.name, number=line.number)
    field.label = 3 if line.label == "repeated" else 1
    if line.type in _TYPES:
        field.type = _TYPES[line.type]
        if line.label == "optional":
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{line.name}")
    else:
        field.type = _MESSAGE
        field.type_name = f".onhand.{line.type}"


def parse_protobuf(
    registry: Registry, kind: Kind, body: bytes, now_ms: int, limits: Limits = LIMITS
) -> Steps[Parsed[Any]]:
    """Decode and check a Protobuf body. Raises `Invalid` or `TooLarge`."""
    parts = [(0, len(body))] if body[:1] == b"\0" else _split(body, limits)

    def part(index: int) -> bytes:
        begin, end = parts[index]
        return body[begin:end] if body[begin : begin + 1] == b"\0" else _delimited(body[begin:end])

    packs = pack_messages(registry, kind, body, parts, limits)
    outcomes = read_packs(registry.gate(kind), packs, now_ms, Patience(limits.errors))
    parsed = yield from collect(outcomes, part, limits)
    for record in parsed.records:
        attributes = getattr(record, "attributes", None)
        if attributes:  # a map has no order on the wire
            record.attributes = dict(sorted(attributes.items()))
    return parsed


def _split(body: bytes, limits: Limits) -> list[tuple[int, int]]:
    """Return where each message begins and ends."""
    parts: list[tuple[int, int]] = []
    position, end = 0, len(body)
    while position < end:
        size = body[position]
        position += 1
        if size >= 0x80:
            size, position = read_varint(body, position - 1, zigzag=False)
        if position + size > end:
            raise Invalid("malformed", f"The message at byte {position} is cut off.")
        parts.append((position, position + size))
        position += size
        if len(parts) > limits.records:
            refuse_batch(limits)
    return parts


def _delimited(message: bytes) -> bytes:
    size, head = len(message), bytearray()
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + message


def pack_messages(
    registry: Registry, kind: Kind, body: bytes, parts: list[tuple[int, int]], limits: Limits
) -> Iterator[Pack]:
    """Pack messages, by the latest version or by that of the schema id before them."""

    @cache
    def layout_of(head: bytes) -> "_Layout":
        return _framed_layout(registry, kind, head) if head else _latest_layout(registry, kind)

    def head_of(part: tuple[int, int]) -> bytes:
        begin, end = part
        is_framed = begin < end and body[begin] == 0
        return body[begin : min(begin + _HEAD_BYTES, end)] if is_framed else b""

    buffer, content = Buffer(limits.body_bytes), np.frombuffer(body, np.uint8)
    for head, run in groupby(parts, head_of):
        spans = np.array(list(run), np.int64)
        fault = None
        try:
            layout = layout_of(head)
            spans[:, 0] += len(head)
        except Invalid as error:  # with its head, none of these can be read
            layout, fault = layout_of(b""), Fault(error.code, error.message)
        buffer.progress[0] = 0
        while buffer.progress[0] < len(spans):
            first = buffer.count
            state = pack_protobuf(
                content, spans, *layout.tables, buffer.out, buffer.places, buffer.progress
            )
            wrong: list[int] = buffer.places[first : buffer.count, 3].tolist()
            for place, each in enumerate(wrong, first):
                if each:
                    buffer.faults[place] = fault or layout.fault(each)
            if state == FULL or buffer.count == STEP:
                yield buffer.flush()
    if buffer.count:
        yield buffer.flush()


class _Layout(NamedTuple):
    """The tables of some messages, and the lines that their rows are made from."""

    tables: ProtobufLayout
    lines: list[Line]

    def fault(self, wrong: int) -> Fault:
        """Return what the kernel says is wrong with a message."""
        if wrong == CUT:
            return _MALFORMED
        line = self.lines[wrong - 1]
        return Fault("wrong_type", f"`{line.name}` is not sent as {line.type}.", line.name)


_MALFORMED: Final = Fault("malformed", "This is no such message: it is cut off, or none at all.")


def _framed_layout(registry: Registry, kind: Kind, head: bytes) -> _Layout:
    """Return the layout of the version that a message was written by. Raises `Invalid`."""
    contract = registry.framed(int.from_bytes(head[1:5], "big"), kind, "protobuf")
    if len(head) < _HEAD_BYTES or head[5] != 0:
        raise Invalid("message_index", "The record is the first message of its file (index 0).")
    versions = registry.versions(contract.name)[: contract.version]
    return _layout(((contract.name, tuple(_File.of(versions))),))


def _latest_layout(registry: Registry, kind: Kind) -> _Layout:
    names = (kind, *registry.gate(kind).own)
    return _layout(tuple((name, tuple(_File.of(registry.versions(name)))) for name in names))


@lru_cache(maxsize=256)
def _layout(files: tuple[tuple[str, tuple[_File, ...]], ...]) -> _Layout:
    """Lay out a file, and behind it those of event types with contracts of their own."""
    messages = {name: {each.name: each.lines for each in file} for name, file in files}
    lines = [line for _, file in files for each in file for line in each.lines]
    return _Layout(ProtobufLayout.of(messages), lines)


def same_proto(one: str, other: str) -> bool:
    """Whether two `.proto` files say the same: compared by their fields, however they are laid
    out. A client may send the base64 of a compiled file instead."""
    return _tokens(one) == _tokens(other)


def _tokens(text: str) -> list[str]:
    found = _proto_of_descriptor(text)
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", " ", found or text, flags=re.DOTALL)
    return re.findall(r"[A-Za-z0-9_.]+|[^\sA-Za-z0-9_.]", plain)


def _proto_of_descriptor(text: str) -> str | None:
    """Return the file of a compiled descriptor in base64; None where it is none."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    from google.protobuf import descriptor_pb2
    from google.protobuf.message import DecodeError

    try:
        file: Any = descriptor_pb2.FileDescriptorProto.FromString(content)
    except DecodeError:
        return None
    lines = ['syntax = "proto3";', f"package {file.package};"]
    lines += [_message_text(message) for message in file.message_type]
    return "\n".join(lines)


def _message_text(message: Any) -> str:
    entries = {entry.name: entry for entry in message.nested_type if entry.options.map_entry}
    kinds = {number: name for name, number in _TYPES.items()}
    fields: list[str] = []
    in_oneof: list[str] = []
    for field in message.field:
        type_ = kinds.get(field.type) or field.type_name.rpartition(".")[2]
        if type_ in entries:
            value = entries[type_].field[1]
            inner = kinds.get(value.type) or value.type_name.rpartition(".")[2]
            fields.append(f"map<string, {inner}> {field.name} = {field.number};")
        elif field.HasField("oneof_index") and not field.proto3_optional:
            in_oneof.append(f"{type_} {field.name} = {field.number};")
        else:
            label = "repeated" if field.label == 3 else "optional"
            fields.append(f"{label} {type_} {field.name} = {field.number};")
    if in_oneof:
        fields.append(f"oneof {message.oneof_decl[0].name} {{ {' '.join(in_oneof)} }}")
    return f"message {message.name} {{ {' '.join(fields)} }}"
