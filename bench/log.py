"""How fast is the log: durable commits, and reading back?

    .venv/bin/python bench/log.py [--seconds 2] [--json]

Each contender commits the same encoded batches and waits for the disk each time:

    onhand         SqliteLog.append
    sqlite3        the standard library's SQLite: same pragmas, same row a batch
    sqlite3 rows   the same, a row a record in one transaction
    file           append to a plain file, fsync: what the disk can do at all

The contenders take turns in short rounds, so that a noisy neighbour meets all of them. Reading
back is compared with msgspec alone decoding the same bytes from memory.
"""

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from onhand.contracts.records import Event, Record
from onhand.log.sqlite import SqliteLog

BATCHES = (1, 50, 500)
ROUNDS = 5
READ_RECORDS = 500_000
OUT = Path(__file__).parent / "out"

Commit = Callable[[list[Record]], object]
Row = dict[str, Any]


def events(count: int) -> list[Record]:
    """Make views and purchases as a shop sends them, about 100 bytes each in the log."""
    draw = np.random.default_rng(7)
    users, items = draw.zipf(1.3, count) % 100_000, draw.zipf(1.2, count) % 4_000
    return [
        Event(
            type="view" if n % 20 else "purchase",
            user=f"u{users[n]}",
            session=f"s{users[n]}-{n // 50_000}",
            item=f"{85_000 + items[n]}A",
            time=1_323_000_000_000 + 37 * n,
            id=f"e-{n:012d}",
        )
        for n in range(count)
    ]


def contenders(folder: Path) -> Iterator[tuple[str, Commit, Callable[[], None]]]:
    """Yield each contender's name, its durable commit, and how to close it."""
    encode = msgspec.msgpack.Encoder().encode

    log = SqliteLog(folder / "log.sqlite")
    yield "onhand", log.append, log.close

    whole = standard_sqlite(folder / "batches.sqlite", "CREATE TABLE t (n INTEGER, body BLOB)")

    def commit_batch(batch: list[Record]) -> None:
        whole.execute("INSERT INTO t VALUES (?, ?)", (len(batch), encode(batch)))
        whole.commit()

    yield "sqlite3", commit_batch, whole.close

    rows = standard_sqlite(folder / "rows.sqlite", "CREATE TABLE t (body BLOB)")

    def commit_rows(batch: list[Record]) -> None:
        rows.executemany("INSERT INTO t VALUES (?)", ((encode(record),) for record in batch))
        rows.commit()

    yield "sqlite3 rows", commit_rows, rows.close

    file = os.open(folder / "plain.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def commit_file(batch: list[Record]) -> None:
        os.write(file, encode(batch))
        os.fsync(file)

    yield "file", commit_file, lambda: os.close(file)


def standard_sqlite(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("PRAGMA synchronous=full")
    connection.execute(schema)
    return connection


def measure_commits(size: int, seconds: float, records: list[Record]) -> list[Row]:
    batches = [records[start : start + size] for start in range(0, 100 * size, size)]
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        running = list(contenders(Path(folder)))
        latencies: dict[str, list[float]] = {name: [] for name, _, _ in running}
        for _ in range(ROUNDS):
            for name, commit, _ in running:
                latencies[name] += commit_for(commit, batches, seconds / ROUNDS)
        for _, _, close in running:
            close()
    reference = np.mean(latencies["file"])
    return [
        {
            "records_a_commit": size,
            "contender": name,
            "commits_s": round(1 / np.mean(taken)),
            "records_s": round(size / np.mean(taken)),
            "p50_us": round(float(np.percentile(taken, 50)) * 1e6),
            "p99_us": round(float(np.percentile(taken, 99)) * 1e6),
            "of_file": round(float(reference / np.mean(taken)), 2),
        }
        for name, taken in latencies.items()
    ]


def commit_for(commit: Commit, batches: list[list[Record]], seconds: float) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        commit(batches[len(taken) % len(batches)])
        taken.append(time.perf_counter() - start)
    return taken


def measure_reads(size: int, records: list[Record]) -> list[Row]:
    count = READ_RECORDS if size > 1 else READ_RECORDS // 25  # single commits take their time
    batches = [records[start : start + size] for start in range(0, count, size)]
    bodies = [msgspec.msgpack.encode(batch) for batch in batches]
    decode = msgspec.msgpack.Decoder(list[Record]).decode
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        with closing(SqliteLog(Path(folder) / "log.sqlite")) as log:
            for batch in batches:
                log.append(batch)
            onhand = best_of_3(lambda: sum(len(batch.records) for batch in log.read()))
        alone = best_of_3(lambda: sum(len(decode(body)) for body in bodies))
    return [
        {
            "records_a_commit": size,
            "contender": name,
            "records_s": round(count / taken),
            "us_a_record": round(taken / count * 1e6, 3),
            "of_msgspec": round(alone / taken, 2),
        }
        for name, taken in (("onhand", onhand), ("msgspec", alone))
    ]


def best_of_3(run: Callable[[], int]) -> float:
    taken: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def show(title: str, rows: list[Row]) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(
            *(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values())
        )
    Console().print(table)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    arguments.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    arguments.add_argument("--json", action="store_true", help="one object as the last line")
    options = arguments.parse_args()
    OUT.mkdir(exist_ok=True)
    records = events(READ_RECORDS)
    commits = [row for size in BATCHES for row in measure_commits(size, options.seconds, records)]
    show("Durable commits", commits)
    reads = [row for size in BATCHES for row in measure_reads(size, records)]
    show("Reading and decoding", reads)
    if options.json:
        print(json.dumps({"commits": commits, "reads": reads}))


if __name__ == "__main__":
    main()
