"""How long does finding 500 candidates take, in a shop of 100,000 items and in one of a million?

    .venv/bin/python bench/retrieval.py [--items 100000 --items 1000000] [--json]

A synthetic shop (Zipf visits, made-up titles) is folded, and every visitor's candidates are found.
Times are those of the one thread that works, so that others on the machine do not count.
`bench/vectors.py` looks at the search by content alone.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onhand.contracts.records import Event, Item, Record
from onhand.contracts.requests import RecommendRequest
from onhand.retrieval.first_pass import find, make_scratch
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.state.state import Limits, State

START_MS = 1_760_000_000_000
VISITORS = 4_000
EVENTS = 60_000
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[int, Any] = {}
    for items in options.items or [100_000, 1_000_000]:
        results[items] = first_pass(fold_shop(items))
        told = "  ".join(f"{key} {value:9.3f}" for key, value in results[items].items())
        print(f"{items:>9,} items  first pass  {told}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
