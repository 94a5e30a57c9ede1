"""Memory of the ready-made features, by entities: resident bytes, measured.

    .venv/bin/python bench/features_memory.py [--entities 10000 100000 1000000] [--json]

For each number of entities a fresh process folds one view of each, of items, of users and of
sessions, into the counts of the default set, and reports how much its resident memory grew: the
features' tables alone, without the state's own columns and names.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from onhand.app import App
from onhand.state.operations import WIDTH
from onhand.state.state import Limits

BATCH = 50_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def grown(what: str, entities: int) -> int:
    """Fold a view of each entity; return the resident bytes that it took."""
    limits = Limits(items=entities + 2, users=entities + 2, sessions=entities + 2, pairs=8)
    counts = App().features.accumulators(limits)
    column = {"item": 1, "session": 2, "user": 3}[what]

    def views(rows: np.ndarray) -> np.ndarray:
        operations = np.zeros((len(rows), WIDTH), np.int64)
        operations[:, 2] = 1
        operations[:, column] = rows
        operations[:, 5] = 1_760_000_000_000
        operations[:, 6] = 1
        operations[:, 7:10] = -1
        return operations

    counts.fold(views(np.zeros(BATCH, np.int64)))
    before = resident_bytes()
    for first in range(1, entities + 1, BATCH):
        counts.fold(views(np.arange(first, min(first + BATCH, entities + 1))))
    return resident_bytes() - before


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--entities", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options.add_argument("--one", nargs=2, metavar=("WHAT", "COUNT"))
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if given.one:
        print(grown(given.one[0], int(given.one[1])))
        return
    widths = dict(zip(("item", "user", "session"), App().features.layout.widths, strict=False))
    print(f"{'entity':8} {'row':>8}" + "".join(f"{count:>16,}" for count in given.entities))
    results: dict[str, list[float]] = {}
    for what, width in widths.items():
        each: list[float] = []
        for count in given.entities:
            command = [sys.executable, __file__, "--one", what, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            each.append(int(done.stdout) / count)
        results[what] = each
        print(f"{what:8} {4 * width:6} B" + "".join(f"{size:>12,.0f} B/e" for size in each))
    if given.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
