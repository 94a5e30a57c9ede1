import itertools
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from onhand.contracts.records import Signal
from onhand.offline.shop.ledger import Basket, Line
from onhand.offline.shop.stock import Sale, Shelves, plan_shelves, runs_of, taken

CODES = ("A", "B", "C", "D", "E", "F", "G", "H")

lines = st.lists(
    st.builds(Line, st.sampled_from(CODES), st.integers(1, 500), st.just(100)),
    min_size=1,
    max_size=6,
    unique_by=lambda line: line.code,
)


@st.composite
def shops(draw: st.DrawFn) -> list[Basket]:
    times_ms = sorted(draw(st.lists(st.integers(0, 10**8), max_size=30)))
    return [Basket(n, t, None, "GB", tuple(draw(lines))) for n, t in enumerate(times_ms)]


def replay(shelves: Shelves, coming: list[Basket]) -> tuple[dict[str, int], int]:
    """Follow every change; the stock at the end and how many sell-outs there were."""
    stock, outs = dict(shelves.first), 0
    for moment in shelves.moments:
        signal = moment.what
        assert isinstance(signal, Signal)
        assert isinstance(signal.stock, int)
        assert signal.stock >= 0
        assert signal.stock != stock[signal.item]
        outs += signal.stock == 0
        stock[signal.item] = signal.stock
    return stock, outs


@given(shops(), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_stock_is_never_negative_and_falls_by_what_is_sold(coming: list[Basket], seed: int):
    shelves = plan_shelves(coming, [], seed)
    stock = dict(shelves.first)
    sold: dict[str, int] = dict.fromkeys(CODES, 0)
    for moment in shelves.moments:
        signal = moment.what
        assert isinstance(signal, Signal)
        assert isinstance(signal.stock, int)
        assert signal.stock >= 0
        if signal.stock < stock[signal.item]:
            sold[signal.item] += stock[signal.item] - signal.stock
        else:
            assert stock[signal.item] == 0, "a delivery comes after the sell-out"
        stock[signal.item] = signal.stock
    for code in CODES:
        wanted = sum(line.quantity for b in coming for line in b.lines if line.code == code)
        assert sold[code] == wanted


@given(shops())
@settings(max_examples=20, deadline=None)
def test_the_same_seed_plans_the_same_shelves(coming: list[Basket]):
    assert plan_shelves(coming, coming, 1) == plan_shelves(coming, coming, 1)


def test_some_items_sell_out_and_each_sell_out_says_zero():
    random = Random(1)
    coming = [
        Basket(n, n * 60_000, None, "GB", (Line(f"I{random.randrange(100)}", 3, 100),))
        for n in range(3_000)
    ]
    shelves = plan_shelves(coming, [], 1)
    _, outs = replay(shelves, coming)
    assert 50 < outs < 500


def test_runs_hold_all_sales_and_never_tear_a_minute_apart():
    sales = [Sale(n // 3, 1 + n % 4) for n in range(100)]
    runs = list(runs_of(sales, Random(1)))
    assert [sale for run in runs for sale in run] == sales
    assert sum(taken(run) for run in runs) == taken(sales)
    for one, next_ in itertools.pairwise(runs):
        assert one[-1].at_ms < next_[0].at_ms


def test_what_no_longer_sells_has_a_little_left_and_the_rest_nothing():
    past = [Basket(1, 0, None, "GB", (Line("A", 5, 100),))]
    shelves = plan_shelves([], past, 1)
    assert shelves.first == {"A": 5}
    assert shelves.moments == []
