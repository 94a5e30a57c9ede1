"""Clients people have, unchanged, against the running server."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import httpx
import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from segment.analytics.client import Client as SegmentClient

from onhand.contracts.contract import Contract
from onhand.contracts.protobuf import message_class
from onhand.contracts.registry import Registry
from onhand.serving.keys import KeyFile

if TYPE_CHECKING:
    from tests.live.conftest import Live, Start

pytestmark = [
    pytest.mark.live,
    pytest.mark.usefixtures("shop"),
    # these clients leave their connections to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EVENT: dict[str, Any] = {"type": "view", "session": "kafka", "item": "i1"}
KNOWN = {"auto.register.schemas": False, "use.latest.version": True}


def context(topic: str) -> SerializationContext:
    return SerializationContext(topic, MessageField.VALUE)


def made(kind: Any, *arguments: Any, **options: Any) -> Any:
    """An object of a client's class, whose own annotations a strict checker cannot follow."""
    return kind(*arguments, **options)


def accepted(server: "Live", body: bytes, media: str) -> int:
    answer = server.client.post("/v1/events", content=body, headers={"content-type": media})
    assert answer.status_code == 202, answer.text
    return answer.json()["accepted"]


@pytest.fixture
def registry(server: "Live") -> Any:
    return SchemaRegistryClient({"url": server.url})


def test_confluent_avro(server: "Live", registry: Any) -> None:
    serialize = made(AvroSerializer, registry, conf=KNOWN)
    body = serialize(EVENT | {"id": "avro-1"}, context("events"))
    assert body[:5] == b"\0\0\0\0\1"
    assert accepted(server, body, "application/avro") == 1
    assert made(AvroDeserializer, registry)(body, context("events"))["item"] == "i1"
    schema = registry.get_latest_version("events-value").schema.schema_str
    exported = server.client.get("/v1/contracts/events?format=avro").text
    assert json.loads(exported) == json.loads(schema)
    registering = made(AvroSerializer, registry, schema, conf={"auto.register.schemas": True})
    assert registering(EVENT, context("events"))[:5] == b"\0\0\0\0\1"


def test_confluent_protobuf(server: "Live", registry: Any) -> None:
    message = message_class(Registry().versions("events"))
    serialize = made(
        ProtobufSerializer, message, registry, conf={**KNOWN, "use.latest.version": True}
    )
    body = serialize(message(**EVENT, id="proto-1"), context("events-protobuf"))
    assert accepted(server, body, "application/x-protobuf") == 1
    looking = made(ProtobufSerializer, message, registry, conf={"auto.register.schemas": True})
    assert looking(message(**EVENT), context("events-protobuf"))[:5] == body[:5]


def test_confluent_json(server: "Live", registry: Any) -> None:
    schema = registry.get_latest_version("events-json-value").schema.schema_str
    serialize = made(JSONSerializer, schema, registry, conf=KNOWN)
    body = serialize(EVENT | {"id": "json-1"}, context("events-json"))
    assert accepted(server, body, "application/json") == 1


def test_the_registry_s_answers(registry: Any) -> None:
    assert "signals-protobuf-value" in registry.get_subjects()
    assert registry.get_versions("items-value") == [1]
    found = registry.get_version("items-value", 1)
    assert registry.get_schema(found.schema_id).schema_type == "AVRO"
    assert registry.lookup_schema("items-value", found.schema).schema_id == found.schema_id
    with pytest.raises(Exception, match="40401"):
        registry.get_versions("nothing-value")
    other = Schema('"string"', "AVRO")
    with pytest.raises(Exception, match="contracts"):
        registry.register_schema("items-value", other)


