import io
import json
import zlib
from typing import Any

import fastavro
import msgspec
import pytest
from google.protobuf.json_format import ParseDict

from onhand.contracts.avro import avro_schema
from onhand.contracts.batch import Limits, Parsed, TooLarge
from onhand.contracts.contract import Draft
from onhand.contracts.errors import Invalid
from onhand.contracts.formats import AVRO, JSON, PROTOBUF, SEGMENT, TEXT, parse
from onhand.contracts.protobuf import message_class, proto_text, same_proto
from onhand.contracts.registry import Registry, control_of

NOW_MS = 1_795_000_000_000
REGISTRY = Registry()
EVENTS: list[dict[str, Any]] = [
    {"type": "view", "session": "s1", "item": "a", "time": NOW_MS, "id": "e1"},
    {"type": "purchase", "user": "u", "item": "b", "time": NOW_MS - 5, "value": 0.0, "quantity": 3},
    {"type": "search", "user": "ü", "query": "mug", "time": NOW_MS, "position": 0},
    {
        "type": "view", "session": "s1", "item": "a", "time": NOW_MS,
        "context": {"country": "GB"}, "attributes": {"a": "x", "b": 2.5, "c": True},
    },
]  # fmt: skip
ITEMS: list[dict[str, Any]] = [
    {"id": "a", "title": "Mug", "price": 2.5, "stock": 0, "tags": ["x", "y"]},
    {"id": "b", "attributes": {"colour": "red", "new": False, "weight": 2.0}, "created": NOW_MS},
]
SIGNALS: list[dict[str, Any]] = [
    {"item": "a", "stock": 0},
    {"item": "a", "flags": []},
    {"item": "a", "flags": ["recall"], "fulfilment": {"slots": 0, "congestion": 0.5}},
]


def container(schema: dict[str, Any], records: list[dict[str, Any]], codec: str = "null") -> bytes:
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), records, codec=codec)
    return file.getvalue()


def delimited(*messages: bytes) -> bytes:
    body = bytearray()
    for message in messages:
        size = len(message)
        while size > 0x7F:
            body.append(size & 0x7F | 0x80)
            size >>= 7
        body.append(size)
        body += message
    return bytes(body)


def message(kind: str, fields: dict[str, Any], registry: Registry = REGISTRY) -> Any:
    made = message_class(registry.versions(kind))()
    plain = {name: each for name, each in fields.items() if name not in ("attributes", "flags")}
    ParseDict(plain, made)
    for name, value in fields.get("attributes", {}).items():
        target = made.attributes[name]
        if isinstance(value, bool):
            target.flag = value
        elif isinstance(value, float):
            target.number = value
        else:
            target.text = value
    if "flags" in fields:
        made.flags.SetInParent()
        made.flags.values.extend(fields["flags"])
    return made


def encode_protobuf(kind: str, records: list[dict[str, Any]]) -> bytes:
    return delimited(*(message(kind, each).SerializeToString() for each in records))


def read(kind: Any, media: str, body: bytes, registry: Registry = REGISTRY) -> Parsed[Any]:
    return parse(registry, kind, media, body, NOW_MS)


@pytest.mark.parametrize(
    ("kind", "records"), [("events", EVENTS), ("items", ITEMS), ("signals", SIGNALS)]
)
def test_the_same_records_in_every_format(kind: Any, records: list[dict[str, Any]]) -> None:
    expected = read(kind, JSON, json.dumps(records).encode())
    assert expected.rejected == 0
    schema = avro_schema(REGISTRY.version(kind))
    for codec in ("null", "deflate"):
        found = read(kind, AVRO, container(schema, records, codec))
        assert (found.errors, found.records) == ([], expected.records)
    found = read(kind, PROTOBUF, encode_protobuf(kind, records))
    assert (found.errors, found.records) == ([], expected.records)
    assert msgspec.msgpack.encode(found.records) == msgspec.msgpack.encode(expected.records)


def test_null_stock_is_said_by_its_companion() -> None:
    expected = read("signals", JSON, b'[{"item":"a","stock":null}]').records
    signal = {"item": "a", "stock_null": True}
    schema = avro_schema(REGISTRY.version("signals"))
    assert read("signals", AVRO, container(schema, [signal])).records == expected
    assert read("signals", PROTOBUF, encode_protobuf("signals", [signal])).records == expected


def test_the_confluent_wire_format() -> None:
    expected = read("events", JSON, json.dumps(EVENTS).encode()).records
    schema = fastavro.parse_schema(avro_schema(REGISTRY.version("events")))
    frames = b""
    for event in EVENTS:
        file = io.BytesIO()
        fastavro.schemaless_writer(file, schema, event)
        frames += b"\0" + REGISTRY.number("events", 1, "avro").to_bytes(4, "big") + file.getvalue()
    assert read("events", AVRO, frames).records == expected
    head = b"\0" + REGISTRY.number("events", 1, "protobuf").to_bytes(4, "big") + b"\0"
    framed = [head + message("events", each).SerializeToString() for each in EVENTS]
    assert read("events", PROTOBUF, delimited(*framed)).records == expected
    assert read("events", PROTOBUF, framed[0]).records == expected[:1]
    head = b"\0" + REGISTRY.number("events", 1, "json").to_bytes(4, "big")
    assert read("events", JSON, head + json.dumps(EVENTS[0]).encode()).records == expected[:1]


