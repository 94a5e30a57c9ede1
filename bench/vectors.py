"""What does the search by content cost and miss, beside faiss' exact and graph indexes?

    .venv/bin/python bench/vectors.py [--items 100000 --items 1000000] [--most-graph 200000]

Vectors of made-up items (words, shelves and brands as rare as a shop's; floats, then 8 bits) are
searched for what is nearest to sessions that touched some of them: by Onhand's clusters, by
Onhand comparing every vector, and by faiss (`pip install 'onhand[vectors]'`), all on one thread
and with a mask of what may be shown. Recall is of the best 96, against an exact search over the
floats. An item is added, and then deleted: faiss' graph cannot delete, only mask. Its graph is
only built up to `--most-graph` items: a million take minutes, with `--links 16` half of that.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import kernel
from onhand.retrieval import content
from onhand.state import clusters
from onhand.state.content import DIMENSIONS, LENGTH
from onhand.state.state import Limits, State

QUERIES: Final = 200
SHELVES: Final = 5_000
Found = list[NDArray[Any]]
Search = Callable[[NDArray[Any]], NDArray[Any]]


def make_floats(items: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of items, row 0 nobody's, and their shelves: each item has its shelf's path and two
    of its words, three words of its own, a brand and a price band."""
    rng = np.random.default_rng(7)

    def signs(rows: int) -> NDArray[np.float32]:
        return rng.choice(np.array([-1, 1], np.float32), (rows, DIMENSIONS))

    def drawn(among: int) -> NDArray[np.int64]:
        return (among * rng.random(items) ** 2).astype(np.int64)

    words, brands, bands = signs(20_000), signs(500), signs(12)
    rooms, shelves = signs(20) * 1.7, signs(SHELVES) * 1.7
    shelf = drawn(SHELVES)
    floats = rooms[shelf % 20] + shelves[shelf] + words[shelf] + words[shelf * 7 % 20_000]
    floats += brands[drawn(500)] + 0.5 * bands[drawn(12)]
    for _ in range(3):
        floats += words[drawn(20_000)]
    floats /= np.linalg.norm(floats, axis=1, keepdims=True)
    floats[0] = 0
    return floats, shelf


