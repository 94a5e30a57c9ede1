"""Whatever sources, filters, caps, stock and slots: what must not be shown never is, and a page is
full while enough items may be."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from onhand.contracts.records import EVENT_TYPES, Event, Item, ItemDelete, Record, Signal
from onhand.contracts.requests import SLOTS, RecommendRequest
from onhand.decision.decide import Desk, decide
from onhand.decision.slots import Plan
from onhand.retrieval.arrivals import NEW_MS
from onhand.retrieval.first_pass import find, make_scratch
from onhand.retrieval.listed import NO_LIST, Listed
from onhand.retrieval.pool import make_pool
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.retrieval.sources import GATHERED
from onhand.state.state import Limits, State
from streams import START_MS

LIMITS = Limits(items=64, users=8, sessions=8, countries=4, devices=4)
IDS = [f"i{number}" for number in range(24)]
SESSIONS = ["s0", "s1", "s2"]
WORDS = ["mug", "rake", "lamp"]


class Thing(NamedTuple):
    """An item as the test knows it."""

    id: str
    brand: str
    category: str
    price: float | None
    tag: str


def thing(number: int) -> Thing:
    return Thing(
        IDS[number],
        ["", "Acme", "Bolt"][number % 3],
        ["", "home", "home/kitchen", "garden"][number % 4],
        None if number % 5 == 0 else number + 0.5,
        ["old", "new"][number // 3 % 2],
    )


THINGS = {each.id: each for each in map(thing, range(len(IDS)))}
FILTERS: dict[str | None, Callable[[Thing], bool]] = {
    None: lambda each: True,
    "brand = Acme": lambda each: each.brand == "Acme",
    "category = home and not tags = old": lambda each: (
        each.category.startswith("home") and each.tag == "new"
    ),
    "price < 12 or brand in (Bolt, None)": lambda each: (
        each.brand == "Bolt" or (each.price is not None and each.price < 12)
    ),
    "not price >= 0": lambda each: each.price is None,
    "brand = Nobody": lambda each: False,
}


def item(number: int, age_ms: int) -> Item:
    each = thing(number)
    listed = Item(
        each.id, title=WORDS[number % 3], brand=each.brand, category=each.category,
        tags=[each.tag], created=START_MS - age_ms,
    )  # fmt: skip
    if each.price is not None:
        listed.price = each.price
    return listed


ids = st.sampled_from(IDS)
changes: st.SearchStrategy[Record] = (
    st.builds(Signal, item=ids, stock=st.sampled_from([None, 0, 0, 3]))
    | st.builds(Signal, item=ids, flags=st.sampled_from([[], ["recall"]]))
    | st.builds(ItemDelete, id=ids)
    | st.builds(
        Event,
        type=st.sampled_from(EVENT_TYPES),
        session=st.sampled_from(SESSIONS),
        user=st.none() | st.just("u"),
        item=ids,
        time=st.integers(START_MS - 50_000, START_MS),
        query=st.just("red mug"),
    )
)
worlds = st.builds(
    lambda ages, more: [*map(item, range(len(IDS)), ages), *more],
    st.lists(st.sampled_from([0, NEW_MS * 2]), min_size=len(IDS), max_size=len(IDS)),
    st.lists(changes, max_size=60),
)
weights = st.lists(
    st.sampled_from([0.0, 0.3, 1.0]), min_size=3 * len(GATHERED), max_size=3 * len(GATHERED)
)
plans = st.builds(
    lambda values, repeat, share: Plan(
        np.array(GATHERED), np.array(values).reshape(3, -1), repeat, share
    ),
    weights,
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0]),
)
caps = st.none() | st.integers(1, 4)
requests = st.builds(
    RecommendRequest,
    slot=st.sampled_from(SLOTS),
    user=st.none() | st.just("u"),
    session=st.sampled_from([*SESSIONS, "stranger"]),
    n=st.integers(1, 30),
    item=st.none() | ids,
    exclude=st.lists(ids, max_size=6),
    filter=st.sampled_from(list(FILTERS)),
    per_brand=caps,
    per_category=caps,
    variety=st.sampled_from([0.0, 0.5, 1.0]),
)
lists = st.lists(st.integers(1, len(IDS)), max_size=20, unique=True)
POOL = make_pool(LIMITS.items)


def allowed(state: State, request: RecommendRequest, repeat_bought: bool) -> set[str]:
    """The ids that may be on a page, by the state's facts one by one."""
    visitor, names = find_visitor(state, request), state.items.names
    barred = {*request.exclude, request.item}
    barred |= {names[row] for row in state.session.cart_item[visitor.session]}
    if not repeat_bought:
        barred |= {names[row] for row in state.session.bought_item[visitor.session]}
        barred |= {names[row] for row in state.user.bought_item[visitor.user]}
    return {
        id
        for row, id in enumerate(names)
        if row in state.catalogue.entries
        and not state.flags.get(row)
        and state.item.stock[row] != 0
        and id not in barred
        and FILTERS[request.filter](THINGS[id])
    }


def room(ids: set[str], per_brand: int | None, per_category: int | None) -> int:
    """How many of the items have room under both caps at once: a maximum flow from brands to
    categories. An item without brand or category has one of its own."""
    whole = len(THINGS)
    pairs = Counter(
        (("brand", THINGS[id].brand or id), ("category", THINGS[id].category or id)) for id in ids
    )
    nodes = {node: at for at, node in enumerate({node for pair in pairs for node in pair}, 2)}
    flow = np.zeros((len(nodes) + 2, len(nodes) + 2), np.int32)
    for (brand, category), count in pairs.items():
        flow[nodes[brand], nodes[category]] = count
        flow[0, nodes[brand]] = per_brand or whole
        flow[nodes[category], 1] = per_category or whole
    return int(maximum_flow(csr_matrix(flow), 0, 1).flow_value)


@settings(max_examples=150)
@given(worlds, plans, requests, lists)
def test_a_page_shows_what_may_be_shown_and_is_full(
    world: list[Record], plan: Plan, request: RecommendRequest, rows: list[int]
):
    state = State(LIMITS)
    state.apply(world, len(world))
    listed = NO_LIST
    if rows:
        scores = np.linspace(3, -3, len(rows)).astype(np.float32)
        listed = Listed(np.array(rows, np.int32), scores, np.zeros(len(rows), np.int8))
    page = decide(Desk(state, POOL), request, plan, START_MS, listed)
    shown = [each.id for each in page.items]
    may = allowed(state, request, plan.repeat_bought)
    assert len(set(shown)) == len(shown)
    assert set(shown) <= may
    for kind, cap in (("brand", request.per_brand), ("category", request.per_category)):
        counts = Counter(value for id in shown if (value := getattr(THINGS[id], kind)))
        assert cap is None or max(counts.values(), default=0) <= cap
    assert len(shown) == min(request.n, room(may, request.per_brand, request.per_category))


@settings(max_examples=60)
@given(worlds, requests)
def test_the_first_pass_finds_only_what_may_be_shown(
    world: list[Record], request: RecommendRequest
):
    state = State(LIMITS)
    state.apply(world, len(world))
    visitor = find_visitor(state, request)
    found = find(state, sight_of(state), visitor, START_MS, make_scratch(state))
    assert not state.item.blocked[found.items].any()
    assert len(np.unique(found.items)) == len(found.items)
    assert found.parts.min(initial=0) >= 0
    assert found.parts.max(initial=0) <= 1
