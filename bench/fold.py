"""How fast records become state, and a restart becomes ready.

    .venv/bin/python bench/fold.py [--records 1000000] [--json]

Folds a synthetic shop (4,000 items, 40,000 sessions, 20,000 users; views, carts, purchases, stock)
in batches of 500: from decoded records (the fold alone, with the ready-made features and without),
and from the log's file (restart: read, check, name, fold). Beside it, in the same run and on the
same records, what a plain Python service would do: decode each record with the standard library's
`json` and count into dicts. Then what a checkpoint costs, and a restart from it with the longest
tail that the default settings leave.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from onhand.app import App
from onhand.contracts.records import Context, Event, Item, Record, Signal
from onhand.engine import Engine
from onhand.features.set import FeatureSet
from onhand.log.sqlite import SqliteLog
from onhand.serving.memory import refuse_huge_pages
from onhand.settings import Settings
from onhand.state.state import Limits, State

START_MS = 1_760_000_000_000
BATCH = 500

_T = TypeVar("_T")


def shop(count: int, rng: random.Random) -> list[list[Record]]:
    """Return `count` records in batches."""
    records: list[Record] = [
        Item(id=f"item{n}", title=f"Item {n}", price=2.5, stock=50, created=START_MS + n)
        for n in range(4_000)
    ]
    kinds = ["view"] * 12 + ["click"] * 4 + ["cart_add"] * 2 + ["purchase"] * 1
    while len(records) < count:
        item = f"item{int(4_000 * rng.random() ** 2)}"
        if rng.random() < 0.1:
            records.append(Signal(item=item, stock=rng.randrange(50)))
            continue
        session = rng.randrange(40_000)
        records.append(
            Event(
                rng.choice(kinds),
                user=f"user{session // 2}" if session % 2 else None,
                session=f"session{session}",
                item=item,
                time=START_MS + len(records) * 20,
                id=f"event-{len(records):012d}",
                context=Context(country=rng.choice(["UK", "DE", "FR"])),
            )
        )
    return [records[at : at + BATCH] for at in range(0, count, BATCH)]


def fold_seconds(batches: list[list[Record]], features: FeatureSet | None) -> float:
    limits = Limits()
    state = State(limits, features and features.accumulators(limits))
    began = time.perf_counter()
    for batch in batches:
        state.apply(batch, state.offset + len(batch))
    return time.perf_counter() - began


def restart_seconds(batches: list[list[Record]]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteLog(Path(folder) / "log.db")
        for batch in batches:
            log.append(batch)
        log.close()
        began = time.perf_counter()
        engine = Engine(SqliteLog(Path(folder) / "log.db"))
        engine.load()
        return time.perf_counter() - began


def checkpoint_seconds(batches: list[list[Record]]) -> dict[str, float]:
    """What a checkpoint of the state before the longest tail takes, and a start from it: nothing is
    closed, as after a kill."""
    tail = Settings().checkpoint_records // BATCH
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = SqliteLog(folder / "log.db")
        for batch in batches[:-tail]:
            log.append(batch)
        engine = Engine(log, folder / "checkpoints")
        engine.load()
        room, room_s = timed(engine.room)
        dump, copy_s = timed(lambda: engine.snapshot(room))
        _, save_s = timed(lambda: engine.save(dump))
        for batch in batches[-tail:]:
            log.append(batch)
        log.close()
        again = Engine(SqliteLog(folder / "log.db"), folder / "checkpoints")
        _, restart_s = timed(again.load)
        size_mb = sum(file.stat().st_size for file in folder.rglob("*.checkpoint")) / 1e6
    print(f"checkpoint of {size_mb:,.0f} MB: memory {room_s * 1e3:.0f} ms, copy (writes wait) "
          f"{copy_s * 1e3:.0f} ms, save {save_s * 1e3:.0f} ms")  # fmt: skip
    print(f"restart from it, {tail * BATCH:,} records behind: {restart_s:.2f} s")
    return {"checkpoint_mb": size_mb, "copy_s": copy_s, "tail_restart_s": restart_s}


def timed(work: Callable[[], _T]) -> tuple[_T, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def plain_seconds(batches: list[list[Record]]) -> float:
    """Counts per item, the last 20 items per session, pairs of neighbours: in dicts."""
    import msgspec

    lines = [msgspec.json.encode(record) for batch in batches for record in batch]
    began = time.perf_counter()
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    recent: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=20))
    following: defaultdict[str, Counter[str]] = defaultdict(Counter)
    stock: dict[str, int] = {}
    seen: set[str] = set()
    for line in lines:
        record = json.loads(line)
        if record["kind"] == "signal":
            stock[record["item"]] = record["stock"]
        elif record["kind"] == "event" and record["id"] not in seen:
            seen.add(record["id"])
            item, items = record["item"], recent[record["session"]]
            counts[item][record["type"]] += 1
            for before in list(items)[-3:]:
                following[before][item] += 1
            items.append(item)
    return time.perf_counter() - began


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--huge-pages", action="store_true", help="have them, as no server has")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if not given.huge_pages:
        refuse_huge_pages()
    batches = shop(given.records, random.Random(1))
    features = App().features
    fold_seconds(batches[:2], features)
    restart_seconds(batches[:2])
    seconds = {
        "fold": min(fold_seconds(batches, features) for _ in range(2)),
        "fold_no_features": min(fold_seconds(batches, None) for _ in range(2)),
        "restart": restart_seconds(batches),
        "plain_python": plain_seconds(batches),
    }
    for name, value in seconds.items():
        rate = given.records / value
        print(f"{name:16} {value:7.2f} s  {rate:12,.0f} records/s  {1e6 / rate:6.2f} us a record")
    saved = checkpoint_seconds(batches)
    if given.json:
        rates = {f"{k}_records_per_s": given.records / v for k, v in seconds.items()}
        print(json.dumps(rates | saved))


if __name__ == "__main__":
    main()