@pytest.mark.parametrize("number", [0, 2, 4, 99, 2**31])
def test_a_wrong_schema_id_is_refused(number: int) -> None:
    body = b"\0" + number.to_bytes(4, "big") + b"\0x"
    with pytest.raises(Invalid) as caught:
        read("events", AVRO, body)
    assert caught.value.code == "wrong_schema"
    if number != 2:
        assert read("events", PROTOBUF, body).errors[0].code == "wrong_schema"


def test_an_older_version_is_still_read() -> None:
    draft = msgspec.convert({"fields": {"margin": {"type": "number"}, "dwell_ms": None}}, Draft)
    control = control_of(REGISTRY.draft("events", draft))
    registry = Registry({control.name: control.body})
    head = b"\0" + REGISTRY.number("events", 1, "protobuf").to_bytes(4, "big") + b"\0"
    old = message("events", EVENTS[0] | {"dwell_ms": 5}).SerializeToString()
    records = read("events", PROTOBUF, head + old, registry).records
    assert records == read("events", JSON, json.dumps(EVENTS[0]).encode()).records
    new = message("events", EVENTS[0] | {"margin": 0.25}, registry).SerializeToString()
    found = read("events", PROTOBUF, delimited(new), registry)
    assert found.records[0].attributes == {"margin": 0.25}
    assert "margin = 16" in proto_text(registry.versions("events"))


def test_field_numbers_do_not_change() -> None:
    lines = proto_text(REGISTRY.versions("signals")).splitlines()
    assert "  optional string item = 1;" in lines
    assert "  optional bool stock_null = 3;" in lines
    assert "  optional Words flags = 5;" in lines
    assert "  optional string currency = 7;" in lines
    text = proto_text(REGISTRY.versions("events"))
    assert "  optional int64 time = 5;" in text
    assert "  map<string, Attribute> attributes = 15;" in text


def test_a_proto_file_is_the_same_however_it_is_laid_out() -> None:
    text = proto_text(REGISTRY.versions("events"))
    assert same_proto(text.replace("\n", "  \n // a comment\n"), text)
    assert not same_proto(text.replace("= 5", "= 6"), text)


def test_a_bad_record_keeps_its_own_bytes() -> None:
    drifted = {
        "type": "record", "name": "E", "fields": [
            {"name": "type", "type": "string"}, {"name": "item", "type": "string"},
            {"name": "session", "type": "string"}, {"name": "value", "type": ["double", "string"]},
        ],
    }  # fmt: skip
    good = {"type": "view", "item": "a", "session": "s", "value": 1.0}
    for codec in ("null", "deflate"):
        body = container(drifted, [good, good | {"value": "1.0"}, good], codec)
        parsed = read("events", AVRO, body)
        assert (len(parsed.records), list(parsed.places)) == (2, [0, 2])
        (refusal,) = parsed.refused
        assert (refusal.place, refusal.fault.code, refusal.fault.field) == (
            1,
            "wrong_type",
            "value",
        )
        again = read("events", AVRO, parsed.part(refusal.place))
        assert (len(again.records), again.rejected) == (0, 1)
    bad = message("events", EVENTS[0] | {"item": "x" * 200}).SerializeToString()
    fine = message("events", EVENTS[0]).SerializeToString()
    parsed = read("events", PROTOBUF, delimited(fine, bad, b"\xff\xff", fine))
    assert list(parsed.places) == [0, 3]
    assert [(each.place, each.fault.code) for each in parsed.refused] == [
        (1, "length"),
        (2, "malformed"),
    ]
    assert parsed.part(1) == delimited(bad)


def test_a_protobuf_field_of_another_type_does_not_vanish() -> None:
    as_text = b"\x0a\x04view\x1a\x01s\x22\x01a\x3a\x032.5"
    parsed = read("events", PROTOBUF, delimited(as_text))
    assert (parsed.errors[0].code, parsed.refused[0].fault.field) == ("wrong_type", "value")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "R", "fields": [{"name": "n", "type": ["null", "R"]}]},
        {"type": "record", "name": "R", "fields": [
            {"name": "n", "type": {"type": "array", "items": "null"}}]},
        {"type": "record", "name": "R", "fields": [
            {"name": "n", "type": {"type": "array", "items": {
                "type": "record", "name": "E", "fields": []}}}]},
        {"type": "fixed", "name": "F", "size": 2**40},
    ],
)  # fmt: skip
def test_a_writers_schema_that_could_hurt_is_refused(schema: Any) -> None:
    text = json.dumps(schema).encode()
    with pytest.raises(Invalid) as caught:
        read("events", AVRO, file_with(text, b"\x02\x02\x00"))
    assert caught.value.code == "schema"


