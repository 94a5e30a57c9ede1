"""Streams of records for tests: small worlds in which everything meets everything."""

from collections.abc import Sequence

from hypothesis import strategies as st
from msgspec import UNSET

from onhand.contracts.records import (
    EVENT_TYPES,
    Context,
    Control,
    Event,
    Fulfilment,
    Item,
    ItemDelete,
    ItemPatch,
    Record,
    Signal,
)
from onhand.features.declare import count, distinct
from onhand.features.ready import READY
from onhand.features.set import FeatureSet
from onhand.state.state import Limits, State

START_MS = 1_760_000_000_000
LIMITS = Limits(
    items=64, users=8, sessions=8, countries=4, devices=3, categories=4, brands=3, pairs=16,
    event_ids=16,
)  # fmt: skip
FEATURES = FeatureSet(
    [
        *READY,
        count("quick_look", by="session", window="1h"),
        count("session_start", by="user", window="7d", zone="Europe/London"),
        distinct("category", of=("click", "view"), by="user", window="1d", most=2),
    ],
    zone="Europe/Berlin",
    zones={"UK": "Europe/London"},
)

ITEMS = [f"item{number}" for number in range(12)]
times = st.integers(START_MS, START_MS + 40_000) | st.integers(
    START_MS, START_MS + 500 * 86_400_000
)
items = st.sampled_from(ITEMS)
stocks = st.none() | st.integers(0, 3)

events = st.builds(
    Event,
    type=st.sampled_from([*EVENT_TYPES, "quick_look"]),
    user=st.none() | st.sampled_from([f"user{number}" for number in range(9)]),
    session=st.sampled_from([f"session{number}" for number in range(9)]),
    item=st.none() | items,
    time=times,
    id=st.none() | st.integers(0, 40).map(str),
    value=st.none() | st.floats(-5, 99),
    quantity=st.integers(1, 5),
    position=st.none() | st.integers(0, 9),
    dwell_ms=st.none() | st.integers(0, 9_000),
    context=st.none()
    | st.builds(
        Context,
        country=st.none() | st.sampled_from(["UK", "DE", "FR", "NL", "BE"]),
        device=st.none() | st.sampled_from(["phone", "desktop", "watch"]),
    ),
)
signals = st.builds(Signal, item=items, stock=stocks) | st.builds(
    Signal,
    item=items,
    price=st.floats(0, 99),
    flags=st.lists(st.sampled_from(["recall", "legal"]), max_size=2),
    fulfilment=st.builds(
        Fulfilment, slots=st.none() | st.integers(0, 2), congestion=st.none() | st.floats(0, 1)
    ),
)
catalogue = (
    st.builds(
        Item,
        id=items,
        title=st.text(max_size=8),
        category=st.sampled_from(["", "mugs", "pots", "trays", "lamps", "rugs"]),
        brand=st.text(max_size=1),
        price=st.just(UNSET) | st.floats(0, 99),
        stock=stocks,
        created=times,
    )
    | st.builds(
        ItemPatch,
        id=items,
        brand=st.text(max_size=1),
        category=st.just(UNSET) | st.sampled_from(["mugs", "pots"]),
        stock=stocks,
    )
    | st.builds(ItemDelete, id=items)
)
controls = st.builds(
    Control,
    name=st.sampled_from(["rule", "model"]),
    body=st.dictionaries(st.text(min_size=1, max_size=3), st.booleans(), max_size=2),
)
records: st.SearchStrategy[Record] = events | signals | catalogue | controls
streams = st.lists(records, max_size=60)


def folded(*batches: Sequence[Record]) -> State:
    """Return the state after folding `batches`, one after the other."""
    state = State(LIMITS, FEATURES.accumulators(LIMITS))
    for batch in batches:
        state.apply(batch, state.offset + len(batch))
    return state


def content(state: State) -> dict[str, bytes]:
    """Return everything in a state as bytes by name."""
    arrays, values = state.dump().encode()
    return {name: array.tobytes() for name, array in arrays.items()} | values
