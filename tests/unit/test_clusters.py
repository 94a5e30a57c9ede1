import numpy as np
import pytest

from onhand.contracts.records import Item, ItemDelete, ItemPatch, Record, Signal
from onhand.contracts.requests import RecommendRequest
from onhand.decision.decide import Desk, decide
from onhand.decision.slots import SIMILAR
from onhand.retrieval.content import QUOTA, nearest
from onhand.retrieval.pool import make_pool
from onhand.state.clusters import CAPACITY, LEAST
from onhand.state.state import Limits, State
from streams import content

ITEMS = 3_000
LIMITS = Limits(items=ITEMS + 1, users=1, sessions=1)


def described(number: int, shelf: int) -> Item:
    return Item(
        f"i{number}", title=f"shelf{shelf} thing{number % 40}", category=f"rooms/shelf{shelf}"
    )


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Items that come, then are described anew, then go; most of what is left is on one shelf."""
    rng = np.random.default_rng(5)
    shelves = rng.integers(0, 60, ITEMS).tolist()
    found: list[Record] = [described(n, shelf) for n, shelf in enumerate(shelves)]
    found += [ItemPatch(f"i{n}", title="moved away") for n in range(0, ITEMS, 50)]
    found += [described(n, shelves[n]) for n in range(1, ITEMS, 30)]
    found += [ItemDelete(f"i{n}") for n, shelf in enumerate(shelves) if shelf > 8]
    found += [ItemPatch(f"i{n}", category="rooms/shelf0") for n in range(0, ITEMS, 3)]
    return found


def folded(records: list[Record]) -> State:
    state = State(LIMITS)
    for at in range(0, len(records), 64):
        batch = records[at : at + 64]
        state.apply(batch, state.offset + len(batch))
    return state


def check(state: State) -> int:
    """Check that each item with a vector is in one cluster; return how many clusters there are."""
    used, clusters, items = int(state.shop.clusters[0]), state.cluster, state.item
    sizes = clusters.size[:used]
    assert (sizes < CAPACITY).all()
    assert used == 1 or (sizes >= LEAST).all()
    rows: list[int] = []
    for home in range(used):
        for at in range(sizes[home]):
            row = clusters.member[home, at]
            assert (items.cluster[row], items.cluster_at[row]) == (home + 1, at)
            assert np.array_equal(clusters.vectors[home, at], items.content[row])
            rows.append(int(row))
    listed = np.flatnonzero(items.listed * items.content.any(axis=1))
    assert sorted(rows) == listed.tolist()
    assert not any(column[used:].any() for column in clusters)
    return used


def test_items_are_in_one_cluster_while_they_come_change_and_go(records: list[Record]):
    counts = [check(folded(records[:end])) for end in (1, CAPACITY - 1, ITEMS, len(records))]
    assert counts[:2] == [1, 1]
    assert counts[2] > counts[3] > 1, "clusters split, and are given up when items go"


def test_what_is_alike_is_together(records: list[Record]):
    state = folded(records[:ITEMS])
    home, shelf = state.item.cluster[1 : ITEMS + 1], state.item.category[1 : ITEMS + 1]
    together = [
        np.bincount(home[shelf == each]).max() / (shelf == each).sum() for each in set(shelf)
    ]
    assert np.mean(together) > 0.8


def test_clusters_are_the_same_after_a_restart(records: list[Record]):
    cut = ITEMS + 300
    dump = folded(records[:cut]).dump()
    arrays, values = dump.encode()
    state = State.restore(arrays, values, LIMITS)
    state.apply(records[cut:], len(records))
    assert content(state) == content(folded(records))


def test_identical_items_do_not_keep_a_cluster_from_splitting():
    state = folded([Item(f"i{n}", title="one and the same") for n in range(ITEMS)])
    assert check(state) > 1


@pytest.mark.parametrize("compared", [ITEMS, 200])
def test_the_nearest_are_found_and_what_must_not_be_shown_is_not(
    records: list[Record], compared: int
):
    state = folded(records)
    used, clusters = int(state.shop.clusters[0]), state.cluster
    item, product = np.zeros(QUOTA, np.int64), np.zeros(QUOTA, np.int64)
    shown = np.flatnonzero(state.item.cluster)
    shares: list[float] = []
    for row in shown[::37]:
        query = state.item.content[row]
        products = state.item.content[shown].astype(np.int64) @ query.astype(np.int64)
        wanted = np.sort(products)[-QUOTA:]
        found = nearest(
            clusters.centroid, clusters.size, clusters.member, clusters.vectors, used,
            state.item.blocked, query, -(2**30), compared, item, product,
        )  # fmt: skip
        assert not state.item.blocked[item[:found]].any()
        assert found == len(set(item[:found].tolist()))
        exact = (product[:found] >= wanted[0]).sum() / QUOTA
        shares.append(exact)
    assert np.mean(shares) == 1.0 if compared == ITEMS else np.mean(shares) > 0.8


def test_what_a_pool_remembers_is_what_it_would_find(records: list[Record]):
    state = folded(records[:ITEMS])
    pool = make_pool(LIMITS.items)
    desk = Desk(state, pool)
    steps: list[list[Record]] = [
        [],
        [Item("i7", title="another thing")],
        [ItemDelete("i21")],
        [Signal("i14", stock=0)],
        [Signal(f"i{n}", stock=0) for n in range(ITEMS) if n % 10],
        [Item("i1", title="back again", stock=5)],
    ]
    for step in steps:
        if step:
            state.apply(step, state.offset + len(step))
        for id in ("i7", "i14", "i28"):
            request = RecommendRequest("product", item=id)
            page = decide(desk, request, SIMILAR, 0)
            assert page == decide(Desk(state, make_pool(LIMITS.items)), request, SIMILAR, 0)
            assert len(page.items) == 10
    assert np.count_nonzero(pool.alike.seed) == 3