def file_with(schema: bytes, block: bytes, codec: bytes = b"null") -> bytes:
    def text(value: bytes) -> bytes:
        return zigzag(len(value)) + value

    sync = bytes(16)
    head = zigzag(2) + text(b"avro.schema") + text(schema) + text(b"avro.codec") + text(codec)
    return b"Obj\x01" + head + zigzag(0) + sync + block + sync


def zigzag(value: int) -> bytes:
    value <<= 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def test_a_deep_schema_and_a_huge_one_are_refused() -> None:
    deep: Any = "string"
    for _ in range(3000):
        deep = {"type": "array", "items": deep}
    for schema in (
        msgspec.json.encode("x" * 70_000),
        b"[" * 5000 + b"]" * 5000,
        b'{"type":' * 400 + b'"string"' + b"}" * 400,
    ):
        with pytest.raises(Invalid) as caught:
            read("events", AVRO, file_with(schema, b"\x02\x02\x00"))
        assert caught.value.code == "schema"


def test_a_block_that_unpacks_to_too_much_is_refused() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(50_000_000)) + packer.flush()
    block = zigzag(1) + zigzag(len(bomb)) + bomb
    with pytest.raises(TooLarge):
        read("events", AVRO, file_with(b'"string"', block, b"deflate"))


def test_more_records_than_may_be() -> None:
    limits = Limits(records=3)
    schema = avro_schema(REGISTRY.version("events"))
    for media, body in (
        (AVRO, container(schema, EVENTS)),
        (PROTOBUF, encode_protobuf("events", EVENTS)),
        (AVRO, file_with(b'{"type":"record","name":"R","fields":[]}', zigzag(2**50) + b"\0")),
    ):
        with pytest.raises(TooLarge):
            parse(REGISTRY, "events", media, body, NOW_MS, limits)


def test_long_records_are_read_whole() -> None:
    schema = {
        "type": "record", "name": "E", "fields": [
            {"name": "type", "type": "string"}, {"name": "session", "type": "string"},
            {"name": "item", "type": "string"}, {"name": "note", "type": "string"},
        ],
    }  # fmt: skip
    view = {"type": "view", "session": "s", "item": "a"}
    notes = ["x" * size for size in (200, 3_000_000, 0, *[50_000] * 20)]
    body = container(schema, [view | {"note": note} for note in notes])
    assert len(read("events", AVRO, body).records) == len(notes)
    attributes = {f"a{n}": "é" * 1000 for n in range(64)}
    item = {"id": "a", "text": "x" * 10_000, "attributes": attributes}
    (found,) = read("items", PROTOBUF, encode_protobuf("items", [item])).records
    assert (found.text, found.attributes) == (item["text"], dict(sorted(attributes.items())))
    with pytest.raises(TooLarge):
        parse(REGISTRY, "events", AVRO, body, NOW_MS, Limits(body_bytes=300_000))


def test_beacons_send_text() -> None:
    one = json.dumps(EVENTS[0]).encode()
    for body, count in ((one, 1), (b"[" + one + b"]", 1), (one + b"\n" + one, 2)):
        assert len(read("events", TEXT, body).records) == count


def test_ga4_events_become_ours() -> None:
    event = {
        "name": "purchase",
        "client_id": "c1",
        "timestamp_micros": NOW_MS * 1000,
        "params": {"event_id": "t1", "items": [{"item_id": "a", "quantity": 2}, {"item_id": "b"}]},
    }
    parsed = read("events", JSON, json.dumps([event, EVENTS[0]]).encode())
    assert [(each.type, each.item, each.session, each.id) for each in parsed.records] == [
        ("purchase", "a", "c1", "t1"),
        ("purchase", "b", "c1", "t1:1"),
        ("view", "a", "s1", "e1"),
    ]
    assert parsed.records[0].time == NOW_MS


def test_segment_messages_become_events() -> None:
    order = {
        "type": "track", "event": "Order Completed", "userId": "u", "messageId": "m",
        "timestamp": "2026-11-18T10:00:00Z",
        "properties": {"products": [{"product_id": "a", "quantity": 2}, {"sku": "b"}]},
    }  # fmt: skip
    other = {"type": "track", "event": "Coupon Entered", "anonymousId": "s", "properties": None}
    page = {"type": "page", "anonymousId": "s", "name": "Home"}
    bad = {"type": "track", "event": "Product Viewed", "userId": "u"}
    parsed = read("events", SEGMENT, json.dumps({"batch": [order, other, page, bad, 5]}).encode())
    assert [(each.type, each.item, each.quantity) for each in parsed.records] == [
        ("purchase", "a", 2),
        ("purchase", "b", 1),
        ("coupon_entered", None, 1),
        ("page", None, 1),
    ]
    assert [each.id for each in parsed.records[:2]] == ["m", "m:1"]
    assert [each.fault.code for each in parsed.refused] == ["missing_item", "wrong_type"]
