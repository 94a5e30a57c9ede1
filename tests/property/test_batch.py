"""Whatever the bytes: records or `Invalid`, and a good record never suffers for its neighbours."""

import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from onhand.contracts.batch import (
    Limits,
    Parsed,
    parse_events,
    parse_item_patch,
    parse_items,
    parse_recommend,
    parse_signals,
)
from onhand.contracts.errors import Invalid
from onhand.contracts.records import Event, Item, Signal
from onhand.serving.query import parse_recommend_query, parse_similar_n

NOW_MS = 1_795_000_000_000
LIMITS = Limits(body_bytes=4096, records=20, errors=5)
PARSERS = (parse_events, parse_items, parse_signals)

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
field_names = st.sampled_from(
    [*Event.__struct_fields__, *Item.__struct_fields__, *Signal.__struct_fields__, "kind", "n"]
)
near_records = st.dictionaries(field_names, anything, max_size=8)
good_events = st.fixed_dictionaries(
    {"type": st.sampled_from(("view", "click", "purchase")), "session": ids, "item": ids},
    optional={
        "time": st.integers(NOW_MS - 10**10, NOW_MS),
        "value": st.floats(-1e6, 1e6),
        "position": st.integers(0, 100),
        "context": st.fixed_dictionaries({}, optional={"country": st.just("GB")}),
    },
)
bodies = (
    st.binary(max_size=300)
    | st.text(max_size=100).map(str.encode)
    | anything.map(lambda value: json.dumps(value).encode())
    | st.lists(near_records, max_size=25).map(lambda value: json.dumps(value).encode())
)


def mutate(content: bytes, places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, byte in places:
        if changed:
            changed[place % len(changed)] = byte
    return bytes(changed)


def check_outcome(parsed: Parsed[Any]) -> None:
    assert len(parsed.records) == len(parsed.places)
    assert len(parsed.records) + parsed.rejected <= LIMITS.records
    assert len(parsed.errors) == min(parsed.rejected, LIMITS.errors)
    assert not set(parsed.places) & {error.index for error in parsed.errors}
    msgspec.msgpack.encode(parsed.records)  # what is let in can be written
    for error in parsed.errors:
        assert error.code
        assert error.message
        assert len(error.message) < 600
        error.message.encode()


def check_refusal(error: Invalid) -> None:
    assert error.status in (400, 413)
    assert error.code
    error.message.encode()


@given(bodies, st.booleans())
@example(b'[{"type":"view","session":"\xff","item":"a"}]', False)
@example(b"[" * 5000, False)
@example(b"{" * 4000 + b"\n", True)
def test_any_bytes_give_records_or_invalid(content: bytes, ndjson: bool) -> None:
    for parse in PARSERS:
        try:
            check_outcome(parse(content, ndjson, NOW_MS, LIMITS))
        except Invalid as error:
            check_refusal(error)


@given(
    st.lists(good_events, min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.booleans(),
)
def test_damaged_bodies_give_records_or_invalid(
    events: list[dict[str, Any]], places: list[tuple[int, int]], ndjson: bool
) -> None:
    lines = [json.dumps(event).encode() for event in events]
    content = b"\n".join(lines) if ndjson else b"[" + b",".join(lines) + b"]"
    try:
        check_outcome(parse_events(mutate(content, places), ndjson, NOW_MS, LIMITS))
    except Invalid as error:
        check_refusal(error)


@given(st.lists(good_events | near_records | anything, max_size=12), st.booleans())
def test_a_record_s_fate_does_not_depend_on_its_neighbours(
    records: list[Any], ndjson: bool
) -> None:
    lines = [json.dumps(record).encode() for record in records]
    content = b"\n".join(lines) if ndjson else b"[" + b",".join(lines) + b"]"
    if any(word in content for word in (b"NaN", b"Infinity")) and not ndjson:
        return
    alone = [index for index, line in enumerate(lines) if accepted_alone(line)]
    try:
        together = list(parse_events(content, ndjson, NOW_MS).places)
    except Invalid:
        together = []
    assert together == alone


def accepted_alone(line: bytes) -> bool:
    return parse_events(line, True, NOW_MS).rejected == 0


@given(bodies)
def test_single_objects_give_requests_or_invalid(content: bytes) -> None:
    for parse in (
        lambda: parse_item_patch(content, "a", NOW_MS),
        lambda: parse_recommend(content, "home"),
    ):
        try:
            parse()
        except Invalid as error:
            check_refusal(error)


@given(
    st.binary(max_size=60) | st.text("usernsi=&%+,0123456789abcdef", max_size=60).map(str.encode)
)
def test_any_query_gives_a_request_or_invalid(query: bytes) -> None:
    for parse in (lambda: parse_recommend_query("home", query), lambda: parse_similar_n(query)):
        try:
            parse()
        except Invalid as error:
            check_refusal(error)
