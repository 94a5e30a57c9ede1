"""How long does finding 500 candidates take, and the search by content in it, against faiss?

    .venv/bin/python bench/retrieval.py [--items 100000 --items 1000000] [--no-faiss] [--json]

The first pass: a synthetic shop (Zipf visits, made-up titles) is folded, and every visitor's
candidates are found. The search by content alone: the same vectors as Onhand keeps them (8 bits,
in the state) and in faiss (`pip install 'onhand[vectors]'`) as floats, as 8-bit scalars and as an
HNSW graph, each with a mask of the items that may be shown. Recall is against the exact search
over floats that were never rounded. Times are those of the one thread that works, so that others
on the machine do not count.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.records import Event, Item, Record
from onhand.contracts.requests import RecommendRequest
from onhand.retrieval import content
from onhand.retrieval.first_pass import find, make_scratch
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.state.content import DIMENSIONS, item_words, signature, signs
from onhand.state.state import Limits, State

START_MS = 1_760_000_000_000
VISITORS = 4_000
EVENTS = 60_000
QUERIES = 200
WORDS = [f"word{number}" for number in range(3_000)]


def fold_shop(items: int) -> State:
    rng = random.Random(7)
    state = State(Limits(items=items + 1, users=16, sessions=VISITORS + 1))
    batch: list[Record] = []
    for number in range(items):
        shelf = rng.randrange(400)
        title = " ".join([WORDS[shelf], WORDS[shelf + 400], *rng.choices(WORDS, k=3)])
        batch.append(
            Item(
                f"i{number}", title=title, category=f"c{shelf % 20}/s{shelf}",
                brand=f"brand{rng.randrange(500)}", price=rng.uniform(1, 200),
                stock=0 if number % 10 == 0 else 5, created=START_MS - rng.randrange(10**10),
            )
        )  # fmt: skip
        if len(batch) == 10_000 or number == items - 1:
            state.apply(batch, state.offset + len(batch))
            batch = []
    for at in range(EVENTS):
        kind = rng.choice(["view", "click", "view", "hover", "cart_add", "purchase"])
        item = min(int(rng.paretovariate(0.5)), items) - 1
        session = f"s{rng.randrange(VISITORS)}"
        batch.append(Event(kind, session=session, item=f"i{item}", time=START_MS + at * 50))
    state.apply(batch, state.offset + len(batch))
    return state


def timed(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    took: list[float] = []
    for call in calls:
        began = time.thread_time_ns()
        call()
        took.append((time.thread_time_ns() - began) / 1e6)
    return {"p50_ms": float(np.percentile(took, 50)), "p99_ms": float(np.percentile(took, 99))}


def first_pass(state: State) -> dict[str, float]:
    sight, scratch, now_ms = sight_of(state), make_scratch(state), START_MS + EVENTS * 50
    visitors = [
        find_visitor(state, RecommendRequest("home", session=f"s{number}"))
        for number in range(2_000)
    ]
    counts = [len(find(state, sight, each, now_ms, scratch).items) for each in visitors[:200]]
    calls = [lambda each=each: find(state, sight, each, now_ms, scratch) for each in visitors]
    return timed(calls) | {"candidates": float(np.mean(counts))}


def recall(found: list[NDArray[Any]], truth: list[NDArray[Any]]) -> float:
    shares = [np.isin(one, other).mean() for one, other in zip(truth, found, strict=True)]
    return float(np.mean(shares))


def searches(state: State, with_faiss: bool) -> dict[str, dict[str, float]]:
    """Time and recall of each way to find the nearest `content.QUOTA` to the vectors of items."""
    items = len(state.items)
    vectors, blocked = state.item.content[:items], state.item.blocked[:items]
    rows = np.random.default_rng(1).choice(np.flatnonzero(blocked == 0), QUERIES)
    queries = vectors[rows]
    floats = unrounded(state)
    truth = exact(floats, blocked, floats[rows])
    memory = content.make_memory(items)

    def own(query: NDArray[Any], prefiltered: bool) -> NDArray[Any]:
        cut = DIMENSIONS + 1
        if prefiltered:
            aimed = signature(query)
            cut = content.measure(state.item.signature, blocked, items, aimed, memory.distance)
        found = content.nearest(
            vectors, blocked, items, query, -(2**40), cut, memory.distance, memory.item,
            memory.product,
        )  # fmt: skip
        return memory.item[:found].copy()

    results: dict[str, dict[str, float]] = {}
    for name, prefiltered in (("onhand, every vector", False), ("onhand, signs first", True)):
        found = [own(query, prefiltered) for query in queries]
        calls = [lambda q=query, p=prefiltered: own(q, p) for query in queries]
        size = vectors.nbytes + (8 * items if prefiltered else 0)
        results[name] = timed(calls) | {"recall": recall(found, truth), "mb": size / 1e6}
    if with_faiss:
        results |= faiss_searches(floats, blocked, floats[rows], truth)
    return results


def unrounded(state: State) -> NDArray[np.float32]:
    """Return the content vectors as they are before they are rounded to 8 bits."""
    vectors = np.zeros((len(state.items), DIMENSIONS), np.float32)
    places = np.arange(DIMENSIONS)
    for row, item in state.catalogue.entries.items():
        words = item_words(item, state.catalogue.bands.get(row, 0))
        hashes = np.array([signs(word) for word in words], np.int64)
        bits = (hashes[:, None] >> places) & 1
        total = np.array(list(words.values())) @ (bits * 2.0 - 1.0)
        vectors[row] = total / np.linalg.norm(total)
    return vectors


def exact(
    floats: NDArray[np.float32], blocked: NDArray[Any], queries: NDArray[np.float32]
) -> list[NDArray[Any]]:
    products = queries @ floats.T
    products[:, blocked != 0] = -np.inf
    products[:, 0] = -np.inf
    return list(np.argpartition(-products, content.QUOTA, axis=1)[:, : content.QUOTA])


def faiss_searches(
    floats: NDArray[np.float32], blocked: NDArray[Any], queries: NDArray[np.float32],
    truth: list[NDArray[Any]],
) -> dict[str, dict[str, float]]:  # fmt: skip
    faiss: Any = import_module("faiss")
    faiss.omp_set_num_threads(1)
    inner = faiss.METRIC_INNER_PRODUCT
    allowed = np.packbits(blocked == 0, bitorder="little")
    selector = faiss.IDSelectorBitmap(allowed)
    graph = faiss.IndexHNSWFlat(DIMENSIONS, 32, inner)
    graph.hnsw.efConstruction = 80
    ways = {
        "faiss flat": (faiss.IndexFlatIP(DIMENSIONS), faiss.SearchParameters(sel=selector), 4),
        "faiss 8 bit": (
            faiss.IndexScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit, inner),
            faiss.SearchParameters(sel=selector), 1,
        ),
        "faiss HNSW": (
            graph, faiss.SearchParametersHNSW(sel=selector, efSearch=192), 4 + 256 / DIMENSIONS,
        ),
    }  # fmt: skip
    results: dict[str, dict[str, float]] = {}
    for name, (index, parameters, bytes_each) in ways.items():
        began = time.perf_counter()
        index.train(floats)
        index.add(floats)
        built_s = time.perf_counter() - began
        asked = [query[None] for query in queries]

        def ask(query: Any, index: Any = index, parameters: Any = parameters) -> Any:
            return index.search(query, content.QUOTA, params=parameters)[1][0]

        found = [ask(query) for query in asked]
        calls = [lambda q=query, ask=ask: ask(q) for query in asked]
        results[name] = timed(calls) | {
            "recall": recall(found, truth),
            "mb": bytes_each * DIMENSIONS * len(floats) / 1e6,
            "build_s": built_s,
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, action="append")
    parser.add_argument("--no-faiss", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[int, Any] = {}
    for items in options.items or [100_000, 1_000_000]:
        state = fold_shop(items)
        results[items] = {"first pass": first_pass(state)}
        results[items] |= searches(state, not options.no_faiss)
        for name, figures in results[items].items():
            shown = "  ".join(f"{key} {value:9.3f}" for key, value in figures.items())
            print(f"{items:>9,} items  {name:<22}  {shown}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