def test_an_event_type_of_the_app_s_own(start: "Start", tmp_path: Path) -> None:
    app = tmp_path / "shop.py"
    text = (Path(__file__).parents[2] / "docs/contracts.md").read_text()
    app.write_text(text.partition("```python\n")[2].partition("```")[0])
    server = start(tmp_path / "data", str(app))
    server.client.put("/v1/items", json=[{"id": "i1"}])
    registry: Any = SchemaRegistryClient({"url": server.url})
    event = {"type": "wishlist_add", "session": "s", "item": "i1", "list": "home", "weight": 2.5}
    serialize = made(AvroSerializer, registry, conf=KNOWN)
    body = serialize(event, context("wishlist_add"))
    assert accepted(server, body, "application/avro") == 1
    answer = server.client.get("/v1/contracts/wishlist_add").content
    message = message_class([msgspec.json.decode(answer, type=Contract)])
    serialize = made(ProtobufSerializer, message, registry, conf=KNOWN)
    body = serialize(message(**event), context("wishlist_add-protobuf"))
    assert accepted(server, body, "application/x-protobuf") == 1
    schema = registry.get_latest_version("wishlist_add-json-value").schema.schema_str
    serialize = made(JSONSerializer, schema, registry, conf=KNOWN)
    assert accepted(server, serialize(event, context("wishlist_add-json")), "application/json") == 1
    with pytest.raises(Exception, match="maximum"):
        serialize(event | {"weight": 51}, context("wishlist_add-json"))
    answer = server.client.post("/v1/events", json=[event | {"weight": 51}, event])
    assert answer.json()["errors"][0]["code"] == "range"
    letters = server.client.get("/v1/dead-letters?contract=wishlist_add").json()
    assert [each["code"] for each in letters] == ["range"]
    shown = server.client.get("/openapi.json").json()["components"]["schemas"]
    assert shown["WishlistAddEvent"]["required"] == ["type", "item", "list"]


def test_an_exported_schema_is_a_schema(server: "Live") -> None:
    for kind in ("events", "items", "signals"):
        text = server.client.get(f"/v1/contracts/{kind}?format=avro").text
        fastavro.parse_schema(json.loads(text))
        assert "message" in server.client.get(f"/v1/contracts/{kind}?format=protobuf").text


@pytest.mark.parametrize("gzip", [False, True])
def test_segment(server: "Live", gzip: bool) -> None:
    errors: list[Any] = []
    client = SegmentClient(
        "any-key",
        host=server.url,
        gzip=gzip,
        on_error=lambda error, _items: errors.append(error),
        upload_interval=0.05,
        debug=True,
    )
    before = server.client.get("/v1/recommend/home?session=seg-1").json()["as_of"]
    client.identify(anonymous_id="seg-1", user_id=f"seg-user-{gzip}")
    client.track(
        anonymous_id="seg-1", event="Product Viewed", properties={"product_id": "i2", "price": 2}
    )
    client.track(
        anonymous_id="seg-1",
        event="Order Completed",
        properties={"products": [{"product_id": "i3", "quantity": 2}, {"product_id": "i4"}]},
    )
    client.page(anonymous_id="seg-1", name="Home")
    client.flush()
    client.join()
    assert errors == []
    page = server.client.get(f"/v1/recommend/home?user=seg-user-{gzip}&session=seg-1&n=100").json()
    assert page["as_of"] - before == 5
    assert not {"i3", "i4"} & {item["id"] for item in page["items"]}, "they were bought"


def test_keys_with_real_clients(start: "Start", tmp_path: Path) -> None:
    data = tmp_path / "keyed"
    keys = KeyFile(data)
    now_ms = time.time_ns() // 1_000_000
    texts = {role: keys.create(role, now_ms) for role in ("ingest", "read", "admin")}
    server = start(data)
    put = server.client.put("/v1/items", json=[{"id": "a"}])
    assert (put.status_code, put.headers["www-authenticate"][:6]) == (401, "Bearer")

    def ask(role: str, method: str, path: str, **more: Any) -> int:
        headers = {"authorization": f"Bearer {texts[role]}"}
        return server.client.request(method, path, headers=headers, **more).status_code

    assert ask("ingest", "PUT", "/v1/items", json=[{"id": "a"}]) == 202
    assert ask("read", "PUT", "/v1/items", json=[{"id": "a"}]) == 403
    assert ask("read", "GET", "/v1/recommend/home") == 200
    assert ask("ingest", "GET", "/v1/recommend/home") == 403
    assert server.client.get("/v1/recommend/home").status_code == 401
    assert ask("admin", "GET", "/v1/dead-letters") == 200
    registry = SchemaRegistryClient(
        {"url": server.url, "basic.auth.user.info": f"any:{texts['read']}"}
    )
    assert registry.get_subjects()
    beacon = httpx.post(
        f"{server.url}/v1/events?key={texts['ingest']}",
        content=json.dumps(EVENT),
        headers={"content-type": "text/plain;charset=UTF-8"},
    )
    assert beacon.status_code == 202
    rotated = keys.create("read", now_ms)
    keys.revoke(texts["read"].split("_")[2], now_ms)
    for _ in range(50):
        if ask("read", "GET", "/v1/recommend/home") == 401:
            break
        time.sleep(0.1)
    assert ask("read", "GET", "/v1/recommend/home") == 401
    texts["read"] = rotated
    assert ask("read", "GET", "/v1/recommend/home") == 200
    assert rotated not in keys.path.read_text()
