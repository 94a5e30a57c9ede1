"""Avro and Protobuf as this project reads them, against their own libraries."""

import io
from contextlib import suppress
from itertools import count
from typing import Any

import fastavro
import msgspec
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from onhand.contracts.avro import pack_container
from onhand.contracts.batch import LIMITS
from onhand.contracts.errors import Invalid
from onhand.contracts.protobuf import message_class, pack_messages
from onhand.contracts.registry import Registry

REGISTRY = Registry()
DAMAGE = st.tuples(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 20))
"""A byte to change, what to, and how many to leave out at the end."""
NUMBERS = count()
"""For the names of types, which must differ within a schema."""
TEXT = st.text(max_size=40)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": TEXT,
    "bytes": st.binary(max_size=40),
}
Typed = tuple[Any, st.SearchStrategy[Any]]
"""An Avro type and its values."""


@st.composite
def avro_types(draw: st.DrawFn, depth: int = 0) -> Typed:
    choices = ["scalar", "enum", "union"] + (["record", "array", "map"] if depth < 3 else [])
    choice = draw(st.sampled_from(choices))
    if choice == "enum":
        symbols = draw(
            st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, unique=True)
        )
        name = f"E{next(NUMBERS)}"
        return {"type": "enum", "name": name, "symbols": symbols}, st.sampled_from(symbols)
    if choice == "union":
        name = draw(st.sampled_from(["string", "long", "double", "boolean"]))
        return ["null", name], st.none() | SCALARS[name]
    if choice == "record":
        return draw(records(depth + 1))
    name = draw(st.sampled_from(sorted(SCALARS)))
    if choice == "scalar":
        return name, SCALARS[name]
    if choice == "array":
        return {"type": "array", "items": name}, st.lists(SCALARS[name], max_size=5)
    return {"type": "map", "values": name}, st.dictionaries(TEXT, SCALARS[name], max_size=5)


@st.composite
def records(draw: st.DrawFn, depth: int = 0) -> Typed:
    fields = draw(st.lists(avro_types(depth), min_size=1, max_size=6))
    named = {f"f{number}": each for number, each in enumerate(fields)}
    schema = {
        "type": "record",
        "name": f"R{next(NUMBERS)}",
        "fields": [{"name": name, "type": type_} for name, (type_, _) in named.items()],
    }
    return schema, st.fixed_dictionaries({name: values for name, (_, values) in named.items()})


@st.composite
def avro_files(draw: st.DrawFn) -> tuple[Any, list[Any]]:
    schema, values = draw(records())
    return schema, draw(st.lists(values, max_size=4))


def damage(content: bytes, place: int, byte: int, cut: int) -> bytes:
    changed = bytearray(content) or bytearray(1)
    changed[place % len(changed)] = byte
    return bytes(changed[: max(len(changed) - cut, 0)])


@settings(max_examples=50)
@given(avro_files(), st.sampled_from(["null", "deflate"]))
def test_avro_reads_as_its_library_does(file: tuple[Any, list[Any]], codec: str) -> None:
    body = avro_file(*file, codec)
    expected = [without_null(each) for each in fastavro.reader(io.BytesIO(body))]
    assert values_of(pack_container(body, [], LIMITS)) == expected


@settings(max_examples=50)
@given(avro_files(), DAMAGE)
def test_damaged_avro_is_refused_or_read(file: tuple[Any, list[Any]], damaged: Any) -> None:
    body = damage(avro_file(*file, "null"), *damaged)
    with suppress(Invalid, UnicodeDecodeError):
        for pack in pack_container(body, [], LIMITS):
            assert len(pack.content) == (pack.ends[-1] if pack.ends else 0)
            values_of([pack])


def avro_file(schema: Any, values: list[Any], codec: str) -> bytes:
    content = io.BytesIO()
    fastavro.writer(content, fastavro.parse_schema(schema), values, codec=codec)
    return content.getvalue()


def without_null(value: Any) -> Any:
    """A record as it is packed."""
    if not isinstance(value, dict):
        return value
    return {name: without_null(each) for name, each in value.items() if each is not None}


