"""Events shuffled within the declared lateness, and sent twice, give the ordered stream's state."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from onhand.contracts.contract import Draft
from onhand.contracts.records import Control, Event, Record
from onhand.contracts.registry import Registry, control_of
from onhand.state.operations import WATERMARK
from onhand.state.state import State
from streams import FEATURES, ITEMS, LIMITS, START_MS, content, folded

LATENESS_MS = 10_000
DECLARED = control_of(
    Registry().draft("events", msgspec.convert({"lateness_ms": LATENESS_MS}, Draft))
)
FLUSH = Control(WATERMARK, {"time_ms": START_MS + 10**9})

events = st.builds(
    Event,
    type=st.sampled_from(["view", "click", "cart_add", "cart_remove", "purchase", "impression"]),
    user=st.none() | st.sampled_from([f"user{number}" for number in range(9)]),
    session=st.sampled_from([f"session{number}" for number in range(9)]),
    item=st.sampled_from(ITEMS),
    time=st.integers(START_MS, START_MS + 60_000),
    id=st.none(),
)


def shuffled(stream: Sequence[Event], seed: int, again: float) -> list[Event]:
    """Each event moves by less than the lateness, and some come twice."""
    chance = random.Random(seed)
    moved = [
        (event.time + chance.randrange(LATENESS_MS // 2), event)
        for event in stream
        if isinstance(event.time, int)
    ]
    moved += [
        (time + chance.randrange(LATENESS_MS // 2), event)
        for time, event in moved
        if chance.random() < again
    ]
    moved.sort(key=lambda entry: entry[0])
    return [event for _, event in moved]


def named(stream: Sequence[Event]) -> list[Event]:
    ordered = sorted(stream, key=lambda event: (event.time, event.item, event.type, event.session))
    return [msgspec.structs.replace(event, id=f"e{n:05}") for n, event in enumerate(ordered)]


def cut(stream: Sequence[Record], seed: int) -> list[list[Record]]:
    chance = random.Random(seed)
    batches: list[list[Record]] = [[]]
    for record in stream:
        batches[-1].append(record)
        if chance.random() < 0.2:
            batches.append([])
    return batches


def state_of(stream: Sequence[Record], seed: int = 0) -> State:
    return folded([DECLARED], *cut(stream, seed))


def comparable(state: State) -> dict[str, bytes]:
    state.offset = 0
    return content(state)


@given(st.lists(events, max_size=60), st.integers(0, 1000), st.sampled_from([0.0, 0.3]))
def test_shuffled_and_doubled_events_give_the_ordered_state(
    stream: list[Event], seed: int, again: float
) -> None:
    ordered = named(stream)
    mixed = shuffled(ordered, seed, again)
    assert comparable(state_of(mixed, seed)) == comparable(state_of(ordered))
    assert comparable(state_of([*mixed, FLUSH], seed)) == comparable(state_of([*ordered, FLUSH]))


@settings(max_examples=3)
@given(st.integers(0, 1000))
def test_a_long_stream_too(seed: int) -> None:
    chance = random.Random(seed)
    stream = named(
        [
            Event(
                chance.choice(["view", "click", "cart_add", "purchase"]),
                user=f"user{chance.randrange(7)}",
                session=f"session{chance.randrange(7)}",
                item=chance.choice(ITEMS),
                time=START_MS + chance.randrange(10**6),
            )
            for _ in range(3_000)
        ]
    )
    mixed = shuffled(stream, seed, 0.3)
    assert [event.id for event in mixed] != [event.id for event in stream]
    assert comparable(state_of(mixed, seed)) == comparable(state_of(stream))
    assert state_of(mixed).held.late == 0


@given(st.lists(events, max_size=40), st.integers(0, 40))
def test_a_checkpoint_in_the_middle_changes_nothing(stream: list[Event], place: int) -> None:
    records: list[Record] = [DECLARED, *named(stream)]
    before = folded(records[:place])
    again = State.restore(*before.dump().encode(), LIMITS, FEATURES.accumulators(LIMITS))
    rest = records[place:]
    again.apply(rest, again.offset + len(rest))
    assert content(again) == content(folded(records))


def view(seconds: int, **fields: Any) -> Event:
    return Event("view", session="s", item="item1", time=START_MS + seconds * 1000, **fields)


def test_what_is_held_is_not_visible_and_then_is() -> None:
    state = folded([DECLARED, view(0, id="a"), view(5, id="b")])
    assert (len(state.held), len(state.sessions)) == (2, 1)
    assert "a" in state.held
    state.apply([view(11)], 4)
    assert len(state.held) == 2
    state.apply([FLUSH], 5)
    assert len(state.held) == 0
    assert "a" in state.seen


def test_later_than_declared_is_folded_and_counted() -> None:
    state = folded([DECLARED, view(100), view(89), view(90)])
    assert state.held.late == 1
    assert state.sessions.rows
    assert len(state.held) == 2


def test_without_lateness_nothing_waits() -> None:
    state = folded([view(100), view(0)])
    assert (len(state.held), state.held.late) == (0, 0)


def test_lateness_taken_back_lets_everything_go() -> None:
    second = control_of(
        Registry({DECLARED.name: DECLARED.body}).draft("events", Draft(lateness_ms=0))
    )
    state = folded([DECLARED, view(1), view(2), second])
    assert len(state.held) == 0
    assert state.sessions.rows


def test_room_for_so_many_and_no_more() -> None:
    limits = msgspec.structs.replace(LIMITS, held_events=3)
    state = State(limits, FEATURES.accumulators(limits))
    state.apply([DECLARED, *(view(n) for n in range(5)), view(0)], 7)
    assert len(state.held) == 3
    assert state.held.late == 1