def make_queries(
    floats: NDArray[np.float32], shelf: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """What sessions are about: decayed sums of one to six items of one to three shelves."""
    rng = np.random.default_rng(3)
    among = shelf[:100_000]
    queries = np.zeros((count, DIMENSIONS), np.float32)
    for query in queries:
        for _ in range(rng.integers(1, 4)):
            alike = np.flatnonzero(among == among[rng.integers(1, len(among))])
            for row in rng.choice(alike, rng.integers(1, 3)):
                query *= 13 / 16
                query += floats[row]
    return queries / np.abs(queries).max(axis=1, keepdims=True)


def exact(floats: NDArray[np.float32], shown: NDArray[Any], queries: NDArray[np.float32]) -> Found:
    found: Found = []
    for query in queries:
        products = np.where(shown, floats @ query, -np.inf)
        found.append(np.argpartition(-products, content.QUOTA)[: content.QUOTA])
    return found


def measure(search: Search, queries: NDArray[Any], truth: Found) -> dict[str, float]:
    took: list[int] = []
    shares: list[float] = []
    for query, best in zip(queries, truth, strict=True):
        search(query)
        began = time.thread_time_ns()
        found = search(query)
        took.append(time.thread_time_ns() - began)
        shares.append(np.isin(best, found).mean())
    p50, p99 = np.percentile(took, [50, 99]) / 1e6
    return {"p50_ms": float(p50), "p99_ms": float(p99), "recall": float(np.mean(shares))}


@kernel
def add(near: Any, items: Any, shop: Any, rows: Any) -> None:
    for row in rows:
        clusters.move(near, items, shop, row)


@kernel
def delete(near: Any, items: Any, shop: Any, rows: Any) -> None:
    for row in rows:
        clusters.drop(near, items, shop, row)


def each_us(call: Callable[..., object], *arguments: Any, count: int) -> float:
    began = time.thread_time()
    call(*arguments)
    return (time.thread_time() - began) / count * 1e6


def own_searches(
    floats: NDArray[np.float32], shown: NDArray[Any], queries: NDArray[np.float32], truth: Found
) -> dict[str, dict[str, float]]:
    count = len(floats)
    state = State(Limits(items=count, users=1, sessions=1))
    near, items, shop = state.cluster, state.item, state.shop
    items.content[:] = np.rint(floats * LENGTH)
    items.blocked[:] = ~shown
    add(near, items, shop, np.arange(1, 2))
    rows = np.arange(2, count)
    add_us = each_us(add, near, items, shop, rows, count=count)

    def search(query: NDArray[Any], compared: int) -> NDArray[Any]:
        item, product = np.zeros(content.QUOTA, np.int64), np.zeros(content.QUOTA, np.int64)
        found = content.nearest(
            near.centroid, near.size, near.member, near.vectors, shop.clusters[0], items.blocked,
            query, -(2**30), compared, item, product,
        )  # fmt: skip
        return item[:found]

    aims = np.rint(queries * LENGTH).astype(np.int8)
    used = int(shop.clusters[0])
    mb = {"mb": (near.vectors[0].nbytes + near.member[0].nbytes) * used / 1e6}
    every = measure(lambda query: search(query, count), aims, truth)
    some = measure(lambda query: search(query, content.MANY), aims, truth)
    gone = np.random.default_rng(2).choice(rows, 1_000, replace=False)
    delete(near, items, shop, gone[:1])
    delete_us = each_us(delete, near, items, shop, gone[1:], count=len(gone) - 1)
    return {
        "onhand, every vector": every | {"mb": items.content.nbytes / 1e6},
        f"onhand, {used} clusters": some | mb | {"add_us": add_us, "delete_us": delete_us},
    }


def faiss_searches(
    floats: NDArray[np.float32], shown: NDArray[Any], queries: NDArray[np.float32], truth: Found,
    most_graph: int, links: int,
) -> dict[str, dict[str, float]]:  # fmt: skip
    faiss: Any = import_module("faiss")
    faiss.omp_set_num_threads(1)
    inner, bits = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_8bit
    selector = faiss.IDSelectorBitmap(np.packbits(shown, bitorder="little"))
    masked = faiss.SearchParameters(sel=selector)
    walk = faiss.SearchParametersHNSW(sel=selector, efSearch=192)
    ways = {
        "faiss flat": (faiss.IndexFlatIP(DIMENSIONS), masked, 4 * DIMENSIONS),
        "faiss 8 bit": (faiss.IndexScalarQuantizer(DIMENSIONS, bits, inner), masked, DIMENSIONS),
    }
    if len(floats) <= most_graph:
        graph = faiss.IndexHNSWSQ(DIMENSIONS, bits, links, inner)
        graph.hnsw.efConstruction = links * 5 // 2
        ways["faiss HNSW, 8 bit"] = (graph, walk, DIMENSIONS + 8 * links)
    results: dict[str, dict[str, float]] = {}
    for name, (index, parameters, bytes_each) in ways.items():
        index.train(floats)
        add_us = each_us(index.add, floats, count=len(floats))

        def ask(query: Any, index: Any = index, parameters: Any = parameters) -> Any:
            return index.search(query[None], content.QUOTA, params=parameters)[1][0]

        results[name] = measure(ask, queries, truth) | {
            "mb": bytes_each * len(floats) / 1e6,
            "add_us": add_us,
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, action="append")
    parser.add_argument("--shown", type=float, default=0.9, help="share that may be shown")
    parser.add_argument("--most-graph", type=int, default=200_000)
    parser.add_argument("--links", type=int, default=32, help="of an item in the graph")
    parser.add_argument("--no-faiss", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[int, Any] = {}
    for items in options.items or [20_000, 50_000, 100_000, 200_000, 1_000_000]:
        floats, shelf = make_floats(items)
        shown = np.random.default_rng(1).random(items) < options.shown
        shown[0] = False
        queries = make_queries(floats, shelf, QUERIES)
        truth = exact(floats, shown, queries)
        results[items] = own_searches(floats, shown, queries, truth)
        if not options.no_faiss:
            results[items] |= faiss_searches(
                floats, shown, queries, truth, options.most_graph, options.links
            )
        for name, figures in results[items].items():
            told = "  ".join(f"{key} {value:8.3f}" for key, value in figures.items())
            print(f"{items:>9,} items  {name:<22}  {told}", flush=True)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
