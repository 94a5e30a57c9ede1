"""Pages that compiled code writes: they say of each item what the state and the pool say of it."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from onhand.contracts.answers import RecommendedItem
from onhand.contracts.records import Item, Record, Signal
from onhand.contracts.requests import RecommendRequest
from onhand.decision.decide import Desk, decide
from onhand.decision.slots import PLANS
from onhand.retrieval.pool import make_pool
from onhand.retrieval.sources import LABELS
from onhand.state.state import Limits, State

LIMITS = Limits(items=256, users=4, sessions=4)
POOL = make_pool(LIMITS.items)
START_MS = 1_760_000_000_000

ids = st.text(min_size=1, max_size=128)
cents = st.integers(0, 10**9)
stocks = st.integers(1, 10**9)
facts = st.tuples(st.none() | cents, st.none() | stocks)


def records_of(shop: dict[str, tuple[int | None, int | None]]) -> list[Record]:
    records: list[Record] = []
    for at, (id, (price_cents, stock)) in enumerate(shop.items()):
        price = msgspec.UNSET if price_cents is None else price_cents / 100
        records += [Item(id, created=START_MS - at), Signal(id, price=price, stock=stock)]
    return records


def price_of(price_cents: int | None) -> float | None:
    return None if price_cents is None else price_cents / 100


@given(st.dictionaries(ids, facts, max_size=20), st.dictionaries(ids, facts, max_size=120))
def test_a_page_says_what_is_so(
    first: dict[str, tuple[int | None, int | None]], then: dict[str, tuple[int | None, int | None]]
) -> None:
    state = State(LIMITS)
    desk = Desk(state, POOL)
    shop: dict[str, tuple[int | None, int | None]] = {}
    for some in (first, then):  # the ids outgrow the memory that they have
        for id, (price_cents, stock) in some.items():
            before, _ = shop.get(id, (None, None))
            shop[id] = (before if price_cents is None else price_cents, stock)
        state.apply(records_of(some), state.offset + 1)
        request = RecommendRequest("home", n=100)
        page = decide(desk, request, PLANS["home"]._replace(foresight=False), START_MS)
        found = POOL.candidates[POOL.chosen[: len(page.items)]]
        assert len(found) == min(len(shop), 100)
        assert page.items == [
            RecommendedItem(
                state.items.names[row["item"]],
                round(float(row["score"]) * 1e6) / 1e6,
                LABELS[row["source"]],
                price_of(shop[id][0]),
                shop[id][1],
            )
            for row in found
            for id in [state.items.names[row["item"]]]
        ]
