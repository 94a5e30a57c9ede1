"""How long does a step of the fold keep the loop, where memory is ready ahead and where it is not?

    .venv/bin/python bench/stalls.py [--events 40000] [--json]

Folds events of new sessions into a shop of 4,000 items, a step at a time with 6 ms between them,
with the ready-made features: first with memory that the system finds when it is touched, then with
a thread beside it that has it found ahead.
"""

import argparse
import gc
import json
import random
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

from onhand.app import App
from onhand.contracts.records import Context, Event, Item
from onhand.serving.memory import Memory, refuse_huge_pages
from onhand.state.state import Limits, State
from onhand.steps import STEP_RECORDS

START_MS = 1_760_000_000_000
ITEMS = 4_000
WARM_EVENTS = 2_048
PAUSE_S = 0.006
LOOK_S = 0.25
LONG_MS = 1.5


def make_event(number: int, rng: random.Random) -> Event:
    session = number // 2
    return Event(
        ("view", "click")[number % 2],
        user=f"user{session}" if session % 5 == 0 else None,
        session=f"session{session}",
        item=f"item{int(ITEMS * rng.random() ** 2)}",
        time=START_MS + number,
        id=f"event-{number:012d}",
        context=Context(country=rng.choice(["UK", "DE", "FR"])),
    )


def make_state() -> State:
    limits = Limits()
    state = State(limits, App().features.accumulators(limits))
    items = [Item(id=f"item{n}", title=f"Item {n}", price=2.5, stock=50) for n in range(ITEMS)]
    state.apply(items, ITEMS)
    return state


def fold(state: State, events: list[Event]) -> list[float]:
    """Return what each step took, in ms."""
    taken: list[float] = []
    for at in range(0, len(events), STEP_RECORDS):
        step = events[at : at + STEP_RECORDS]
        began_s = time.perf_counter()
        state.apply(step, state.offset + len(step))
        taken.append((time.perf_counter() - began_s) * 1000)
        time.sleep(PAUSE_S)
    return taken


@contextmanager
def made_ready(state: State) -> Generator[None]:
    memory, done = Memory(), threading.Event()

    def look() -> None:
        while memory.make_ready(state.ahead()) and not done.wait(LOOK_S):
            pass

    thread = threading.Thread(target=look)
    thread.start()
    yield
    done.set()
    thread.join()


def measure(events: list[Event], ready: bool) -> dict[str, float]:
    state = make_state()
    fold(state, events[:WARM_EVENTS])
    if ready:
        with made_ready(state):
            time.sleep(4 * LOOK_S)
            taken = fold(state, events[WARM_EVENTS:])
    else:
        taken = fold(state, events[WARM_EVENTS:])
    p50, p99, longest = np.percentile(taken, (50, 99, 100)).tolist()
    long = sum(each > LONG_MS for each in taken) / len(taken)
    return {"p50_ms": p50, "p99_ms": p99, "longest_ms": longest, "long_share": long}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    refuse_huge_pages()
    rng = random.Random(1)
    events = [make_event(number, rng) for number in range(options.events)]
    gc.freeze()
    fold(make_state(), events[:STEP_RECORDS])
    results = {name: measure(events, name == "ready") for name in ("touched", "ready")}
    for name, result in results.items():
        print(
            f"memory {name:8} p50 {result['p50_ms']:5.2f}  p99 {result['p99_ms']:5.2f}  longest "
            f"{result['longest_ms']:5.2f} ms, over {LONG_MS} ms {result['long_share']:.1%}"
        )
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
