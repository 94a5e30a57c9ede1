"""Scanning a batch's bytes gives what naming its records gives, whatever is in it."""

import struct
from contextlib import suppress
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from onhand.contracts.records import Context, Event, Record
from onhand.state.scan import Scanner
from onhand.state.state import Limits, State
from streams import FEATURES, LIMITS, START_MS, content, records

ROOMY = msgspec.structs.replace(LIMITS, users=50, sessions=50, event_ids=100)
names = st.text(min_size=1, max_size=20) | st.sampled_from(["a", "\0a", "b", "item1", "x" * 40])
REFERRERS = ["", "www.", "news", "https://", "https://www.a.example/b", "http://B.example", "é/x"]
strange = st.builds(
    Event,
    type=st.sampled_from(["view", "search", "purchase", "quick_look", "unheard_of"]),
    user=st.none() | names,
    session=st.none() | names,
    item=st.none() | names,
    time=st.integers(-(2**40), 2**40) | st.just(START_MS),
    id=st.none() | names,
    value=st.none() | st.floats(-1e9, 1e9),
    quantity=st.integers(1, 1_000_000),
    query=st.none() | st.sampled_from(["", "blue mug"]),
    position=st.none() | st.integers(0, 10_000),
    dwell_ms=st.none() | st.integers(0, 86_400_000),
    decision=st.none() | names,
    context=st.none()
    | st.builds(
        Context,
        device=st.none() | names,
        country=st.none() | names,
        referrer=st.none() | st.sampled_from(REFERRERS),
    ),
    attributes=st.none() | st.dictionaries(names, names | st.floats(0, 1) | st.booleans()),
).filter(lambda event: event.user is not None or event.session is not None)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, struct.error)  # or an event without a time
batches = st.lists(st.lists(records | strange, max_size=20), max_size=6)


def packed(batch: list[Record]) -> bytes:
    return b"".join(map(msgspec.msgpack.encode, batch))


def scanned(state: State, *parts: tuple[bytes, int]) -> State:
    scanner = Scanner(state, 1)
    for elements, count in parts:
        state.step(scanner.name(elements, count), state.offset + count)
    return state


def named(state: State, *parts: list[Record]) -> State:
    for part in parts:
        state.apply(part, state.offset + len(part))
    return state


@given(batches, st.sampled_from([LIMITS, ROOMY]))
def test_scanned_batches_make_the_state_of_their_records(parts: list[list[Record]], limits: Limits):
    a, b = (State(limits, FEATURES.accumulators(limits)) for _ in range(2))
    assert content(scanned(a, *((packed(part), len(part)) for part in parts))) == content(
        named(b, *parts)
    )


@given(st.integers(0))
@settings(max_examples=3)
def test_visitors_leave_and_come_back_between_scanned_batches(seed: int):
    random = Random(seed)
    limits = msgspec.structs.replace(LIMITS, users=256, sessions=256, event_ids=100)
    events: list[Record] = [
        Event(
            type="view",
            user=f"user{number % 700}" if number % 3 else None,
            session=None if number % 3 == 1 else f"session{number % 900}",
            time=START_MS,
            id=str(at),
        )
        for at, number in enumerate(random.choices(range(900), k=1_000))
    ]
    parts = [events[at : at + 3] for at in range(0, len(events), 3)]
    a, b = State(limits), State(limits)
    scanned(a, *((packed(part), len(part)) for part in parts))
    assert content(a) == content(named(b, *parts))
    assert a.users.departures > 10


@settings(max_examples=50)
@given(batches, st.integers(0), st.integers(0, 255))
def test_changed_bytes_are_read_as_they_are_or_refused(
    parts: list[list[Record]], where: int, byte: int
):
    batch = [record for part in parts for record in part]
    changed = bytearray(packed(batch))
    if changed:
        changed[where % len(changed)] = byte
    header = b"\xdd" + len(batch).to_bytes(4, "big")
    a, b = (State(ROOMY, FEATURES.accumulators(ROOMY)) for _ in range(2))
    try:
        read = msgspec.msgpack.decode(header + changed, type=list[Record])
        expected = content(named(b, read))
    except UNREADABLE:
        with suppress(*UNREADABLE):
            Scanner(a, 1).name(bytes(changed), len(batch))
        return
    assert content(scanned(a, (bytes(changed), len(batch)))) == expected
