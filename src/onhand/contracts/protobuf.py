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
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from onhand.contracts.avro import MissingLibrary, read_varint
from onhand.contracts.batch import LIMITS, Limits, Parsed, collect, refuse_batch
from onhand.contracts.contract import Contract, Field, standard
from onhand.contracts.errors import Fault, Invalid
from onhand.contracts.explain import Patience
from onhand.contracts.records import Event, Item, Signal
from onhand.contracts.registry import Registry
from onhand.contracts.shapes import RECORDS, Kind, Member, members_of
from onhand.steps import Steps

__all__ = ["message_class", "parse_protobuf", "proto_base64", "proto_text", "same_proto"]

R = TypeVar("R", Event, Item, Signal)

_SCALARS: Final = {
    "string": "string",
    "integer": "int64",
    "number": "double",
    "boolean": "bool",
    "time": "int64",
}
_HEAD_BYTES: Final = 5


class Line(NamedTuple):
    """One field of a message: `label` is optional, repeated or nothing (a map)."""

    name: str
    number: int
    type: str
    label: str = "optional"


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
    """Decode and check a Protobuf body. Raises `Invalid`, `TooLarge`, and `MissingLibrary` where
    protobuf is not installed."""
    gate = registry.gate(kind)
    read, patience = _Reader(registry, kind), Patience(limits.errors)
    parts = [(0, len(body))] if body[:1] == b"\0" else _split(body, limits)

    def part(index: int) -> bytes:
        begin, end = parts[index]
        return body[begin:end] if body[begin : begin + 1] == b"\0" else _delimited(body[begin:end])

    view = memoryview(body)
    values = (read(view[begin:end]) for begin, end in parts)
    return (yield from collect(gate.read_each(values, now_ms, patience), part, limits))


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


class _Reader:
    """Messages to objects: by the latest version, or by that of the schema id before it."""

    def __init__(self, registry: Registry, kind: Kind) -> None:
        self._registry = registry
        self._kind: Kind = kind
        self._latest = _layout(tuple(_File.of(registry.versions(kind))))
        own = registry.gate(kind).own
        self._own = {name: _layout(tuple(_File.of(registry.versions(name)))) for name in own}

    def __call__(self, part: memoryview) -> Any:
        """Return the object of a message, or the fault of one that cannot be read."""
        layout = self._latest
        try:
            if len(part) and part[0] == 0:
                layout, part = self._framed(part)
            message = layout.parse(part)
            if self._own and layout is self._latest and message.type in self._own:
                layout = self._own[message.type]
                message = layout.parse(part)
        except Invalid as error:
            return Fault(error.code, error.message)
        except Exception as error:  # whatever the library meets in bytes from outside
            return Fault("malformed", f"This is no such message ({str(error)[:100]}).")
        return layout.to_object(message)

    def _framed(self, part: memoryview) -> tuple["_Layout", memoryview]:
        number = int.from_bytes(part[1:_HEAD_BYTES], "big")
        contract = self._registry.framed(number, self._kind, "protobuf")
        if len(part) <= _HEAD_BYTES or part[_HEAD_BYTES] != 0:
            raise Invalid("message_index", "The record is the first message of its file (index 0).")
        versions = self._registry.versions(contract.name)[: contract.version]
        return _layout(tuple(_File.of(versions))), part[_HEAD_BYTES + 1 :]


class _Layout:
    """How to read the messages of one version. An empty string is an absent one, a zero is not."""

    def __init__(self, messages: tuple[_File, ...]) -> None:
        from google.protobuf.unknown_fields import UnknownFieldSet

        lines = messages[0].lines
        self.parse: Callable[[memoryview], Any] = _message_class(messages).FromString
        self._fields = {line.number: line for line in lines}
        self._nested = {
            line.name: line for line in lines if line.type not in _TYPES or line.label != "optional"
        }
        self._unknown: Callable[[Any], Any] = UnknownFieldSet

    def to_object(self, message: Any) -> Any:
        """Return the fields of a message by name, or the fault of one with another type."""
        for field in self._unknown(message):
            line = self._fields.get(field.field_number)
            if line is not None:
                return Fault("wrong_type", f"`{line.name}` is not sent as {line.type}.", line.name)
        value: dict[str, Any] = {}
        nested = self._nested
        for descriptor, each in message.ListFields():
            name = descriptor.name
            if name in nested:
                value[name] = _read_nested(each, nested[name])
            elif each != "":
                value[name] = each
        if "stock_null" in value and value.pop("stock_null"):
            value["stock"] = None
        return value


@cache
def _layout(messages: tuple[_File, ...]) -> _Layout:
    _message_class(messages)
    return _Layout(messages)


def _read_nested(value: Any, line: Line) -> Any:
    if line.label == "repeated":
        return list(value)
    if not line.label:
        return {
            name: getattr(option, option.WhichOneof("value") or "text")
            for name, option in sorted(value.items())
        }
    if line.type == "Words":
        return list(value.values)
    return {inner.name: field for inner, field in value.ListFields()}


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
