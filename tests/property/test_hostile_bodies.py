"""Whatever the bytes and the format: records, faults or `Invalid`, and never for long."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import Body, best_ms, parse_ms, worst_bodies
from onhand.contracts.avro import avro_schema
from onhand.contracts.contract import Draft, Field, declare
from onhand.contracts.errors import Invalid
from onhand.contracts.formats import AVRO, JSON, NDJSON, PROTOBUF, SEGMENT, TEXT, parse
from onhand.contracts.protobuf import message_class
from onhand.contracts.registry import Registry, control_of

NOW_MS = 1_795_000_000_000
REGISTRY = Registry()
LIMIT_MS = 10.0
TURNS = 17_500
"""Turns of a loop that take a millisecond on the processors that the limit is meant for."""
OWN = declare("wish", Draft(fields={"list": Field("string", required=True)}))
REGISTRIES = [REGISTRY, Registry({control_of(OWN).name: control_of(OWN).body})]


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
        b'[{"type":"wish","session":"s","list":"home"}]',
        b'[{"name":"wish","params":{"session_id":"s","list":"home"}}]',
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
    st.sampled_from(REGISTRIES),
)
def test_any_bytes_in_any_format(body: bytes, media: str, kind: Any, registry: Registry) -> None:
    try:
        parsed = parse(registry, kind, media, body, NOW_MS)
    except Invalid:
        return
    assert len(parsed.refused) == parsed.rejected
    for refusal in parsed.refused:
        assert refusal.fault.message
        assert isinstance(parsed.part(refusal.place), bytes)


def slowness() -> float:
    """How much longer than there a loop takes here and now at its best; no less than 1."""
    table: dict[int, int] = {}

    def loop() -> None:
        for turn in range(TURNS):
            table[turn & 255] = turn

    return max(best_ms(loop), 1.0)


@pytest.mark.parametrize("body", worst_bodies(), ids=lambda body: body.name)
def test_no_64_kib_take_long(body: Body) -> None:
    assert len(body.content) < 66_000
    assert any(parse_ms(body) < LIMIT_MS * slowness() for _ in range(25)), "at its best"
