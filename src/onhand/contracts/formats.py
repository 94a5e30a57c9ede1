"""Bodies of any format to records, by their media type."""

from typing import Any, Final

from onhand.contracts.avro import parse_avro
from onhand.contracts.batch import LIMITS, Limits, Parsed, parse_json
from onhand.contracts.errors import Invalid
from onhand.contracts.protobuf import parse_protobuf
from onhand.contracts.registry import Registry
from onhand.contracts.segment import parse_segment
from onhand.contracts.shapes import Kind
from onhand.steps import Steps, finish

__all__ = [
    "AVRO",
    "JSON",
    "MEDIA_TYPES",
    "MERGE_PATCH",
    "NDJSON",
    "PROTOBUF",
    "SEGMENT",
    "TEXT",
    "parse",
    "parse_in_steps",
]

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
AVRO: Final = "application/avro"
PROTOBUF: Final = "application/x-protobuf"
SEGMENT: Final = "application/vnd.segment+json"
MERGE_PATCH: Final = "application/merge-patch+json"
"""The fields of an item that change, as `PATCH /v1/items/{id}` takes them."""
TEXT: Final = "text/plain"

MEDIA_TYPES: Final = {
    "": JSON,
    JSON: JSON,
    "application/vnd.schemaregistry.v1+json": JSON,
    NDJSON: NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    TEXT: TEXT,
    AVRO: AVRO,
    "avro/binary": AVRO,
    "application/vnd.apache.avro": AVRO,
    PROTOBUF: PROTOBUF,
    "application/protobuf": PROTOBUF,
    "application/vnd.google.protobuf": PROTOBUF,
    SEGMENT: SEGMENT,
}
"""What a media type is called here. `text/plain` is what `navigator.sendBeacon` sends a string
as: JSON or NDJSON, told apart by what it holds."""

_FRAME_BYTES: Final = 5


def parse(
    registry: Registry, kind: Kind, media: str, body: bytes, now_ms: int, limits: Limits = LIMITS
) -> Parsed[Any]:
    """Decode and check a body at once; else as `parse_in_steps`."""
    return finish(parse_in_steps(registry, kind, media, body, now_ms, limits))


def parse_in_steps(
    registry: Registry, kind: Kind, media: str, body: bytes, now_ms: int, limits: Limits = LIMITS
) -> Steps[Parsed[Any]]:
    """Decode and check a body by the latest contract of its kind.

    `media` is a value of `MEDIA_TYPES`. Raises `Invalid` when the body as a whole cannot be read,
    `TooLarge` when it is over a limit.
    """
    gate = registry.gate(kind)
    if media == JSON:
        if body[:1] == b"\0":
            body = _unframe(registry, kind, body)
        parsing = parse_json(gate, body, False, now_ms, limits)
    elif media == NDJSON:
        parsing = parse_json(gate, body, True, now_ms, limits)
    elif media == TEXT:
        parsing = parse_json(gate, body, _has_lines(body), now_ms, limits)
    elif media == AVRO:
        parsing = parse_avro(registry, kind, body, now_ms, limits)
    elif media == PROTOBUF:
        parsing = parse_protobuf(registry, kind, body, now_ms, limits)
    elif kind == "events":
        parsing = parse_segment(gate, body, now_ms, limits)
    else:
        raise Invalid("wrong_kind", "Segment messages are events; send them to /v1/events.")
    return (yield from parsing)


def _has_lines(body: bytes) -> bool:
    start = body.lstrip()
    return start[:1] == b"{" and b"\n{" in start


def _unframe(registry: Registry, kind: Kind, body: bytes) -> bytes:
    """Take the schema id of the Confluent wire format off a JSON record."""
    registry.framed(int.from_bytes(body[1:_FRAME_BYTES], "big"), kind, "json")
    return body[_FRAME_BYTES:]
