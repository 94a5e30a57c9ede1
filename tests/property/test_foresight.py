"""Foresight: what sells fast and is nearly gone stands back, and nothing else changes."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onhand.app import App
from onhand.contracts.records import Event, Item, Record, Signal
from onhand.contracts.requests import RecommendRequest
from onhand.decision.decide import Desk, Page, decide
from onhand.decision.records import DecisionRecord
from onhand.decision.slots import PLANS
from onhand.engine import Engine
from onhand.retrieval.foresight import HOLD_FROM, HORIZON_MS, gone_chance
from onhand.retrieval.pool import make_pool
from onhand.state.fold import RUSH_GAP_MS
from onhand.state.state import Limits, State
from streams import START_MS

LIMITS = Limits(items=64, users=8, sessions=64, countries=4, devices=4)
POOL = make_pool(LIMITS.items)
IDS = [f"i{number}" for number in range(12)]
PLAN = PLANS["home"]

stocks = st.integers(1, 2_000)
counts = st.integers(1, 32)
times_ms = st.integers(0, 100_000)


def chance(stock: int, pieces: int, span_ms: int = 0, silence_ms: int = 0) -> float:
    return gone_chance(stock, pieces, span_ms, START_MS - silence_ms, START_MS)


def sales(id: str, count: int, gap_ms: int) -> list[Record]:
    """So many sales, the last one now."""
    first_ms = START_MS - (count - 1) * gap_ms
    return [
        Event("purchase", session=f"{id}-{at}", item=id, time=first_ms + at * gap_ms)
        for at in range(count)
    ]


def state_of(records: list[Record]) -> State:
    state = State(LIMITS)
    state.apply(records, len(records))
    return state


def page(state: State, n: int, foresight: bool = True, session: str = "new") -> Page:
    request = RecommendRequest("home", session=session, n=n)
    plan = PLAN._replace(foresight=foresight)
    return decide(Desk(state, POOL), request, plan, START_MS)


@given(stocks, stocks, counts, times_ms, times_ms)
def test_more_stock_makes_it_less_likely_to_be_gone(
    one: int, other: int, pieces: int, span_ms: int, silence_ms: int
):
    few, many = sorted((one, other))
    less, more = (chance(stock, pieces, span_ms, silence_ms) for stock in (many, few))
    assert 0 <= less <= more <= 1


@given(stocks, counts, counts, st.tuples(*4 * [times_ms]))
def test_more_faster_and_later_sales_make_it_more_likely(
    stock: int, one: int, other: int, spans: tuple[int, ...]
):
    (fast, slow), (recent, old) = sorted(spans[:2]), sorted(spans[2:])
    assert chance(stock, min(one, other), slow, old) <= chance(stock, max(one, other), fast, recent)


@pytest.mark.parametrize("expected", [1, 2, 3, 10, 30, 100])
def test_the_chance_is_that_of_a_poisson_process(expected: int):
    sold = np.random.default_rng(1).poisson(expected, 200_000)
    for stock in (1, 2, 5, 10, 30, 100):
        assert chance(stock, expected) == pytest.approx((sold >= stock).mean(), abs=0.012)


def test_no_more_is_expected_than_was_seen_and_less_as_time_goes_by():
    assert chance(3, 4) == pytest.approx(chance(3, 8, span_ms=HORIZON_MS))
    assert chance(3, 4) == pytest.approx(chance(3, 8, silence_ms=HORIZON_MS))
    assert chance(1, 32, silence_ms=RUSH_GAP_MS + 1) == 0


@given(stocks, times_ms)
def test_without_sales_nothing_is_foreseen(stock: int, silence_ms: int):
    assert chance(stock, 0, 0, silence_ms) == 0
    assert gone_chance(-1, 32, 0, START_MS, START_MS) == 0


stock_of = st.none() | st.integers(0, 40)
Drawn = list[tuple[int | None, int, int]]
"""Of each item its stock, its sales, and the gap between them in ms."""
worlds = st.lists(
    st.tuples(stock_of, st.integers(0, 12), st.integers(1, 3_000)),
    min_size=len(IDS),
    max_size=len(IDS),
)


def world(drawn: Drawn) -> list[Record]:
    records: list[Record] = [Item(id, price=1.0) for id in IDS]
    for id, (stock, count, gap_ms) in zip(IDS, drawn, strict=True):
        records.append(Signal(id, stock=stock))
        records += sales(id, count, gap_ms)
    return records


@settings(max_examples=100)
@given(worlds, st.integers(1, 14))
def test_the_page_is_full_and_shows_nothing_sold_out(drawn: Drawn, n: int):
    state = state_of(world(drawn))
    shown = [each.id for each in page(state, n).items]
    may = {id for id, (stock, _, _) in zip(IDS, drawn, strict=True) if stock != 0}
    assert set(shown) <= may
    assert len(shown) == len(set(shown)) == min(n, len(may))


@settings(max_examples=60)
@given(worlds, st.integers(1, 14))
def test_what_will_last_changes_nothing(drawn: Drawn, n: int):
    lasting: Drawn = [(None, count, gap_ms) for _, count, gap_ms in drawn]
    state = state_of(world(lasting))
    assert page(state, n) == page(state, n, foresight=False)


@settings(max_examples=100)
@given(worlds, st.integers(0, len(IDS) - 1), st.integers(1, 60))
def test_more_stock_moves_no_item_down(drawn: Drawn, which: int, more: int):
    _, count, gap_ms = drawn[which]
    places: list[int] = []
    for stock in (3, 3 + more):
        changed = [*drawn]
        changed[which] = (stock, count, gap_ms)
        shown = [each.id for each in page(state_of(world(changed)), len(IDS)).items]
        places.append(shown.index(IDS[which]))
    assert places[1] <= places[0]


def test_what_sells_out_soon_stands_back_while_others_fill_the_page():
    records: list[Record] = [Item(id, price=1.0) for id in IDS]
    records += [Signal("i0", stock=8), *sales("i0", 24, 100)]
    for id in IDS[1:]:
        records.append(Event("view", session="other", item=id, time=START_MS))
    state = state_of(records)
    assert page(state, 5, foresight=False).items[0].id == "i0"
    assert "i0" not in [each.id for each in page(state, 5).items]
    assert page(state, len(IDS)).items[-1].id == "i0"


def test_a_delivery_is_as_sought_after_as_the_lot_before_it():
    records: list[Record] = [Item("i0"), Signal("i0", stock=20), *sales("i0", 40, 100)]
    sold_out: list[Record] = [Signal("i0", stock=0), Signal("i0", stock=10)]
    state = state_of([*records, *sold_out])
    row, later_ms = state.items.rows["i0"], START_MS + 60_000

    def foreseen(state: State) -> float:
        each = state.item
        rush = each.rush_pieces[row], each.rush_ms[row], each.sold_ms[row]
        return gone_chance(each.stock[row], *rush, later_ms + 100)

    assert foreseen(state) == 0
    state.apply([Event("purchase", session="s", item="i0", time=later_ms)], len(records) + 3)
    assert foreseen(state) > HOLD_FROM


def test_a_slot_may_do_without_and_its_pages_are_made_again_so(tmp_path: Path):
    app = App()
    app.slot("product", foresight=False)
    engine = Engine.open(tmp_path, LIMITS, app)
    records: list[Record] = [Item(id, price=1.0) for id in IDS]
    engine.ingest([*records, Signal("i0", stock=2), *sales("i0", 20, 100)], START_MS)
    held_back = engine.recommend("home", session="new", n=3, now_ms=START_MS)
    shown = engine.recommend("product", session="new", n=3, now_ms=START_MS)
    assert "i0" not in [each.id for each in held_back.items]
    assert "i0" in [each.id for each in shown.items]
    assert engine.kept_off["selling_out"] == 1
    engine.close()
    engine = Engine.open(tmp_path, LIMITS, app)
    told = engine.explain(held_back.decision), engine.explain(shown.decision)
    engine.close()
    assert all(each.same for each in told)
    first = [next(c for c in each.candidates if c.item == "i0") for each in told]
    assert (first[0].dropped, first[1].dropped) == ("selling_out", None)
    assert first[0].gone_chance > HOLD_FROM
    assert first[1].gone_chance == 0


def test_a_record_from_before_foresight_has_none():
    body = b'{"request":{"slot":"home"},"now_ms":1,"answer":{"decision":"d","slot":"home",'
    body += b'"as_of":1,"tier":"none","model":"default@1","variant":"control","degraded":null,'
    body += b'"items":[],"took_us":1}}'
    assert not msgspec.json.decode(body, type=DecisionRecord).foresight
