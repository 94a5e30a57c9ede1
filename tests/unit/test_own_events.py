"""Event types that an app declares: contracts of their own, at every door."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

import onhand
from onhand import redelivery
from onhand.contracts.avro import avro_schema
from onhand.contracts.batch import Parsed, refusals
from onhand.contracts.contract import Draft, Incompatible
from onhand.contracts.errors import Invalid
from onhand.contracts.formats import AVRO, JSON, NDJSON, PROTOBUF, SEGMENT, parse
from onhand.contracts.json_schema import json_schema
from onhand.contracts.letters import DeadLetter, LetterFilter, letters_of
from onhand.contracts.protobuf import message_class, proto_text
from onhand.contracts.records import Event
from onhand.contracts.registry import Registry, control_of
from onhand.engine import Engine
from onhand.log.dead_letters import DeadLetterStore
from onhand.log.memory import MemoryLog
from onhand.serving.openapi import build_openapi
from onhand.state.state import Limits
from onhand.steps import finish

NOW_MS = 1_795_000_000_000
LIMITS = Limits(items=64, users=32, sessions=32)
WISH = {"type": "wish", "session": "s", "item": "a", "list": "home", "weight": 2.5}


def shop(**more: onhand.Field) -> onhand.App:
    app = onhand.App(ready=False)
    fields = {
        "item": onhand.Field("string", required=True),
        "list": onhand.Field("string", required=True, max_length=8),
        "weight": onhand.Field("number", unit="kg", minimum=0, maximum=50),
        "stars": onhand.Field("integer", minimum=1, maximum=5),
        "due": onhand.Field("time", units=("seconds", "milliseconds")),
        "gift": onhand.Field("boolean"),
    }
    app.event("wish", {**fields, **more})
    return app


def registry_of(app: onhand.App) -> Registry:
    registry = Registry()
    for name, draft in app.events.items():
        contract = registry.declare(name, draft)
        assert contract is not None
        control = control_of(contract)
        body = msgspec.json.decode(msgspec.json.encode(control.body))
        registry = Registry({control.name: body})
    return registry


REGISTRY = registry_of(shop())


def read(media: str, body: bytes, registry: Registry = REGISTRY) -> Parsed[Any]:
    return parse(registry, "events", media, body, NOW_MS)


def letters(registry: Registry, parsed: Parsed[Any]) -> list[DeadLetter]:
    gate = registry.gate("events")
    return finish(letters_of(gate, parsed.refused, parsed.part, "/v1/events", JSON, NOW_MS))


def in_json(*events: dict[str, Any], media: str = JSON) -> Parsed[Any]:
    if media == JSON:
        return read(JSON, json.dumps(events).encode())
    return read(media, b"".join(json.dumps(each).encode() + b"\n" for each in events))


def wished(parsed: Parsed[Any]) -> Event:
    assert parsed.errors == []
    return parsed.records[0]


@pytest.mark.parametrize("media", [JSON, NDJSON])
def test_its_fields_are_kept_and_the_others_stay_as_fast(media: str) -> None:
    view = {"type": "view", "session": "s", "item": "b", "time": NOW_MS, "list": "none"}
    found = in_json(view, WISH | {"due": NOW_MS // 1000}, view, media=media)
    assert [each.type for each in found.records] == ["view", "wish", "view"]
    assert found.records[0].attributes is None
    assert found.records[1].attributes == {"list": "home", "weight": 2.5, "due": float(NOW_MS)}
    inside = {"type": "wish", "session": "s", "item": "a", "attributes": {"list": "home"}}
    assert wished(in_json(inside)).attributes == {"list": "home"}


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"list": None}, "missing_field", "list"),
        ({"list": 5}, "wrong_type", "list"),
        ({"list": ["home"]}, "wrong_type", "list"),
        ({"list": "too long a name"}, "length", "list"),
        ({"weight": 51}, "range", "weight"),
        ({"weight": "5"}, "wrong_type", "weight"),
        ({"stars": 2.5}, "wrong_type", "stars"),
        ({"stars": True}, "wrong_type", "stars"),
        ({"gift": 1}, "wrong_type", "gift"),
        ({"due": NOW_MS * 10**6}, "time_unit", "due"),
        ({"due": "soon"}, "time_format", "due"),
        ({"item": None}, "missing_field", "item"),
        ({"session": None}, "missing_visitor", None),
        ({"time": NOW_MS * 10**6}, "time_unit", "time"),
        ({"attributes": 7}, "wrong_type", "attributes"),
        ({"attributes": {"list": 7}, "list": None}, "missing_field", "list"),
    ],
)
def test_what_is_wrong_is_refused_under_its_own_contract(
    change: dict[str, Any], code: str, field: str | None
) -> None:
    sent = json.dumps(WISH | change).encode()
    view = b'{"type":"view","session":"s","item":"b"}'
    found = read(JSON, b"[" + view + b"," + sent + b"]")
    assert len(found.records) == 1
    fault = found.refused[0].fault
    assert (fault.code, fault.field, fault.contract) == (code, field, "wish")
    (letter,) = letters(REGISTRY, found)
    assert (letter.contract, letter.raw) == ("wish", sent)


def test_a_number_beyond_all_is_a_fault() -> None:
    sent = json.dumps(WISH | {"weight": 0}).replace('"weight": 0', '"weight": 1e999')
    assert read(JSON, f"[{sent}]".encode()).refused[0].fault.code == "range"


def test_the_same_in_every_format() -> None:
    expected = [wished(in_json(WISH))]
    contract = REGISTRY.version("wish")
    schema = fastavro.parse_schema(avro_schema(contract))
    file = io.BytesIO()
    fastavro.writer(file, schema, [WISH])
    assert read(AVRO, file.getvalue()).records == expected
    framed = io.BytesIO()
    fastavro.schemaless_writer(framed, schema, WISH)
    head = b"\0" + REGISTRY.number("wish", 1, "avro").to_bytes(4, "big")
    assert read(AVRO, head + framed.getvalue()).records == expected
    message = message_class(REGISTRY.versions("wish"))(**WISH).SerializeToString()
    view = message_class(REGISTRY.versions("events"))(type="view", session="s", item="b")
    plain = view.SerializeToString()
    body = bytes([len(message)]) + message + bytes([len(plain)]) + plain
    assert [each.type for each in read(PROTOBUF, body).records] == ["wish", "view"]
    assert read(PROTOBUF, body).records[:1] == expected
    head = b"\0" + REGISTRY.number("wish", 1, "protobuf").to_bytes(4, "big") + b"\0"
    assert read(PROTOBUF, head + message).records == expected
    head = b"\0" + REGISTRY.number("wish", 1, "json").to_bytes(4, "big")
    assert read(JSON, head + json.dumps(WISH).encode()).records == expected
    bad = message_class(REGISTRY.versions("wish"))(**WISH | {"weight": 99.0}).SerializeToString()
    assert read(PROTOBUF, bytes([len(bad)]) + bad).refused[0].fault.code == "range"


def test_clients_of_others_send_it_too() -> None:
    track = {"type": "track", "event": "Wish", "anonymousId": "s"}
    properties = {"product_id": "a", "list": "home", "weight": 2.5}
    body = json.dumps({"batch": [track | {"properties": properties}]}).encode()
    expected = wished(in_json(WISH)).attributes
    assert wished(read(SEGMENT, body)).attributes == expected
    body = json.dumps({"batch": [track | {"properties": properties | {"weight": -1}}]}).encode()
    assert read(SEGMENT, body).refused[0].fault[::3] == ("range", "wish")
    params = {"session_id": "s", "item": "a", "list": "home", "weight": 2.5}
    assert wished(in_json({"name": "wish", "params": params})).attributes == expected


def test_its_schemas_and_the_openapi_document() -> None:
    contract = REGISTRY.version("wish")
    schema = json_schema(contract)
    assert schema["properties"]["type"] == {"const": "wish"}
    assert schema["required"] == ["type", "item", "list"]
    assert schema["properties"]["weight"]["description"] == "In kg."
    assert "message WishEvent {" in proto_text([contract])
    assert avro_schema(contract)["name"] == "WishEvent"
    document = build_openapi("1", REGISTRY)
    described = document["components"]["schemas"]["WishEvent"]
    assert described["properties"]["list"] == schema["properties"]["list"]
    taken = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    refs = [each["$ref"] for each in taken["application/x-ndjson"]["schema"]["anyOf"]]
    assert refs == ["#/components/schemas/Event", "#/components/schemas/WishEvent"]


def test_declarations_become_versions_in_the_log(tmp_path: Path) -> None:
    Engine.open(tmp_path, LIMITS, shop()).close()
    engine = Engine.open(tmp_path, LIMITS, shop())
    assert [each.version for each in engine.contracts.versions("wish")] == [1]
    report = engine.ingest(
        [
            {"kind": "event"} | WISH,
            {"kind": "event"} | WISH | {"weight": 99},
            Event("wish", session="s", item="a"),
            Event("wish", session="s", item="a", attributes={"list": "home"}),
        ],
        NOW_MS,
    )
    assert (report.accepted, [each.code for each in report.errors]) == (
        2,
        ["range", "missing_field"],
    )
    engine.close()
    wider = shop(note=onhand.Field("string"))
    engine = Engine.open(tmp_path, LIMITS, wider)
    assert [each.version for each in engine.contracts.versions("wish")] == [1, 2]
    engine.close()
    narrower = shop(weight=onhand.Field("number", unit="g", minimum=0, maximum=50))
    with pytest.raises(Incompatible, match="unit is g in place of kg, which version 1 allowed"):
        Engine.open(tmp_path, LIMITS, narrower)


def test_an_older_app_leaves_the_newer_version_in_force(tmp_path: Path) -> None:
    Engine.open(tmp_path, LIMITS, shop()).close()
    Engine.open(tmp_path, LIMITS, shop(note=onhand.Field("string"))).close()
    engine = Engine.open(tmp_path, LIMITS, shop())
    assert engine.contracts.version("wish").version == 2
    engine.close()
    engine = Engine.open(tmp_path, LIMITS)
    assert engine.contracts.version("wish").version == 2
    engine.close()


def test_what_cannot_be_declared() -> None:
    app = shop()
    for name, fields in (
        ("wish", {}),
        ("view", {}),
        ("add_to_cart", {}),
        ("events", {}),
        ("Wish!", {}),
        ("other", {"item": onhand.Field("integer")}),
        ("other", {"type": None}),
        ("other", {"list": onhand.Field("string", max_length=5000)}),
        ("other", {"list": onhand.Field("text")}),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=r"event type '.*'"):
            app.event(name, fields)  # type: ignore[arg-type]


def test_policies_of_its_own() -> None:
    app = onhand.App(ready=False)
    app.event("wish", unknown_item="reject", unknown_fields="reject", currency="EUR")
    engine = Engine(MemoryLog(), limits=LIMITS, app=app)
    engine.load()
    wish = {"kind": "event", "type": "wish", "session": "s"}
    report = engine.ingest(
        [
            wish,
            wish | {"item": "nothing"},
            wish | {"colour": "red"},
            wish | {"currency": "USD"},
            wish | {"type": "other", "item": "nothing", "colour": "red", "currency": "USD"},
        ],
        NOW_MS,
    )
    assert [each.code for each in report.errors] == ["unknown_item", "unknown_field", "currency"]
    assert report.accepted == 2


def test_its_dead_letters_are_filed_under_it_and_go_in_when_it_is_mended(tmp_path: Path) -> None:
    engine = Engine(MemoryLog(), limits=LIMITS, app=shop())
    engine.load()
    store = DeadLetterStore(tmp_path / "dead_letters.db", clock_ms=lambda: NOW_MS)
    gate = engine.contracts.gate("events")
    body = json.dumps([WISH | {"id": "w1", "weight": 99}]).encode()
    parsed = parse(engine.contracts, "events", JSON, body, NOW_MS)
    refused = refusals(gate, parsed, engine.write([parsed.records], NOW_MS)[0])
    store.append(letters(engine.contracts, parsed._replace(refused=refused)))
    which = LetterFilter(contract="wish", code="range")
    assert store.count(which) == 1
    assert redelivery.redeliver(engine, store, which, NOW_MS).refused == 1
    draft = {"fields": {"weight": {"type": "number", "unit": "kg", "minimum": 0, "maximum": 500}}}
    contract = engine.contracts.draft("wish", msgspec.convert(draft, Draft))
    engine.ingest([control_of(contract)], NOW_MS)
    assert redelivery.redeliver(engine, store, which, NOW_MS).accepted == 1
    assert store.count() == 0
    store.close()


def test_a_type_under_another_name_is_still_found() -> None:
    draft = msgspec.convert(
        {"fields": {"type": {"type": "string", "required": True, "aliases": ["action"]}}},
        Draft,
    )
    control = control_of(REGISTRY.draft("events", draft))
    own = control_of(REGISTRY.version("wish"))
    registry = Registry({control.name: control.body, own.name: own.body})
    sent = {name: each for name, each in WISH.items() if name != "type"} | {"action": "wish"}
    assert wished(read(JSON, json.dumps([sent]).encode(), registry)).attributes == {
        "list": "home",
        "weight": 2.5,
    }
    with pytest.raises(Invalid):
        registry.draft("wish", msgspec.convert({"fields": {"type": None}}, Draft))