def values_of(packs: Any) -> list[Any]:
    found: list[Any] = []
    for pack in packs:
        begin = 0
        for index, end in enumerate(pack.ends):
            each = msgspec.msgpack.decode(pack.content[begin:end])
            found.append(pack.faults[index].code if index in pack.faults else each)
            begin = end
    return found


NUMBER = st.integers(-(2**63), 2**63 - 1)
MESSAGES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "events": st.fixed_dictionaries(
        {"type": TEXT},
        optional={
            "user": TEXT, "time": NUMBER, "quantity": NUMBER, "query": st.text(min_size=30),
            "value": st.floats(allow_nan=False),
            "context": st.fixed_dictionaries({}, optional={"device": TEXT, "country": TEXT}),
            "attributes": st.dictionaries(
                TEXT, TEXT | st.floats(allow_nan=False) | st.booleans(), max_size=4
            ),
        },
    ),
    "items": st.fixed_dictionaries(
        {"id": TEXT}, optional={"tags": st.lists(TEXT, max_size=4), "price": st.floats(0, 1)}
    ),
    "signals": st.fixed_dictionaries(
        {"item": TEXT},
        optional={
            "stock": NUMBER, "stock_null": st.just(True), "flags": st.lists(TEXT, max_size=4),
            "fulfilment": st.fixed_dictionaries({}, optional={"slots": NUMBER}),
        },
    ),
}  # fmt: skip
KINDS = st.sampled_from(["events", "items", "signals"])


def message_of(kind: str, value: dict[str, Any]) -> bytes:
    """The bytes of a message; of its fields, some are set in the library's own ways."""
    message = message_class(REGISTRY.versions(kind))()
    for name, each in value.items():
        field = getattr(message, name)
        if name == "attributes":
            for key, option in each.items():
                member = {str: "text", float: "number", bool: "flag"}[type(option)]
                setattr(field[key], member, option)
        elif name == "flags":
            field.SetInParent()
            field.values.extend(each)
        elif isinstance(each, dict):
            field.SetInParent()
            for inner, option in each.items():
                setattr(field, inner, option)
        elif isinstance(each, list):
            field.extend(each)
        else:
            setattr(message, name, each)
    return message.SerializeToString()


def packed_of(value: dict[str, Any]) -> dict[str, Any]:
    """A message's fields as they are packed: text that is empty is absent."""
    found: dict[str, Any] = {}
    for name, each in value.items():
        if (name == "stock" and "stock_null" in value) or name == "stock_null":
            found["stock"] = None
        elif name in ("context", "fulfilment"):
            found[name] = packed_of(each)
        elif each != "" and (each or name not in ("tags", "attributes")):
            found[name] = each
    return found


@given(KINDS.flatmap(lambda kind: st.tuples(st.just(kind), st.lists(MESSAGES[kind], max_size=4))))
def test_protobuf_reads_what_its_library_writes(drawn: tuple[Any, list[dict[str, Any]]]) -> None:
    kind, values = drawn
    messages = [message_of(kind, each) for each in values]
    assert read_messages(kind, messages) == [packed_of(each) for each in values]


@settings(max_examples=50)
@given(KINDS.flatmap(lambda kind: st.tuples(st.just(kind), MESSAGES[kind])), DAMAGE)
def test_a_damaged_message_is_refused_where_its_library_refuses_it(
    drawn: tuple[Any, dict[str, Any]], damaged: Any
) -> None:
    kind, value = drawn
    message = damage(message_of(kind, value), *damaged)
    try:
        (found,) = read_messages(kind, [message])
    except UnicodeDecodeError:
        found = "malformed"
    try:
        message_class(REGISTRY.versions(kind)).FromString(message)
    except DecodeError:
        assert isinstance(found, str)


def read_messages(kind: Any, messages: list[bytes]) -> list[Any]:
    body, spans = b"", list[tuple[int, int]]()
    for each in messages:
        spans.append((len(body), len(body) + len(each)))
        body += each
    return values_of(pack_messages(REGISTRY, kind, body, spans, LIMITS))
