"""Live values against the backfill, and decisions against their replay, to the bit.

    .venv/bin/python bench/features_parity.py [--reads 1000000] [--decisions 10000] [--json]

The real shop's stream (the bundled history: purchases and browsing), shuffled within some seconds
and with every tenth event sent twice, is ingested in batches by an engine that is restarted twice
on the way. Between batches feature values of random visitors and items are read live and kept, and
pages are made. Then the same rows are backfilled from the log in shuffled order, and the decisions
replayed. Mismatches are counted as bits: a value, or an answer, is equal or it is not.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from onhand.app import App
from onhand.contracts.features import Entity
from onhand.contracts.records import Event, Signal
from onhand.decision.models import Models
from onhand.decision.records import DecisionRecord
from onhand.engine import Engine
from onhand.features.online import rows_of
from onhand.log.decisions import DecisionStore, read_decisions
from onhand.log.sqlite import SqliteLog, SqliteReader
from onhand.offline.backfill import Label, values_at
from onhand.offline.replay import replay
from onhand.offline.shop.play import Play
from onhand.past import Past
from onhand.state.state import Limits

LIMITS = Limits(items=8_192, users=6_000, sessions=6_000, pairs=1 << 17)
BATCH = 250
SHUFFLED_WITHIN_MS = 20_000


def stream(rng: random.Random, count: int) -> list[list[Event]]:
    """The shop's latest events in batches, out of order and some of them twice."""
    play = Play()
    events = sorted(play.past_events(), key=lambda event: int(event.time or 0))[-count:]
    for number, event in enumerate(events):
        event.id = f"e{number}"
    moved = sorted(
        events, key=lambda event: int(event.time or 0) + rng.random() * SHUFFLED_WITHIN_MS
    )
    sent: list[Event] = []
    for event in moved:
        sent.append(event)
        if rng.random() < 0.1:
            sent.append(msgspec.structs.replace(rng.choice(sent[-500:])))
    return [sent[at : at + BATCH] for at in range(0, len(sent), BATCH)]


def open_engine(folder: Path, app: App) -> Engine:
    engine = Engine(
        SqliteLog(folder / "log.db"),
        folder / "checkpoints",
        DecisionStore(folder / "decisions.db", max_queued=10**6),
        LIMITS,
        app,
    )
    engine.load()
    return engine


def live(folder: Path, app: App, reads: int, decisions: int) -> tuple[list[Label], np.ndarray]:
    """Ingest, read and decide; return what was read of whom."""
    rng = random.Random(3)
    batches = stream(rng, 120_000)
    vector = app.features.vector()
    values = np.empty((reads, len(vector.names)), np.float32)
    labels: list[Label] = []
    engine = open_engine(folder, app)
    items = Play().items()
    first_ms = int(batches[0][0].time or 0)
    engine.ingest(items, first_ms + 10**9)
    ids = [item.id for item in items]
    seen: list[Event] = []
    each, pages = -(-reads // len(batches)), -(-decisions // len(batches))
    for number, batch in enumerate(batches):
        now_ms = max(int(event.time or 0) for event in batch)
        stock = [Signal(rng.choice(ids), stock=rng.randrange(4)) for _ in range(3)]
        engine.ingest([*batch, *stock], now_ms + 10**6)
        seen = [*seen[-2_000:], *batch]
        state, rows, moments = engine._state, [], []
        for _ in range(min(each, reads - len(labels))):
            whom = rng.choice(seen)
            moment_ms = now_ms + rng.randrange(-60_000, 3_600_000)
            entity = Entity(
                rng.choice(ids) if rng.random() < 0.7 else whom.item, whom.user, whom.session
            )
            rows.append(rows_of(state, entity))
            moments.append(moment_ms)
            labels.append(Label(entity, moment_ms, engine.offset, len(labels)))
        if rows:
            read = vector.gather_rows(state, np.array(rows, np.int64), np.array(moments))
            values[len(labels) - len(rows) : len(labels)] = read.values
        for _ in range(pages):
            whom = rng.choice(seen)
            engine.recommend(
                rng.choice(["home", "product", "cart"]), user=whom.user, session=whom.session,
                item=whom.item, n=10, now_ms=now_ms,
            )  # fmt: skip
        if number in (len(batches) // 3, 2 * len(batches) // 3):
            engine.close()
            engine = open_engine(folder, app)
    engine.close()
    return labels, values[: len(labels)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--reads", type=int, default=1_000_000)
    options.add_argument("--decisions", type=int, default=10_000)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    app = App(zone="Europe/London")
    vector = app.features.vector()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        labels, lived = live(folder, app, given.reads, given.decisions)
        took = {"live": time.perf_counter() - began}
        past = Past(SqliteReader(folder / "log.db"), None, app.features, LIMITS)
        random.Random(4).shuffle(labels)
        began = time.perf_counter()
        mismatches = values = 0
        for part in values_at(labels, past, vector):
            rows = [label.row for label in part.labels]
            before, after = lived[rows].view(np.uint32), part.values.view(np.uint32)
            mismatches += int((before != after).sum())
            values += before.size
        took["backfill"] = time.perf_counter() - began
        began = time.perf_counter()
        bodies = read_decisions(folder / "decisions.db", 0, given.decisions)
        records = [msgspec.json.decode(body, type=DecisionRecord) for body in bodies]
        replayed = replay(records, past, Models(None, app.features))
        differing = sum(bool(each.differences) for each in replayed)
        took["replay"] = time.perf_counter() - began
    print(f"log: {past.last:,} records; distinct live values: {len(np.unique(lived)):,}")
    print(f"reads      {len(labels):,} rows x {len(vector.names)} features = {values:,} values: "
          f"{mismatches} mismatches ({took['backfill']:.0f} s)")  # fmt: skip
    print(f"decisions  {len(records):,} replayed: {differing} mismatches ({took['replay']:.0f} s)")
    if given.json:
        print(json.dumps({"reads": len(labels), "values": values, "mismatches": mismatches,
                          "decisions": len(records), "differing": differing}))  # fmt: skip
    raise SystemExit(bool(mismatches or differing))


if __name__ == "__main__":
    main()
