"""Backfill: log records a second, and the same rows through Feast's `get_historical_features`.

    .venv/bin/python bench/backfill.py [--records 500000] [--labels 5000] [--no-feast] [--json]

Onhand reads its log, folds it, and reads all ready-made features of each label at its moment. Feast
is given what it needs to have: every value of every item after every event, computed beforehand
(not timed), as Parquet; it joins the labels to it point-in-time, 10 features. Beside both the plain
fold of the same log without features, in the same run.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import polars as pl

from fold import START_MS, shop
from harness.feast_env import run_feast
from onhand.app import App
from onhand.log.sqlite import SqliteLog, SqliteReader
from onhand.offline.backfill import backfill
from onhand.past import Past
from onhand.state.state import Limits, State


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=500_000)
    options.add_argument("--labels", type=int, default=5_000)
    options.add_argument("--no-feast", action="store_true")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    rng = random.Random(1)
    app = App()
    vector = app.features.vector()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = SqliteLog(folder / "log.db")
        for batch in shop(given.records, rng):
            log.append(batch)
        log.close()
        reader = SqliteReader(folder / "log.db")
        past = Past(reader, None, app.features, Limits())
        moments = sorted(rng.randrange(100_000, given.records) * 20 for _ in range(given.labels))
        labels = pl.DataFrame(
            {
                "item": [f"item{rng.randrange(4_000)}" for _ in moments],
                "session": [f"session{rng.randrange(40_000)}" for _ in moments],
                "time": [START_MS + moment for moment in moments],
            }
        )
        backfill(labels[:10], past, vector, folder / "warm.parquet")
        began = time.perf_counter()
        done = backfill(labels, past, vector, folder / "train.parquet")
        seconds = time.perf_counter() - began
        state = State(Limits())
        began = time.perf_counter()
        for batch in reader.read():
            state.apply(batch.records, batch.last)
        alone = time.perf_counter() - began
        results = {
            "backfill_records_per_s": done.records / seconds,
            "fold_alone_records_per_s": done.records / alone,
            "backfill_s": seconds,
        }
        print(f"onhand   {done.records:,} records, {done.rows:,} labels x {len(vector.names)}: "
              f"{seconds:6.2f} s  {done.records / seconds:10,.0f} records/s")  # fmt: skip
        print(f"the log read and folded, no features:   {alone:6.2f} s  "
              f"{done.records / alone:10,.0f} records/s")  # fmt: skip
        if not given.no_feast:
            results["feast_s"] = beside_feast(folder, labels, given.records)
            print(
                f"feast    the same labels x 10 from prepared values: {results['feast_s']:6.2f} s"
            )
    if given.json:
        print(json.dumps(results))


def beside_feast(folder: Path, labels: pl.DataFrame, records: int) -> float:
    """Return how long Feast joins the labels to values that were prepared after every event."""
    rng = random.Random(1)
    count = records * 9 // 10
    items = [f"item{int(4_000 * rng.random() ** 2)}" for _ in range(count)]
    moments = pl.Series([START_MS + at * 20 for at in range(count)], dtype=pl.Datetime("ms", "UTC"))
    values = {f"feature{n}": [float(at % 97) for at in range(count)] for n in range(10)}
    frame = pl.DataFrame({"item_id": items, "event_timestamp": moments, **values})
    frame = frame.with_columns(pl.col("^feature.*$").cast(pl.Float32))
    frame.write_parquet(folder / "rows.parquet")
    asked = labels.select(
        pl.col("item").alias("item_id"),
        pl.from_epoch("time", time_unit="ms").dt.replace_time_zone("UTC").alias("event_timestamp"),
    )
    asked.write_parquet(folder / "labels.parquet")
    return run_feast("historical", str(folder), str(folder / "rows.parquet"))["seconds"]


if __name__ == "__main__":
    main()
