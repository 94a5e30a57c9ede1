"""Whatever the bytes and the format: records, faults or `Invalid`, and never for long."""

import io
import time
from contextlib import suppress
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onhand.contracts.avro import avro_schema
from onhand.contracts.errors import Invalid
from onhand.contracts.formats import AVRO, JSON, NDJSON, PROTOBUF, SEGMENT, TEXT, parse
from onhand.contracts.protobuf import message_class
from onhand.contracts.registry import Registry

NOW_MS = 1_795_000_000_000
REGISTRY = Registry()
PARSE_S = 0.05
"""Far above what it takes, for machines that have other things to do."""


def seeds() -> list[bytes]:
    file = io.BytesIO()
    event = {"type": "view", "session": "s", "item": "a", "attributes": {"x": 1.5, "y": "z"}}
    fastavro.writer(file, avro_schema(REGISTRY.version("events")), [event] * 3, codec="deflate")
    made = message_class(REGISTRY.versions("events"))
    message = made(type="view", session="s", item="a", value=2.5).SerializeToString()
    return [
        file.getvalue(),
        bytes([len(message)]) + message,
        b"\0\0\0\0\1\x08view",
        b"\0\0\0\0\2\0" + message,
        b'{"batch":[{"type":"track","event":"Order Completed","properties":{"products":[{}]}}]}',
        b'[{"name":"view_item","params":{"items":[{"item_id":"a"}]}}]',
    ]


def damage(content: bytes, places: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(content)
    for place, byte in places:
        changed[place % len(changed)] = byte
    return bytes(changed[: len(changed) - cut % len(changed)])


@given(
    st.binary(max_size=200)
    | st.builds(
        damage,
        st.sampled_from(seeds()),
        st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5),
        st.integers(0, 60) | st.just(0),
    ),
    st.sampled_from([AVRO, PROTOBUF, JSON, NDJSON, TEXT, SEGMENT]),
    st.sampled_from(["events", "items", "signals"]),
)
def test_any_bytes_in_any_format(body: bytes, media: str, kind: Any) -> None:
    try:
        parsed = parse(REGISTRY, kind, media, body, NOW_MS)
    except Invalid:
        return
    assert len(parsed.refused) == parsed.rejected
    for refusal in parsed.refused:
        assert refusal.fault.message
        assert isinstance(refusal.raw, bytes)


def repeated(part: bytes) -> bytes:
    return b"[" + b",".join([part] * min(65_000 // (len(part) + 1), 4_990)) + b"]"


@pytest.mark.parametrize(
    "body",
    [
        repeated(b'{"type":123}'),
        repeated(b'{"type":"view"}'),
        repeated(b"1"),
        repeated(b'{"name":"x","params":{}}'),
        b'[{"name":"view_item","params":{"items":[' + b"{}," * 4900 + b"{}]}}]",
        b"[" * 65_536,
        b'{"a":' * 13_000,
        b'[{"type":"a","user":"u","time":' + b"9" * 65_000 + b"}]",
        b"[{" + b",".join(b'"f%d":1' % n for n in range(6_000)) + b"}]",
        b'{"batch":[{"type":"track","event":"Order Completed","properties":{"products":['
        + b"{}," * 4900
        + b"{}]}}]}",
    ],
    ids=range(10),
)
def test_no_64_kib_take_long(body: bytes) -> None:
    for media in (JSON, NDJSON, SEGMENT, AVRO, PROTOBUF):
        best_s = 9.0
        for _ in range(5):
            began_s = time.perf_counter()
            with suppress(Invalid):
                parse(REGISTRY, "events", media, body, NOW_MS)
            best_s = min(best_s, time.perf_counter() - began_s)
        assert best_s < PARSE_S, media
